//! What a panic does to a whole process. No input causes one, so a layer of the log panics where the test wants it: on
//! the thread that logs.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use hydrant::logging::{self, crash};
use hydrant::server::Server;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::common::{http, settings};
use crate::outside::upgrade;

/// Panics once, on a thread of this name, when it logs a line of this target.
struct PanicOnce {
    thread: &'static str,
    target: &'static str,
    done: AtomicBool,
}

impl Layer<Registry> for PanicOnce {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, Registry>) {
        let thread = std::thread::current().name().is_some_and(|name| name.starts_with(self.thread));
        let wanted = thread && event.metadata().target() == self.target;
        assert!(!wanted || self.done.swap(true, Ordering::AcqRel), "a bug of the test's");
    }
}

/// A server in this process, which logs as the program does.
async fn serve(thread: &'static str, target: &'static str, level: LevelFilter) -> (Server, tempfile::TempDir) {
    let log = logging::standard_error().unwrap();
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || log).with_filter(level);
    let bug = PanicOnce { thread, target, done: AtomicBool::new(false) };
    tracing_subscriber::registry().with(bug).with(lines).init();
    crash::report();
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(settings(dir.path(), "shards = 1", "off")).await.unwrap();
    (server, dir)
}

/// Asks for a websocket and reads until the other side is gone.
fn ask(host: SocketAddr) -> String {
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    stream.write_all(upgrade(host).as_bytes()).unwrap();
    let mut answer = Vec::new();
    // How it ends does not matter.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Runs a test of this file in a process of its own.
fn alone(name: &str) -> Output {
    let mut this = Command::new(std::env::current_exe().unwrap());
    this.args(["--exact", &format!("crash::{name}"), "--ignored", "--nocapture"]).output().unwrap()
}

#[test]
fn a_panic_of_a_shard_ends_the_process_with_a_last_word() {
    let output = alone("child_whose_shard_panics");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(6), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    // Other threads may say something meanwhile.
    let panic = lines.iter().position(|line| line.contains("panic thread=\"shard-0\"")).expect(&said);
    assert!(lines[panic].contains("ERROR") && lines[panic].contains("a bug of the test's"), "{said}");
    assert!(lines[panic].contains("tests/limits/crash.rs"), "{said}");
    assert!(lines[panic..].iter().any(|line| line.contains("ending the process what=\"a shard\"")), "{said}");
}

#[test]
fn a_panic_of_a_task_that_the_server_needs_does_too() {
    let output = alone("child_whose_follower_panics");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(6), "{said}");
    assert!(said.contains("ending the process what=\"the reloading of rights\""), "{said}");
}

#[test]
fn a_panic_of_one_connection_ends_that_connection() {
    let output = alone("child_whose_connection_panics");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("ERROR") && said.contains("a bug of the test's"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ends its process"]
async fn child_whose_shard_panics() {
    let (server, _dir) = serve("shard-", hydrant::AUDIT, LevelFilter::INFO).await;
    let host = server.addresses()[0];
    tokio::task::spawn_blocking(move || ask(host)).await.unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ends its process"]
async fn child_whose_follower_panics() {
    let (_server, dir) = serve("", "hydrant::auth::reload", LevelFilter::INFO).await;
    let file = dir.path().join("data/auth.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n[roles.new]\nclaims = []\n")).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "panics, if only in one connection"]
async fn child_whose_connection_panics() {
    // The library loses a line about an event that its filter has left out, if it panics in the middle of it.
    let (server, _dir) = serve("", "hydrant::api", LevelFilter::DEBUG).await;
    let (host, probe) = (server.addresses()[0], server.probe_address().unwrap());
    let answer = tokio::task::spawn_blocking(move || ask(host)).await.unwrap();
    assert_eq!(answer, "", "the connection is cut");
    assert_eq!(http::metric(probe, "hydrant_panics_total").await, 1);
    let request = http::request(host, false, "GET", "/api/v3/nowhere", &[], "").await;
    assert_eq!(request.status, 401);
    server.stop().await;
    assert!(logging::flush(crate::common::PATIENCE));
}
