//! Nodes as processes of the program under test, which can be ended and started again at the same place, and clients
//! that go to a balancer in front of them.
//!
//! The nodes share their events over NATS and have the same users. `HYDRANT_UNDER_TEST` names another program than the
//! one that was just built: an older one, to compare.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::common::balancer::Node;
use crate::common::ports::free_port;
use crate::common::program::under_test;
use crate::common::{LOGIN, PATIENCE, basic, http, ws};
use crate::process::NatsServer;

/// A node.
pub(crate) struct Process {
    child: Child,
    pub(crate) node: Node,
    config: PathBuf,
    dir: tempfile::TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(config: &Path) -> Child {
    let mut command = Command::new(under_test());
    command.env_clear().args(["serve", "--config"]).arg(config);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl Process {
    /// So many nodes that hear each other, with more settings: some before their tables, some of NATS.
    pub(crate) async fn several(nats: &NatsServer, count: usize, more: &str, of_nats: &str) -> Vec<Self> {
        let mut nodes: Vec<Self> = Vec::new();
        for _ in 0..count {
            let first = nodes.first().map(|first| first.dir.path().join("data"));
            nodes.push(Self::start(nats, first.as_deref(), more, of_nats).await);
        }
        for node in &nodes {
            http::metric_reaches(node.node.probe, "hydrant_nats_peers", count as u64 - 1).await;
        }
        nodes
    }

    async fn start(nats: &NatsServer, users: Option<&Path>, more: &str, of_nats: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        if let Some(users) = users {
            copy(users, &data);
        }
        let [api, probe] = [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let text = format!(
            "listen = [\"{api}\"]\nmetrics_listen = \"{probe}\"\ntls = \"off\"\ndata_dir = \"{}\"\n\
             trusted_proxies = [\"127.0.0.1\"]\nconnection_events = false\n{more}\n\
             [nats]\nurls = [\"{}\"]\n{of_nats}\n",
            data.display(),
            nats.url()
        );
        let config = dir.path().join("hydrant.toml");
        std::fs::write(&config, text).unwrap();
        let process = Self { child: run(&config), node: Node { api, probe }, config, dir };
        process.until_ready().await;
        process
    }

    pub(crate) async fn until_ready(&self) {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "it does not become ready");
            if TcpStream::connect(self.node.probe).await.is_ok()
                && http::request(self.node.probe, false, "GET", "/readyz", &[], "").await.status.as_u16() == 200
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it by SIGTERM, and starts it again when it has ended.
    pub(crate) async fn restart(&mut self) -> Duration {
        let begun = Instant::now();
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        while self.child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.start_again();
        self.until_ready().await;
        begun.elapsed()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where it was, and does not wait until it is ready.
    pub(crate) fn start_again(&mut self) {
        self.child = run(&self.config);
    }

    /// Time on the processor until now, of all its threads.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let of_task = |task: std::io::Result<std::fs::DirEntry>| {
            let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        };
        Duration::from_nanos(tasks.filter_map(of_task).sum())
    }
}

/// A node's users for another.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    std::fs::remove_file(to.join("id")).unwrap();
}

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// A websocket with this registration, and more of a query.
pub(crate) async fn open(address: SocketAddr, token: &str, registration: &str, more: &str) -> Option<Socket> {
    let query = format!("token={token}&register={registration}{more}");
    let request = format!("ws://{address}/api/v3/ws?{query}").into_client_request().unwrap();
    let stream = TcpStream::connect(address).await.ok()?;
    client_async_with_config(request, stream, Some(ws::config())).await.ok().map(|(socket, _)| socket)
}

/// The text between two others.
pub(crate) fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(found, _)| found)
}

/// A token of the first user, good at all nodes.
pub(crate) async fn token(node: Node) -> Arc<str> {
    let login = basic(LOGIN);
    let path = "/api/v3/users/rocketskates/token?ttl=36000";
    let reply = http::request(node.api, false, "GET", path, &[("authorization", &login)], "").await;
    reply.json()["Token"].as_str().unwrap().into()
}

/// A number of the environment.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Writes a line that is seen with `--nocapture`, of tests that pass too.
pub(crate) fn say(line: &str) {
    std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes()).unwrap();
}
