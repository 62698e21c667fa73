//! Running the program from outside.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::ports::Held;

/// Longer than any test takes: a program that hangs is killed, so that the test fails instead of hanging with it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// What a program left behind.
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A running program with pipes.
pub(crate) struct Running {
    child: Child,
    pub(crate) out: Option<BufReader<ChildStdout>>,
    pub(crate) input: Option<ChildStdin>,
    err: Option<thread::JoinHandle<String>>,
    err_lines: Receiver<String>,
    _watchdog: Sender<()>,
}

/// Starts the program with a clean environment.
pub(crate) fn start(args: &[&str], env: &[(&str, &str)]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
    command.args(args).env_clear().envs(env.iter().copied());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let (watchdog, ended) = channel::<()>();
    let pid = child.id().to_string();
    thread::spawn(move || {
        if ended.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
        }
    });
    let (out, err, input) = (child.stdout.take(), child.stderr.take().unwrap(), child.stdin.take());
    let (sender, err_lines) = channel();
    let err = thread::spawn(move || {
        let (mut text, mut err) = (String::new(), BufReader::new(err));
        let mut line = String::new();
        while err.read_line(&mut line).unwrap() > 0 {
            text.push_str(&line);
            let _ = sender.send(line.trim_end().to_owned());
            line.clear();
        }
        text
    });
    Running { child, out: out.map(BufReader::new), input, err: Some(err), err_lines, _watchdog: watchdog }
}

/// Runs the program to its end.
pub(crate) fn run(args: &[&str], input: &str, env: &[(&str, &str)]) -> Done {
    let mut running = start(args, env);
    // The program may end without reading.
    let _ = running.input.take().unwrap().write_all(input.as_bytes());
    running.finish()
}

impl Running {
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    /// The lines of standard error, as they come.
    pub(crate) fn err_lines(&self) -> impl Iterator<Item = String> {
        std::iter::from_fn(|| self.err_lines.recv_timeout(PATIENCE).ok())
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Done {
        drop(self.input.take());
        let mut out = String::new();
        if let Some(mut rest) = self.out.take() {
            rest.read_to_string(&mut out).unwrap();
        }
        let status: ExitStatus = self.child.wait().unwrap();
        Done { code: status.code(), out, err: self.err.take().unwrap().join().unwrap() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program as a broker, with its own data directory and without TLS; ended with the test.
pub(crate) struct Broker {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    /// Its directory and its port. Nothing once it is stopped.
    home: Option<(tempfile::TempDir, Held)>,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more settings, as variables of its environment.
    pub(crate) fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_at(tempfile::tempdir().unwrap(), Held::any(), settings)
    }

    fn start_at(dir: tempfile::TempDir, port: Held, settings: &[(&str, &str)]) -> Self {
        let address = port.address.to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_hydrant"))
            .args(["serve", "--tls", "off", "--metrics-listen", "off", "--listen", &address, "--data-dir"])
            .arg(dir.path().join("data"))
            .env_clear()
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, said) = channel();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        thread::spawn(move || {
            let mut before = Vec::new();
            let listens = lines.by_ref().any(|line| {
                before.push(line);
                before.last().unwrap().contains("listening")
            });
            let _ = sender.send(if listens { Ok(()) } else { Err(before) });
            lines.for_each(drop);
        });
        said.recv_timeout(PATIENCE).unwrap().expect("it listens");
        Self { child, address, home: Some((dir, port)) }
    }

    /// Ends it at once. What is returned starts it again where it was.
    pub(crate) fn stop(mut self) -> impl FnOnce() -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let (dir, port) = self.home.take().unwrap();
        move || Self::start_at(dir, port, &[])
    }

    /// Where commands find it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Runs a command with it as its endpoint.
    pub(crate) fn run(&self, args: &[&str], input: &str) -> Done {
        run(args, input, &[("RS_ENDPOINT", &self.url())])
    }

    /// Posts events, which must be taken.
    pub(crate) fn post(&self, events: &str) {
        let done = self.run(&["post"], events);
        assert_eq!(done.code, Some(0), "{}", done.err);
    }

    /// Sets the claims of a role; the broker notices within a second.
    pub(crate) fn set_role(&self, name: &str, claims: &str) {
        self.administer(&["roles", "set", name, "--claim", claims], "");
    }

    /// Adds a user with a role of the same name.
    pub(crate) fn add_user(&self, name: &str, password: &str) {
        self.administer(&["users", "add", name, "--roles", name, "--password-stdin"], password);
    }

    fn administer(&self, command: &[&str], input: &str) {
        let data = self.home.as_ref().unwrap().0.path().join("data");
        let done = run(&[command, &["--data-dir", data.to_str().unwrap()]].concat(), input, &[]);
        assert_eq!(done.code, Some(0), "{}", done.err);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Something between a client and a server that cuts all connections when it is told.
pub(crate) struct Cutter {
    pub(crate) address: String,
    open: std::sync::Arc<parking_lot::Mutex<Vec<std::net::TcpStream>>>,
}

impl Cutter {
    pub(crate) fn to(server: &str) -> Self {
        Self::over(&[server])
    }

    /// Each connection goes to the next of some servers, as a balancer may choose; all further ones to the last.
    pub(crate) fn over(servers: &[&str]) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let open = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
        let servers: Vec<String> = servers.iter().map(|&server| server.to_owned()).collect();
        let all = std::sync::Arc::clone(&open);
        thread::spawn(move || {
            for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
                let server = &servers[number.min(servers.len() - 1)];
                let Ok(server) = std::net::TcpStream::connect(server) else { continue };
                let both = [(&client, &server), (&server, &client)];
                for (from, to) in both.map(|(from, to)| (from.try_clone().unwrap(), to.try_clone().unwrap())) {
                    thread::spawn(move || {
                        let (mut from, mut to) = (from, to);
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
                all.lock().push(client);
            }
        });
        Self { address, open }
    }

    /// Waits until a client has come since the last cut.
    pub(crate) fn until_open(&self) {
        let begun = Instant::now();
        while self.open.lock().is_empty() {
            assert!(begun.elapsed() < PATIENCE, "nobody comes");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Cuts what is open now. Returns how many there were.
    pub(crate) fn cut(&self) -> usize {
        let open = std::mem::take(&mut *self.open.lock());
        open.iter().filter(|stream| stream.shutdown(std::net::Shutdown::Both).is_ok()).count()
    }
}
