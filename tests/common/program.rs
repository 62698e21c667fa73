//! The program itself as a server: a process of its own, ended with the test. Everything that it says in its life is
//! looked through for secrets, and so are its metrics and its connections in the end.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::document::Described;
use super::{LOGIN, PATIENCE, basic, canary, http, patient};

/// See the module's text.
pub struct Program {
    look: canary::AtEnd,
    said: Said,
    child: Running,
    pub api: SocketAddr,
    pub probe: SocketAddr,
    pub tls: bool,
    _described: Option<Described>,
    dir: tempfile::TempDir,
}

/// Killed, unless it has ended already.
struct Running(Child);

impl Running {
    fn kill(&mut self) {
        // It may have ended by itself, or been ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What has come out of it, and who reads on: it must not wait for that.
struct Said {
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Said {
    fn by(child: &mut Child) -> Self {
        let lines = Arc::default();
        let readers = vec![read(child.stderr.take().unwrap(), &lines), read(child.stdout.take().unwrap(), &lines)];
        Self { lines, readers }
    }

    /// The addresses that it listens on: the API's, then that of the metrics.
    fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let lines = self.lines.lock();
        let mut found = lines.iter().filter(|line| line.contains("listening")).filter_map(|line| {
            let from = line.find("127.0.0.1:")?;
            let part = |c: &char| c.is_ascii_digit() || matches!(c, '.' | ':');
            line[from..].chars().take_while(part).collect::<String>().parse().ok()
        });
        Some((found.next()?, found.next()?))
    }

    /// Everything, once it has ended.
    fn all(&mut self) -> Vec<String> {
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        std::mem::take(&mut *self.lines.lock())
    }
}

fn read(from: impl Read + Send + 'static, into: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        BufReader::new(from).lines().map_while(Result::ok).for_each(|line| into.lock().push(line));
    })
}

/// The program that was just built, or another one: an older one, to compare, or one that is optimised.
pub fn under_test() -> PathBuf {
    std::env::var_os("HYDRANT_UNDER_TEST").map_or_else(|| env!("CARGO_BIN_EXE_hydrant").into(), PathBuf::from)
}

impl Program {
    /// Starts it with these settings, `tls` and `log` (the inside of a table) apart.
    pub fn start(tls: &str, log: &str, toml: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &[], tls, log, toml)
    }

    /// The same, with a data directory, `data` in `dir`, that may have something in it already, and an environment.
    pub fn start_in(dir: tempfile::TempDir, env: &[(&str, &str)], tls: &str, log: &str, toml: &str) -> Self {
        canary::look_through_answers();
        canary::guard_toml(toml);
        let (file, data) = (dir.path().join("hydrant.toml"), dir.path().join("data"));
        let base = "listen = [\"127.0.0.1:0\"]\nmetrics_listen = \"127.0.0.1:0\"";
        let text = format!("{base}\ntls = \"{tls}\"\nlog = {{ {log} }}\ndata_dir = \"{}\"\n{toml}\n", data.display());
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(under_test());
        let limits =
            patient(toml).map(|(key, text)| (format!("HYDRANT_{}", key.to_uppercase().replace('.', "_")), text));
        command.env_clear().envs(limits).envs(env.iter().copied()).args(["serve", "--config"]).arg(&file);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Said::by(&mut child);
        let (child, begun) = (Running(child), Instant::now());
        let (api, probe) = loop {
            if let Some(found) = said.addresses() {
                break found;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not listen: {:?}", said.lines.lock());
            std::thread::sleep(Duration::from_millis(10));
        };
        canary::guard_data(&data);
        let tls = tls != "off";
        let look = canary::AtEnd::outside(probe, api, tls, canary::issuing(toml, data));
        let described = Described::at(api, toml);
        Self { look, said, child, api, probe, tls, _described: described, dir }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A token of the first user, whose password is hashed for it.
    pub async fn token(&self) -> String {
        let path = "/api/v3/users/rocketskates/token?ttl=3600";
        let reply = http::request(self.api, self.tls, "GET", path, &[("authorization", &basic(LOGIN))], "").await;
        let token = reply.json()["Token"].as_str().unwrap().to_owned();
        canary::validator(&token);
        token
    }

    /// A line of `/proc/PID/status` in bytes.
    pub fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches([':', ' ', '\t']).strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Gives it no time at all for so long.
    pub async fn hold_up(&self, time: Duration) {
        let id = self.child.0.id().to_string();
        let signal = |name| assert!(Command::new("kill").args([name, id.as_str()]).status().unwrap().success());
        signal("-STOP");
        tokio::time::sleep(time).await;
        signal("-CONT");
    }

    /// From now on `VmHWM` is the most since now.
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.0.id()), "5").unwrap();
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// SIGKILL, in the middle of whatever it does.
    pub fn kill(&mut self) {
        self.look.stopped();
        self.child.kill();
    }

    /// Sends it a signal, `TERM` or another.
    pub fn signal(&self, name: &str) {
        let id = self.child.0.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Waits for its end: how it ended, and everything that it has said in its life.
    pub fn wait(mut self) -> (ExitStatus, Vec<String>) {
        self.look.stopped();
        let status = self.child.0.wait().unwrap();
        (status, self.said.all())
    }

    /// SIGTERM, and everything that it has said in its life.
    pub fn end(mut self) -> Vec<String> {
        self.look.now();
        self.signal("TERM");
        self.wait().1
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.look.stopped();
            return;
        }
        self.look.now();
        self.child.kill();
        self.said.all().iter().for_each(|line| canary::check("what the program says", line));
    }
}
