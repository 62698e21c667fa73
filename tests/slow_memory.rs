//! What stalled readers cost in memory: no more than the bound of one outbox, however many they are, because they share the
//! frames that wait for them. Measured on the program itself, with its own allocator, in a process of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

mod common;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use common::http::{self, Http};
use common::socket;
use common::{JSON, LOGIN, basic};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const MIB: u64 = 1 << 20;

/// `outbox.bytes`.
const BOUND: u64 = 8 * MIB;

/// Besides the bound: the batch under way, as posted and as framed, the threads' heaps, and what the allocator keeps.
const SLACK: u64 = 24 * MIB;

const STALLED: usize = 50;

/// Posted in all; many times the bound, so that a server that keeps it all is found out.
const POSTED: u64 = 192 * MIB;

const EVENT: usize = 64 << 10;

/// The program, ended with the test.
struct Program {
    child: Child,
    api: SocketAddr,
    probe: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start(toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hydrant.toml");
        let base = "listen = [\"127.0.0.1:0\"]\nmetrics_listen = \"127.0.0.1:0\"\ntls = \"off\"";
        std::fs::write(
            &file,
            format!("{base}\ndata_dir = \"{}\"\n[log]\nformat = \"json\"\n{toml}", dir.path().join("data").display()),
        )
        .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
        // Resident memory shall be what is in use, and not huge pages of which a part is.
        command.env_clear().env("MIMALLOC_ALLOW_THP", "0").env("MIMALLOC_PURGE_DELAY", "0");
        command.args(["serve", "--config"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let (api, probe) = (address(&mut lines, "listening"), address(&mut lines, "metrics listening"));
        // Nobody reads on, and the program must not wait for that.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, api, probe, _dir: dir }
    }

    /// A line of `/proc/PID/status` in bytes.
    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches([':', ' ', '\t']).strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    async fn metric(&self, name: &str) -> u64 {
        http::metric(self.probe, name).await
    }
}

/// The address of the first log line with this message.
fn address(lines: &mut impl Iterator<Item = String>, message: &str) -> SocketAddr {
    let found = lines.find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        (line["message"] == message).then(|| line["address"].as_str().unwrap().parse().unwrap())
    });
    found.unwrap_or_else(|| panic!("the program never said {message:?}"))
}

async fn watch(program: &Program, narrow: bool, token: &str) -> WebSocketStream<socket::Socket> {
    let socket = if narrow {
        socket::connect_narrow(program.api, false).await
    } else {
        socket::connect(program.api, false).await
    };
    let request = format!("ws://{}/api/v3/ws?token={token}", program.api).into_client_request().unwrap();
    let (mut stream, _) = tokio_tungstenite::client_async(request, socket).await.unwrap();
    stream.send("register load.*.*".into()).await.unwrap();
    let answer = common::patiently("the answer", stream.next()).await.unwrap().unwrap();
    assert!(answer.to_text().unwrap().contains("\"Action\":\"register\""));
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_readers_cost_no_more_than_the_bound() {
    // What the history retains is bounded by itself and no cost of stalled readers.
    let program = Program::start("[outbox]\nbytes = \"8MiB\"\n[timeouts]\nclose = \"60s\"\n[replay]\nevents = 0");
    let path = "/api/v3/users/rocketskates/token";
    let reply = http::request(program.api, false, "GET", path, &[("authorization", &basic(LOGIN))], "").await;
    let token = reply.json()["Token"].as_str().unwrap().to_owned();
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(watch(&program, true, &token).await);
    }
    let mut healthy = watch(&program, false, &token).await;

    let before = program.memory("VmRSS");
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
    let mut publisher = Http::connect(program.api, false).await;
    let filler = "x".repeat(EVENT);
    let body = format!(r#"{{"Type":"load","Action":"update","Key":"k","Object":"{filler}"}}"#);
    let batch = format!("[{}]", vec![body; 8].join(","));
    for _ in 0..POSTED / (8 * EVENT as u64) {
        publisher.request("POST", "/api/v3/events", &headers, batch.clone()).await.taken();
        for _ in 0..8 {
            let message = common::patiently("an event", healthy.next()).await.unwrap().unwrap();
            assert!(message.is_text(), "{message:?}");
        }
    }
    let grown = program.memory("VmHWM").saturating_sub(before);
    assert!(
        grown < BOUND + SLACK,
        "grown by {} MiB at its highest, {} MiB are allowed",
        grown / MIB,
        (BOUND + SLACK) / MIB
    );
    assert_eq!(program.metric("hydrant_registrations").await, 1, "all stalled readers were given up");
    assert!(program.metric("hydrant_queue_bytes").await < STALLED as u64 * 2 * EVENT as u64);
    drop(stalled);
}
