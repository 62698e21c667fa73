//! What a service manager is told (`sd_notify(3)`), and the unit that comes with hydrant.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than a server takes to start, so that one that tells nothing fails the test instead of holding it up.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server under a service manager: the socket that it tells how it is.
struct Service {
    child: Child,
    manager: UnixDatagram,
    dir: TempDir,
}

impl Service {
    fn start(watchdog_usec: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("notify");
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_hydrant"))
            .args(["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "off", "--data-dir"])
            .arg(dir.path().join("data"))
            .env_clear()
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", watchdog_usec)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, manager, dir }
    }

    /// The next message but signs of life.
    fn told(&self) -> String {
        loop {
            let message = self.message();
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }

    fn message(&self) -> String {
        let mut bytes = [0; 1024];
        let length = self.manager.recv(&mut bytes).expect("a message to the service manager");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// Leaves no room for a message, from whomever.
    fn fill(&self) {
        let address = self.manager.local_addr().unwrap();
        let sent = |filler: &UnixDatagram| filler.send_to(b"", address.as_pathname().unwrap());
        loop {
            let filler = UnixDatagram::unbound().unwrap();
            filler.set_nonblocking(true).unwrap();
            // The second failure may be about the room of this sender alone.
            if let Err(error) = sent(&filler) {
                return assert_eq!(error.kind(), ErrorKind::WouldBlock);
            }
            while sent(&filler).is_ok() {}
        }
    }

    /// Waits until the server has ended by itself.
    fn ends_well(mut self) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{status}");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_service_manager_is_told_of_start_reload_end_and_life() {
    // A sign of life every two seconds: a socket takes ten messages, and more are lost until somebody reads them, those
    // of a reload too.
    let service = Service::start("4000000");
    let ready = service.told();
    assert!(ready.starts_with("READY=1\nSTATUS=Serving on 127.0.0.1:"), "{ready}");
    while service.message() != "WATCHDOG=1\n" {}
    service.signal("HUP");
    let reloading = service.told();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert!(service.told().starts_with("READY=1\n"));
    service.signal("TERM");
    assert_eq!(service.told(), "STOPPING=1\nSTATUS=Draining\n");
    service.ends_well();
}

/// Whoever opens a pipe waits for its other end.
#[test]
fn a_pipe_in_place_of_a_file_keeps_the_server_neither_from_reloading_nor_from_ending() {
    let service = Service::start("60000000");
    assert!(service.told().starts_with("READY=1\n"));
    let keys = service.dir.path().join("data/token-keys.toml");
    std::fs::remove_file(&keys).unwrap();
    assert!(Command::new("mkfifo").arg(&keys).status().unwrap().success());
    service.signal("HUP");
    assert!(service.told().starts_with("RELOADING=1\n"));
    assert!(service.told().starts_with("READY=1\n"));
    service.signal("TERM");
    assert_eq!(service.told(), "STOPPING=1\nSTATUS=Draining\n");
    service.ends_well();
}

/// Whoever sends one more datagram to a socket that is full waits.
#[test]
fn a_service_manager_that_reads_nothing_does_not_keep_the_server_from_its_work() {
    let service = Service::start("60000000");
    assert!(service.told().starts_with("READY=1\n"));
    service.fill();
    service.signal("HUP");
    service.signal("TERM");
    service.ends_well();
}
