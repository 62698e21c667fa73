//! Under load: files that change again and again, half of them wrong, and an end in the middle. `make faults` runs
//! them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use hydrant::auth::TokenRequest;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::common::http::{self, Http};
use crate::common::people::HASH;
use crate::common::program::Program;
use crate::common::{Hydrant, JSON, Seen, event, patiently, socket};

/// Writes beside the file and renames.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("beside");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

/// A certificate and its key.
fn renew(dir: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    replace(&dir.join("tls-key.pem"), &key.serialize_pem());
    replace(&dir.join("tls-cert.pem"), &made.pem());
}

/// Good and bad changes in turns; the good ones give and take the right to see machines. After each, what is in force
/// is what the last good one said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn files_that_change_again_and_again_close_nobody_and_are_obeyed() {
    const NOT_IN_FORCE: &str = "hydrant_change_not_in_force{file=\"users\"}";
    let rounds = if std::env::var_os("HYDRANT_SOAK").is_some() { 100 } else { 16 };
    let server = Hydrant::with_people_over("shards = 2", true, |store| {
        store.set_role("watcher", vec!["machines/get/*".parse().unwrap()])?;
        store.add_user("alice", HASH.clone(), &["watcher".to_owned()])
    })
    .await;
    let mut steady = join_all((0..20).map(|_| server.watch(&["machines.*.*"]))).await;
    let mut alice = server.connect_as("user:alice", &TokenRequest::default()).await;
    alice.register("*.*.*").await;
    let users = server.data_dir().join("auth.toml");
    let (mut verdicts, mut allowed) = (0, true);
    for round in 0..rounds {
        let (good, is_bad) = (std::fs::read_to_string(&users).unwrap(), round % 2 == 0);
        if is_bad {
            replace(&users, &format!("{good}\n[users.half"));
            replace(&server.data_dir().join("tls-cert.pem"), "no certificate");
            server.until(NOT_IN_FORCE, 1).await;
        } else {
            allowed = !allowed;
            let claim = if allowed { "machines/get/*" } else { "jobs/get/*" };
            server.edit(|store| store.set_role("watcher", vec![claim.parse().unwrap()]));
            renew(&server.data_dir());
        }
        // A change is in force within a second; until then the last one is.
        let in_force = async {
            for number in 0.. {
                let key = format!("{round}-{number}");
                server.announce("machines", "update", &key).await;
                for client in &mut steady {
                    assert_eq!(client.event().await.key, key);
                }
                server.announce("jobs", "update", &key).await;
                server.announce("connections", "none", "user:alice").await;
                let names = alice.names_until("connections.none.user:alice").await;
                verdicts += 2;
                let is_so = names == [format!("{}.update.{key}", if allowed { "machines" } else { "jobs" })];
                assert!(is_so || !is_bad, "{round}: a wrong file was obeyed: {names:?}");
                if is_so && (number >= 3 || !is_bad) {
                    return;
                }
            }
        };
        patiently("the change", in_force).await;
        if is_bad {
            replace(&users, &good);
            server.until(NOT_IN_FORCE, 0).await;
        }
    }
    assert_eq!(server.metric("hydrant_connections").await, 21, "nobody was closed");
    assert_eq!(server.metric("hydrant_connections_opened_total").await, 21);
    eprintln!("{rounds} changes, half of them wrong: 21 of 21 connections stayed, {verdicts} verdicts, 0 wrong");
}

/// Reads until the close: the keys, and the code.
async fn watch(program: &Program, token: &str) -> impl Future<Output = (Vec<String>, u16)> + use<> {
    let socket = socket::connect(program.api, false).await;
    let query = format!("token={token}&register=machines.*.*");
    let request = format!("ws://{}/api/v3/ws?{query}", program.api).into_client_request().unwrap();
    let (mut stream, _) = tokio_tungstenite::client_async(request, socket).await.unwrap();
    async move {
        let mut keys = Vec::new();
        loop {
            match patiently("a message", stream.next()).await {
                Some(Ok(Message::Text(text))) => keys.push(Seen::read(&text).key),
                Some(Ok(Message::Close(Some(close)))) => return (keys, close.code.into()),
                Some(Ok(_)) => {}
                end => panic!("no close after {} events: {end:?}", keys.len()),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn an_end_under_load_delivers_all_that_was_taken() {
    const WATCHERS: usize = 50;
    let server = Program::start("off", "level = 'info'", "shards = 2");
    let token = server.token().await;
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        watchers.push(tokio::spawn(watch(&server, &token).await));
    }
    // A shard adopts them after their handshake.
    http::metric_reaches(server.probe, "hydrant_registrations", WATCHERS as u64).await;
    let begun = Arc::new(AtomicBool::new(false));
    let posters: Vec<_> = (0..4)
        .map(|poster| {
            let (api, bearer, begun) = (server.api, format!("Bearer {token}"), Arc::clone(&begun));
            tokio::spawn(async move {
                let mut http = Http::connect(api, false).await;
                let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
                let mut accepted = Vec::new();
                for number in 0.. {
                    let key = format!("{poster}-{number}");
                    let body = event("machines", "update", &key);
                    match http.try_request("POST", "/api/v3/events", &headers, body).await {
                        Some(reply) if reply.status.as_u16() == 204 => accepted.push(key),
                        _ => break,
                    }
                    if number == 50 {
                        begun.store(true, Ordering::SeqCst);
                    }
                }
                accepted
            })
        })
        .collect();
    while !begun.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.signal("TERM");
    let (status, _) = tokio::task::spawn_blocking(|| server.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    let accepted: Vec<String> = join_all(posters).await.into_iter().flat_map(Result::unwrap).collect();
    let mut delivered = 0;
    for watcher in watchers {
        let (keys, code) = watcher.await.unwrap();
        assert_eq!(code, 1001);
        let got: std::collections::HashSet<&String> = keys.iter().collect();
        let missing: Vec<&String> = accepted.iter().filter(|key| !got.contains(*key)).collect();
        assert!(missing.is_empty(), "{missing:?} of {} did not come; the last: {:?}", accepted.len(), keys.last());
        delivered += keys.len();
    }
    eprintln!(
        "ended under load: {} events taken, {delivered} deliveries to {WATCHERS} watchers, 0 missing",
        accepted.len()
    );
}
