//! RFC 6455 and RFC 7692 by the Autobahn Testsuite: `make conformance`, which fetches it. The server side is the echo
//! door of [`super::echo`].
//!
//! `HYDRANT_AUTOBAHN` is the program `wstest`, `HYDRANT_AUTOBAHN_CASES` a comma list of cases (all without it). What
//! the suite found is written to `target/tmp`, as tables for docs/conformance.md; what it found of other cases before
//! stays there, so that the long ones can be run by themselves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};

use futures_util::StreamExt;
use hydrant::client::{Bounds, Credentials, Received, Session, Target, Trust};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::echo;
use crate::common::ports::Held;
use crate::common::raw::masked;
use crate::common::{PATIENCE, patiently};

/// Sections, and what they are about. Section 8 is reserved and 11 was taken out of the suite.
const SECTIONS: [(&str, &str); 11] = [
    ("1", "framing"),
    ("2", "pings and pongs"),
    ("3", "reserved bits"),
    ("4", "opcodes"),
    ("5", "fragmentation"),
    ("6", "UTF-8"),
    ("7", "closing"),
    ("9", "large messages, up to 16 MiB"),
    ("10", "automatic fragmentation"),
    ("12", "permessage-deflate, one set of parameters"),
    ("13", "permessage-deflate, all parameters"),
];

/// What the suite says of each case.
type Verdicts = BTreeMap<String, (String, String)>;

async fn wstest(arguments: &[&str]) {
    let program = std::env::var_os("HYDRANT_AUTOBAHN").expect("HYDRANT_AUTOBAHN is set: make conformance");
    let mut command = Command::new(program);
    command.args(arguments);
    let status = tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap();
    assert!(status.success(), "{status}");
}

fn cases() -> Vec<String> {
    let wanted = std::env::var("HYDRANT_AUTOBAHN_CASES").ok().filter(|cases| !cases.is_empty());
    let cases = wanted.unwrap_or_else(|| "*".to_owned());
    cases.split(',').map(str::to_owned).collect()
}

