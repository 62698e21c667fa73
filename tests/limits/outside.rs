//! The program as a process whose standard error and limits are in the test's hand.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::ports::Held;
use crate::common::{LOGIN, PATIENCE, basic, http, patiently};

/// Killed with the test.
pub(crate) struct Outside {
    pub(crate) child: Child,
    pub(crate) api: SocketAddr,
    pub(crate) probe: SocketAddr,
    _ports: [Held; 2],
    _dir: tempfile::TempDir,
}

impl Outside {
    /// Starts it, without TLS, in a shell that has run `prepare`; returns when it answers. Where it listens cannot be
    /// read from it, so the ports are held for it.
    pub(crate) async fn start(prepare: &str, stderr: impl Into<Stdio>, toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = [Held::any(), Held::any()];
        let [api, probe] = [ports[0].address, ports[1].address];
        let (file, data) = (dir.path().join("hydrant.toml"), dir.path().join("data"));
        let text = format!(
            "listen = [\"{api}\"]\nmetrics_listen = \"{probe}\"\ntls = \"off\"\ndata_dir = \"{}\"\n{toml}\n",
            data.display()
        );
        std::fs::write(&file, text).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{prepare}\nexec \"$0\" serve --config \"$1\""), env!("CARGO_BIN_EXE_hydrant")]);
        shell.arg(&file).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let mut outside = Self { child: shell.spawn().unwrap(), api, probe, _ports: ports, _dir: dir };
        let answers = async {
            while TcpStream::connect(probe).await.is_err() {
                assert!(outside.child.try_wait().unwrap().is_none(), "it has ended");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        patiently("a start", answers).await;
        outside
    }

    pub(crate) async fn is_healthy(&self) -> bool {
        http::request(self.probe, false, "GET", "/healthz", &[], "").await.status == 200
    }

    pub(crate) async fn metric(&self, name: &str) -> u64 {
        http::metric(self.probe, name).await
    }

    /// A websocket, as far as the upgrade.
    pub(crate) async fn websocket(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.api).await.unwrap();
        stream.write_all(upgrade(self.api).as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(patiently("an upgrade", stream.read_u8()).await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        stream
    }

    /// SIGTERM.
    pub(crate) fn end(&mut self) -> ExitStatus {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(std::time::Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The request for a websocket of the first user.
pub(crate) fn upgrade(host: SocketAddr) -> String {
    format!(
        "GET /api/v3/ws HTTP/1.1\r\nHost: {host}\r\nAuthorization: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        basic(LOGIN)
    )
}

/// A file on a disk that is full.
pub(crate) fn full_disk() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}
