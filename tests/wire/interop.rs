//! One session with each websocket library that people use, over TLS and plain: `make interop`, which fetches them.
//! `tests/clients/README.md` says what the programs do. What they did is written to `target/clients/interop.md`.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use tokio::sync::mpsc::{self, Receiver};

use super::clients::fetched;
use crate::common::{Hydrant, PATIENCE, Seen, event, patiently};

/// A client: how it is started, up to the URL.
struct Library {
    command: Vec<PathBuf>,
    /// Whether its library offers permessage-deflate.
    deflates: bool,
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

fn installed(names: &[&str]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let all = std::env::split_paths(&path).flat_map(|place| names.iter().map(move |name| place.join(name)));
    all.into_iter().find(|program| program.is_file()).unwrap_or_else(|| panic!("{names:?}: make interop"))
}

fn libraries() -> Vec<Library> {
    let python = |name: &str| vec![fetched("python/bin/python"), script("python/talk.py"), name.into()];
    let browser =
        |kind: &str, names| vec!["node".into(), fetched("node/talk-browser.mjs"), kind.into(), installed(names)];
    let library = |command, deflates| Library { command, deflates };
    vec![
        library(vec![fetched("talk-gorilla")], true),
        library(vec![fetched("talk-gobwas")], false),
        library(python("websockets"), true),
        library(python("websocket-client"), false),
        library(python("lomond"), true),
        library(python("ws4py"), false),
        library(vec!["node".into(), fetched("node/talk.mjs")], true),
        library(browser("chromium", &["chromium", "chromium-browser", "google-chrome"]), true),
        library(browser("firefox", &["firefox-esr", "firefox"]), true),
    ]
}

/// A program that talks.
struct Talk {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    /// Library and version.
    name: String,
    /// What was agreed on.
    extensions: String,
}

impl Drop for Talk {
    fn drop(&mut self) {
        // A browser is ended by its program.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        }
        let _ = self.child.wait();
    }
}

impl Talk {
    async fn start(library: &Library, url: &str) -> Self {
        let mut command = Command::new(&library.command[0]);
        command.args(&library.command[1..]).arg(url).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{error}: make interop"));
        let (out, input) = (BufReader::new(child.stdout.take().unwrap()), child.stdin.take().unwrap());
        let (said, lines) = mpsc::channel(1);
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| said.blocking_send(line)));
        let mut talk = Self { child, input, lines, name: String::new(), extensions: String::new() };
        talk.name = talk.line("hello ").await;
        talk.line("open").await.trim().clone_into(&mut talk.extensions);
        talk
    }

    /// The next line, behind what it must begin with.
    async fn line(&mut self, prefix: &str) -> String {
        let what = format!("`{prefix}` of {}", self.name);
        let line = patiently(&what, self.lines.recv()).await.unwrap_or_else(|| panic!("{what}: it has ended"));
        line.strip_prefix(prefix).unwrap_or_else(|| panic!("{what}: {line}")).to_owned()
    }

    async fn event(&mut self) -> Seen {
        Seen::read(&self.line("< ").await)
    }

    /// Sends a line and gets its answer, which must be the next event.
    async fn answered(&mut self, command: &str) -> Seen {
        writeln!(self.input, "{command}").unwrap();
        self.event().await
    }

    async fn register(&mut self, spec: &str) {
        assert_eq!(self.answered(&format!("register {spec}")).await.name(), format!("websocket.register.{spec}"));
    }
}

fn finished(key: &str, state: &str) -> String {
    let padding = "a sentence that comes again ".repeat(40);
    serde_json::json!({"Type": "jobs", "Action": "update", "Key": key, "Object": {"State": state, "Text": padding}})
        .to_string()
}

/// Everything that a client does in its life; what was agreed on, and its name.
async fn session(library: &Library, server: &Hydrant) -> (String, String) {
    let scheme = if server.tls { "wss" } else { "ws" };
    let url = format!("{scheme}://{}/api/v3/ws?token={}", server.address(), server.token().await);
    let mut talk = Talk::start(library, &url).await;
    talk.register("machines.update.*").await;
    talk.register("jobs.*.*.State=Eq(finished)").await;
    for body in [event("machines", "update", "m1"), event("machines", "create", "m2")] {
        server.post(&body).await;
    }
    for (key, state) in [("j1", "finished"), ("j2", "failed"), ("j3", "finished")] {
        server.post(&finished(key, state)).await;
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(talk.event().await.name());
    }
    assert_eq!(seen, ["machines.update.m1", "jobs.update.j1", "jobs.update.j3"]);
    assert_eq!(talk.answered("deregister machines.update.*").await.action, "deregister");
    assert!(talk.answered("nonsense").await.error().contains("nonsense"));
    server.announce("machines", "update", "m3").await;
    server.post(&finished("j4", "finished")).await;
    let last = talk.event().await;
    assert_eq!(last.name(), "jobs.update.j4");
    delete_all(server).await;
    assert_eq!(talk.line("close ").await, "1001 connection deleted", "{}", talk.name);
    resume(library, server, &url, &last).await;
    (talk.name.clone(), talk.extensions.clone())
}

/// Comes back for what it has missed, and goes.
async fn resume(library: &Library, server: &Hydrant, url: &str, last: &Seen) {
    server.post(&finished("j5", "finished")).await;
    let url = format!("{url}&since={}&register=jobs.*.*", last.time);
    let mut talk = Talk::start(library, &url).await;
    assert_eq!(talk.event().await.name(), "websocket.register.jobs.*.*");
    assert_eq!(talk.event().await.name(), "jobs.update.j4");
    assert_eq!(talk.event().await.name(), "jobs.update.j5");
    writeln!(talk.input, "CLOSE").unwrap();
    let close = talk.line("close ").await;
    assert_eq!(close.trim(), "1000", "{}", talk.name);
    let ended = async {
        while talk.child.try_wait().unwrap().is_none() {
            tokio::time::sleep(PATIENCE / 1000).await;
        }
    };
    patiently("its end", ended).await;
}

/// Closes every websocket, as an operator may.
async fn delete_all(server: &Hydrant) {
    let all = server.request("GET", "/api/v3/connections?Type=websocket", &[], "").await.json();
    for one in all.as_array().unwrap() {
        let path = format!("/api/v3/connections/{}", one["RemoteAddr"].as_str().unwrap());
        server.request("DELETE", &path, &[], "").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs websocket libraries from the network, and browsers: make interop"]
async fn libraries_that_people_use_have_a_whole_session() {
    let mut rows = String::new();
    for library in libraries() {
        let mut agreed = Vec::new();
        let mut name = String::new();
        for server in [Hydrant::start("shards = 2").await, Hydrant::start_tls("shards = 2").await] {
            let (named, extensions) = session(&library, &server).await;
            assert_eq!(!extensions.is_empty(), library.deflates, "{named}: {extensions:?}");
            let deflated = server.metric("hydrant_event_serialisations_total{encoding=\"deflate\"}").await;
            assert_eq!(deflated > 0, library.deflates, "{named}");
            server.until("hydrant_connections", 0).await;
            agreed.push(extensions);
            name = named;
        }
        let deflate =
            if agreed.iter().all(|one| one.starts_with("permessage-deflate")) { "yes" } else { "not offered" };
        writeln!(rows, "| {name} | passed | passed | {deflate} |").unwrap();
    }
    let table = format!("| client | plain | TLS | permessage-deflate |\n|---|---|---|---|\n{rows}");
    std::fs::write(fetched("interop.md"), table).unwrap();
}
