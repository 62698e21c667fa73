//! NATS servers that a test starts, on loopback, ended by their process id.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::PATIENCE;
use crate::common::ports::free_port;

/// A NATS server, killed at the end.
pub(crate) struct NatsServer {
    child: Child,
    port: u16,
    args: Vec<String>,
    dir: tempfile::TempDir,
}

fn program() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/nats-server");
    assert!(path.is_file(), "{} is missing: `make test` installs it", path.display());
    path
}

impl NatsServer {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// A server with more arguments.
    pub(crate) fn with(args: &[&str]) -> Self {
        Self::in_dir(tempfile::tempdir().unwrap(), args.iter().map(|arg| (*arg).to_owned()).collect())
    }

    /// A server with `JetStream`, whose streams outlive it.
    pub(crate) fn with_streams() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("streams").display().to_string();
        Self::in_dir(dir, vec!["-js".to_owned(), "-sd".to_owned(), store])
    }

    fn in_dir(dir: tempfile::TempDir, args: Vec<String>) -> Self {
        let child = spawn(&args, "-1", dir.path());
        let mut server = Self { child, port: 0, args, dir };
        server.port = server.told_port();
        server
    }

    /// The port that it chose, as it writes it into a file.
    fn told_port(&self) -> u16 {
        until("the NATS server", || self.told_now())
    }

    fn told_now(&self) -> Option<u16> {
        let file = self.dir.path().join(format!("nats-server_{}.ports", self.child.id()));
        let ports: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
        ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Two servers of one cluster; each tells of the other.
    pub(crate) fn pair() -> [Self; 2] {
        let cluster = ["--cluster_name", "test", "--cluster", "nats://127.0.0.1:-1"];
        let first = Self::with(&cluster);
        let route = first.told_url("cluster");
        let second = Self::with(&[&cluster[..], &["--routes", &route]].concat());
        [first, second]
    }

    /// Three servers of one cluster with `JetStream`; each knows of all.
    pub(crate) fn cluster() -> [Self; 3] {
        let routes = [free_port(), free_port(), free_port()].map(|port| format!("nats://127.0.0.1:{port}"));
        let all = routes.join(",");
        std::array::from_fn(|at| {
            let dir = tempfile::tempdir().unwrap();
            let (store, name) = (dir.path().join("streams").display().to_string(), format!("server{at}"));
            let of_cluster = ["--cluster_name", "test", "--cluster", &routes[at], "--routes", &all];
            let args = ["-js", "-sd", &store, "-n", &name].into_iter().chain(of_cluster);
            Self::in_dir(dir, args.map(str::to_owned).collect())
        })
    }

    fn told_url(&self, of: &str) -> String {
        let file = self.dir.path().join(format!("nats-server_{}.ports", self.child.id()));
        until("the NATS server", || {
            let ports: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).ok()?).ok()?;
            Some(ports[of][0].as_str()?.to_owned())
        })
    }

    /// Sends a signal to it.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        // On a busy machine it goes on for a moment.
        while name == "STOP" && !self.stands_still() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether all its threads are stopped.
    fn stands_still(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let mut states = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")));
        states.all(|state| state.is_ok_and(|state| state.rsplit(')').next().unwrap().trim_start().starts_with('T')))
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port, as often as it ends because something else holds the port.
    pub(crate) fn revive(&mut self) {
        let port = self.port.to_string();
        self.child = spawn(&self.args, &port, self.dir.path());
        until("the NATS server", || {
            if self.child.try_wait().unwrap().is_some() {
                self.child = spawn(&self.args, &port, self.dir.path());
            }
            self.told_now()
        });
    }
}

fn spawn(args: &[String], port: &str, dir: &Path) -> Child {
    let mut command = Command::new(program());
    command.args(["-a", "127.0.0.1", "-p", port, "--ports_file_dir"]).arg(dir).args(args);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until there is something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
