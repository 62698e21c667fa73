//! Running the program from outside.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

/// Longer than any test takes: a program that hangs is killed, so that the test fails instead of hanging with it.
const PATIENCE: Duration = Duration::from_mins(1);

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
    let (out, mut err, input) = (child.stdout.take(), child.stderr.take().unwrap(), child.stdin.take());
    let err = thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).unwrap();
        text
    });
    Running { child, out: out.map(BufReader::new), input, err: Some(err), _watchdog: watchdog }
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
