//! Starts a server to be measured, and stops it.

mod guest;
mod system;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::cpu;

use system::Ports;
pub use system::System;

/// Time limit for a start or an orderly shutdown.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The parameters of a start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The kind of system.
    pub system: System,
    /// Path of the program.
    pub program: PathBuf,
    /// Whether it uses TLS, with a self-signed certificate.
    pub tls: bool,
    /// The only cores that it may use; empty: all.
    pub cores: Vec<usize>,
    /// Additional arguments, after those of this program.
    pub arguments: Vec<String>,
}

/// A running server with its own data directory.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// URL of the server.
    pub url: String,
    launch: Launch,
    ports: Ports,
    _held: [Socket; 2],
    data: TempDir,
}

impl Server {
    /// Starts the server and waits until it listens.
    ///
    /// # Errors
    /// Fails if the server cannot be started, ends, or does not listen in time; the error contains the end of its log.
    pub fn start(launch: &Launch) -> Result<Self> {
        let data = tempfile::tempdir().context("no temporary directory")?;
        let ((web, first), (other, second)) = (hold_port()?, hold_port()?);
        let ports = Ports { web, other };
        let child = spawn(launch, data.path(), ports)?;
        let scheme = if launch.tls { "https" } else { "http" };
        let url = format!("{scheme}://127.0.0.1:{}", ports.web);
        let mut server = Self { child, url, launch: launch.clone(), ports, _held: [first, second], data };
        server.wait_for(ports.web)?;
        Ok(server)
    }

    /// Stops the server, by a kill if `abruptly`, and starts it again on the same ports with the same data.
    ///
    /// # Errors
    /// Fails like [`Server::start`].
    pub fn restart(&mut self, abruptly: bool) -> Result<()> {
        self.end(abruptly);
        self.child = spawn(&self.launch, self.data.path(), self.ports)?;
        self.wait_for(self.ports.web)
    }

    /// Returns the kind of system.
    pub fn system(&self) -> System {
        self.launch.system
    }

    /// Returns the address for publishing, if that is not done by HTTP.
    pub fn direct(&self) -> Option<SocketAddr> {
        (self.launch.system != System::Hydrant).then(|| SocketAddr::from(([127, 0, 0, 1], self.ports.other)))
    }

    /// Returns host and port of its metrics.
    pub fn metrics(&self) -> Option<String> {
        (self.launch.system == System::Hydrant).then(|| format!("127.0.0.1:{}", self.ports.other))
    }

    fn wait_for(&mut self, port: u16) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server has ended ({status}); its log: {}", self.said());
            }
            if Instant::now() > deadline {
                bail!("the server does not listen after {TIMEOUT:?}; its log: {}", self.said());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Returns the end of the server's log.
    pub fn said(&self) -> String {
        let text = fs::read_to_string(log(self.data.path())).unwrap_or_default();
        let skip = text.chars().count().saturating_sub(1_500);
        text.chars().skip(skip).collect()
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn ends_within(&mut self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Server {
    fn end(&mut self, abruptly: bool) {
        let pid = i32::try_from(self.child.id()).ok().filter(|_| !abruptly);
        let asked = pid.is_some_and(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM).is_ok());
        if !(asked && self.ends_within(TIMEOUT / 4)) {
            // Both fail only if it has already ended, which is the intention.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(false);
    }
}

fn log(directory: &Path) -> PathBuf {
    directory.join("server.log")
}

fn spawn(launch: &Launch, data: &Path, ports: Ports) -> Result<Child> {
    let mut command = Command::new(&launch.program);
    launch.system.prepare(&mut command, data, ports, launch.tls)?;
    let log = File::options().create(true).append(true).open(log(data)).context("cannot create the log")?;
    command.args(&launch.arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    spawn_on(launch.cores.clone(), command).with_context(|| format!("cannot start {}", launch.program.display()))
}

/// Starts a child on `cores`. It inherits the cores of the thread that starts it, so a thread is pinned for that.
fn spawn_on(cores: Vec<usize>, mut command: Command) -> Result<Child> {
    let work = move || {
        cpu::pin(cores)?;
        Ok(command.spawn()?)
    };
    thread::spawn(work).join().map_err(|_| anyhow!("the starting thread has failed"))?
}

/// Returns a free port and what holds it. A socket that is bound and does not listen keeps the port from whoever asks
/// for any, even while the server restarts, and lets a server listen there that sets `SO_REUSEADDR`, as all do.
fn hold_port() -> Result<(u16, Socket)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).context("cannot bind a port of 127.0.0.1")?;
    let port = socket.local_addr()?.as_socket().context("a socket without an address")?.port();
    Ok((port, socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_at_once_is_an_error_with_its_words() {
        let launch = Launch {
            system: System::Hydrant,
            program: "/bin/echo".into(),
            tls: false,
            cores: Vec::new(),
            arguments: vec!["farewell".to_owned()],
        };
        let error = Server::start(&launch).unwrap_err().to_string();
        assert!(error.contains("has ended") && error.contains("--tls off") && error.contains("farewell"), "{error}");
        let none = Launch { program: "/no/such/program".into(), ..launch };
        assert!(format!("{:#}", Server::start(&none).unwrap_err()).contains("/no/such/program"));
    }
}