fn verdicts(folder: &Path, agent: &str) -> Verdicts {
    let index = std::fs::read_to_string(folder.join("index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let cases = index[agent].as_object().unwrap().iter();
    cases.map(|(case, found)| (case.clone(), (text(&found["behavior"]), text(&found["behaviorClose"])))).collect()
}

/// A row for each section: how many cases had which verdict.
fn table(verdicts: &Verdicts) -> String {
    let mut rows = "| section | about | cases |\n|---|---|---|\n".to_owned();
    for (section, about) in SECTIONS {
        let mut counts = BTreeMap::new();
        for (verdict, _) in verdicts.iter().filter(|(case, _)| case.split('.').next() == Some(section)).map(|(_, v)| v)
        {
            *counts.entry(verdict.as_str()).or_insert(0) += 1;
        }
        let counts: Vec<String> = counts.into_iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
        if !counts.is_empty() {
            writeln!(rows, "| {section} | {about} | {} |", counts.join(", ")).unwrap();
        }
    }
    rows
}

/// Keeps what was found, and makes a table of it and of what was kept before.
fn keep(side: &str, found: &Verdicts) {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (kept, page) = (place.join(format!("autobahn-{side}.json")), place.join(format!("autobahn-{side}.md")));
    let before = std::fs::read(&kept).ok().filter(|_| cases() != ["*"]);
    let mut all: Verdicts = before.map_or_else(Verdicts::new, |text| serde_json::from_slice(&text).unwrap());
    all.extend(found.clone());
    std::fs::write(kept, serde_json::to_vec(&all).unwrap()).unwrap();
    std::fs::write(page, table(&all)).unwrap();
}

/// Offers of a smaller window alone are not accepted (docs/protocol.md, "Compression"): these cases end without a test.
const SMALLER_WINDOWS: [&str; 2] = ["13.3.", "13.5."];

/// No case failed, and no connection ended uncleanly where the suite wants a clean end.
fn assert_conforming(verdicts: &Verdicts) {
    let bad: Vec<_> = verdicts
        .iter()
        .filter(|(case, (behavior, close))| {
            let is_declined = SMALLER_WINDOWS.iter().any(|group| case.starts_with(group));
            let is_good = if is_declined {
                behavior == "UNIMPLEMENTED"
            } else {
                matches!(behavior.as_str(), "OK" | "NON-STRICT" | "INFORMATIONAL")
            };
            !is_good || !matches!(close.as_str(), "OK" | "INFORMATIONAL")
        })
        .collect();
    assert!(bad.is_empty(), "{} of {}: {bad:#?}", bad.len(), verdicts.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the Autobahn Testsuite, from the network: make conformance"]
async fn the_server_conforms_to_the_rfcs() {
    let address = echo::open();
    let dir = tempfile::tempdir().unwrap();
    let (spec, found) = (dir.path().join("spec.json"), dir.path().join("found"));
    let wanted = json!({
        "outdir": found,
        "servers": [{"agent": "hydrant", "url": format!("ws://{address}")}],
        "cases": cases(),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    });
    std::fs::write(&spec, wanted.to_string()).unwrap();
    wstest(&["-m", "fuzzingclient", "-s", spec.to_str().unwrap()]).await;
    let verdicts = verdicts(&found, "hydrant");
    keep("server", &verdicts);
    assert_conforming(&verdicts);
}

/// What the client takes no part in: binary messages, which it passes over, and compression, which it does not offer.
const NOT_THE_CLIENTS: [&str; 7] = ["1.2.*", "9.2.*", "9.4.*", "9.6.*", "9.8.*", "12.*", "13.*"];

/// The suite's own server, ended with the test.
struct Suite(Child);

impl Drop for Suite {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Listens for the client and hands its connections on to the suite, with what only this client does changed: it asks
/// for `/api/v3/ws` instead of `path`, and says `register X` where the suite wants to hear X.
async fn relay(listener: TcpListener, suite: SocketAddr, path: String) {
    let own = listener.local_addr().unwrap().to_string();
    let (client, _) = listener.accept().await.unwrap();
    let (mut from, mut to) = client.into_split();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(from.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().replacen("/api/v3/ws", &path, 1).replace(&own, &suite.to_string());
    let (mut answers, mut requests) = TcpStream::connect(suite).await.unwrap().into_split();
    requests.write_all(head.as_bytes()).await.unwrap();
    let back = tokio::spawn(async move { tokio::io::copy(&mut answers, &mut to).await.map(drop) });
    // Either side may go when it likes.
    while let Ok((first, payload)) = frame(&mut from).await {
        let payload = payload.strip_prefix(b"register ").filter(|_| first & 0x0F == 1).unwrap_or(&payload);
        if requests.write_all(&masked(first, payload)).await.is_err() {
            break;
        }
    }
    let _ = requests.shutdown().await;
    let _ = back.await;
}

/// A client's frame: its first byte and its payload.
async fn frame(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let first = from.read_u8().await?;
    let length = match from.read_u8().await? & 0x7F {
        126 => u64::from(from.read_u16().await?),
        127 => from.read_u64().await?,
        short => u64::from(short),
    };
    let mut mask = [0; 4];
    from.read_exact(&mut mask).await?;
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    from.read_exact(&mut payload).await?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok((first, payload))
}

/// One case: the client says back what it hears until the end.
async fn echo_back(suite: SocketAddr, path: String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let relay = tokio::spawn(relay(listener, suite, path));
    let endpoint = format!("http://{address}").parse().unwrap();
    let credentials = Credentials::Token("x".to_owned());
    let target = Target::new(endpoint, &credentials, &Trust::Any).unwrap();
    let mut session = Session::open(&target, Bounds::default()).await.unwrap();
    while let Ok(received) = session.receive().await {
        if let Received::Event(text) = received {
            session.register(&text).await;
        }
    }
    // The suite has the last word, and ends the connection.
    let _ = tokio::time::timeout(PATIENCE, relay).await;
}

/// What the suite says at a path of its own.
async fn ask(suite: SocketAddr, path: &str) -> String {
    let connect = async {
        loop {
            if let Ok((stream, _)) = tokio_tungstenite::connect_async(format!("ws://{suite}{path}")).await {
                break stream;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let mut stream = patiently("the suite", connect).await;
    let mut said = String::new();
    while let Some(Ok(message)) = patiently("a word of the suite", stream.next()).await {
        if let Ok(text) = message.to_text() {
            said += text;
        }
    }
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the Autobahn Testsuite, from the network: make conformance"]
async fn the_client_conforms_to_the_rfcs() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, found) = (dir.path().join("spec.json"), dir.path().join("found"));
    let port = Held::any();
    let suite = port.address;
    let wanted = json!({
        "url": format!("ws://{suite}"),
        "outdir": found,
        "cases": cases(),
        "exclude-cases": NOT_THE_CLIENTS,
        "exclude-agent-cases": {},
    });
    std::fs::write(&spec, wanted.to_string()).unwrap();
    let program = std::env::var_os("HYDRANT_AUTOBAHN").expect("HYDRANT_AUTOBAHN is set: make conformance");
    let arguments = ["-m", "fuzzingserver", "-w", "0", "-s", spec.to_str().unwrap()];
    let _suite = Suite(Command::new(program).args(arguments).spawn().unwrap());
    let count: usize = ask(suite, "/getCaseCount").await.parse().unwrap();
    for case in 1..=count {
        echo_back(suite, format!("/runCase?case={case}&agent=hydrant")).await;
    }
    ask(suite, "/updateReports?agent=hydrant").await;
    let verdicts = verdicts(&found, "hydrant");
    assert_eq!(verdicts.len(), count);
    keep("client", &verdicts);
    assert_conforming(&verdicts);
}
