//! Client libraries that people use, with permessage-deflate. `make interop` fetches them and runs this and
//! [`super::interop`]; `make test` needs no network and passes over both.
//!
//! What a client has to do, given an URL and a count: connect with compression, print what was agreed on, register
//! `*.*.*` and a SPEC of three thousand letters, print the two answers, print so many events, close with 1000, end
//! with 0.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{Hydrant, Seen, patiently};
use jiff::Timestamp;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, Receiver};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Events of all sizes; those from 256 bytes on come deflated.
const EVENTS: usize = 120;

fn events() -> Vec<String> {
    let text = |at: usize| "a sentence that comes again, \u{e9} and all ".repeat(at * at / 16);
    let event = |at: usize| json!({"Type": "machines", "Action": "update", "Key": at.to_string(), "Object": text(at)});
    (0..EVENTS).map(|at| event(at).to_string()).collect()
}

/// A program that prints lines. It ends with the test.
pub(crate) struct Client {
    child: Child,
    lines: Receiver<String>,
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    fn start(command: &mut Command, url: &str) -> Self {
        Self::spawn(command.arg(url).arg(EVENTS.to_string()))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let spawned = command.stdout(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{error}: run `make interop` or `make outside`"));
        let out = BufReader::new(child.stdout.take().unwrap());
        let (said, lines) = mpsc::channel(1);
        std::thread::spawn(move || out.lines().try_for_each(|line| said.blocking_send(line.unwrap())));
        Self { child, lines }
    }

    pub(crate) async fn line(&mut self) -> String {
        patiently("a line", self.lines.recv()).await.expect("the client goes on")
    }
}

async fn try_out(command: &mut Command) {
    let server = Hydrant::start("shards = 2").await;
    let mut plain = server.watch(&["*.*.*"]).await;
    let url = format!("ws://{}/api/v3/ws?token={}", server.address(), server.token().await);
    let mut client = Client::start(command, &url);
    let agreed = client.line().await;
    assert_eq!(agreed, "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    assert_eq!(Seen::read(&client.line().await).name(), "websocket.register.*.*.*");
    let long = format!("websocket.register.a.b.{}", "c".repeat(3000));
    assert_eq!(Seen::read(&client.line().await).name(), long, "deflated, or in part, by the client");
    server.post(&format!("[{}]", events().join(","))).await;
    let mut large = 0;
    for at in 0..EVENTS {
        let expected = plain.text().await;
        large += u64::from(expected.len() >= 256);
        assert!(client.line().await == expected, "event {at}");
    }
    assert_eq!(patiently("the end", client.lines.recv()).await, None);
    assert!(client.child.wait().unwrap().success());
    server.until("hydrant_event_serialisations_total{encoding=\"deflate\"}", large).await;
    server.until("hydrant_disconnects_total{reason=\"normal\"}", 1).await;
}

/// Where `make interop` puts what it has fetched.
pub(crate) fn fetched(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients").join(path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go's gorilla/websocket, from the network: make interop"]
async fn go_gorilla() {
    try_out(&mut Command::new(fetched("go-client"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node's ws, from the network: make interop"]
async fn node_ws() {
    try_out(Command::new("node").arg(fetched("node/client.mjs"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python's websockets, from the network: make interop"]
async fn python_websockets() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/python/client.py");
    try_out(Command::new(fetched("python/bin/python")).arg(script)).await;
}

/// An example that prints events ends well when nobody reads on.
async fn ends_on_a_closed_pipe(command: &mut Command) {
    let server = Hydrant::start("shards = 1").await;
    let env = [("RS_ENDPOINT", format!("http://{}", server.address())), ("RS_TOKEN", server.token().await.to_owned())];
    let mut child = command.arg("machines.*.*").envs(env).stdout(Stdio::piped()).spawn().unwrap();
    server.until("hydrant_registrations", 1).await;
    server.announce("machines", "update", "one").await;
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let (line, out) = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        (line, out)
    })
    .await
    .unwrap();
    assert_eq!(Seen::read(&line).name(), "machines.update.one");
    drop(out);
    let ended = async {
        loop {
            server.announce("machines", "update", "two").await;
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    assert!(patiently("its end", ended).await.success());
    server.until("hydrant_connections", 0).await;
}

/// Begins a websocket, or a stream, at ten seconds past midnight, and drops it. Returns the time that it was asked for.
async fn begun(listener: &TcpListener) -> Option<Timestamp> {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let name = "sec-websocket-key: ";
    let key = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name)).map(|line| &line[name.len()..]);
    let answer = match key.map(|key| derive_accept_key(key.as_bytes())) {
        Some(accept) => format!(
            "101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}"
        ),
        None => "200 OK\r\nContent-Type: text/event-stream\r\nX-Hydrant-Sequence: 18c5a3f2b1d00e47:1".to_owned(),
    };
    let answer = format!("HTTP/1.1 {answer}\r\nDate: Thu, 01 Jan 2026 00:00:10 GMT\r\n\r\n");
    socket.write_all(answer.as_bytes()).await.unwrap();
    let query = head.split(' ').nth(1).unwrap().split_once('?').map_or("", |(_, query)| query);
    let since = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "since");
    since.map(|(_, at)| at.parse().unwrap())
}

/// An example whose connection is lost asks for a little more than what came after its beginning: another node may
/// answer, whose clock is behind.
pub(crate) async fn asks_for_what_another_clock_has(command: &mut Command) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let env = [("RS_ENDPOINT", format!("http://{}", listener.local_addr().unwrap())), ("RS_TOKEN", "t".to_owned())];
    let _client = Client::spawn(command.arg("machines.*.*").envs(env));
    let asked = patiently("two connections", async { (begun(&listener).await, begun(&listener).await) }).await;
    assert_eq!(asked, (None, Some("2026-01-01T00:00:05Z".parse().unwrap())));
}

fn node_ws_example() -> Command {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clients/javascript/watch.mjs");
    // Beside the library, which is looked for from there.
    std::fs::copy(example, fetched("node/watch.mjs")).unwrap();
    let mut command = Command::new("node");
    command.arg(fetched("node/watch.mjs"));
    command
}

fn python_websockets_example() -> Command {
    let mut command = Command::new(fetched("python/bin/python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clients/python/watch.py"));
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node's ws, from the network: make interop"]
async fn node_ws_example_ends_on_a_closed_pipe() {
    ends_on_a_closed_pipe(&mut node_ws_example()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python's websockets, from the network: make interop"]
async fn python_websockets_example_ends_on_a_closed_pipe() {
    ends_on_a_closed_pipe(&mut python_websockets_example()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node's ws, from the network: make interop"]
async fn node_ws_example_misses_nothing_by_another_clock() {
    asks_for_what_another_clock_has(&mut node_ws_example()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python's websockets, from the network: make interop"]
async fn python_websockets_example_misses_nothing_by_another_clock() {
    asks_for_what_another_clock_has(&mut python_websockets_example()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go's gorilla/websocket, from the network: make gorilla"]
async fn go_gorilla_example_misses_nothing_by_another_clock() {
    asks_for_what_another_clock_has(&mut Command::new(fetched("go-watch"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go's gorilla/websocket, from the network: make gorilla"]
async fn go_session_as_drpcli_has_it() {
    for server in [Hydrant::start("").await, Hydrant::start_tls("").await] {
        let scheme = if server.tls { "https" } else { "http" };
        let mut command = Command::new(fetched("go-session"));
        command.arg(format!("{scheme}://{}", server.address())).args(["rocketskates", "r0cketsk8ts", "uuid-1"]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n", "{output:?}");
    }
}
