//! Clients that hold sockets by doing everything slowly: many at once are closed in time, and whoever is honest is
//! served meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common;
use crate::common::http::Http;
use crate::common::raw::Raw;
use crate::common::ws::Show;
use crate::common::{Hydrant, basic, patiently, socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::task::JoinSet;

/// Slow clients of a kind.
const EACH: usize = 40;

/// A little less than the eight seconds that the servers of these tests give, for clocks that differ. Whoever is honest
/// has them too, on whatever machine.
const ALMOST: Duration = Duration::from_millis(7900);

/// How long a slow client waits between two bytes: much less than the server waits, so that only the sum can end it.
const PAUSE: Duration = Duration::from_millis(100);

const SETTINGS: &str = "shards = 2\nlimits = { pending_handshakes = 250 }\n\
                        timeouts = { header = \"8s\", handshake = \"8s\", ping = \"1s\", idle = \"8s\" }\n\
                        proxy = { idle = \"2s\" }";

/// What a slow client says: first at once, then byte by byte and over again.
#[derive(Clone)]
struct Slow {
    at_once: String,
    slowly: &'static str,
}

fn slow(at_once: impl Into<String>, slowly: &'static str) -> Slow {
    Slow { at_once: at_once.into(), slowly }
}

/// Says it until the server ends the connection; how long that took.
async fn hold(begun: Instant, socket: socket::Socket, slow: Slow) -> Duration {
    let (read, write) = tokio::io::split(socket);
    let talk = tokio::spawn(talk(write, slow));
    patiently("the end of a slow client", end(read)).await;
    talk.abort();
    begun.elapsed()
}

async fn talk(mut write: WriteHalf<socket::Socket>, slow: Slow) {
    if write.write_all(slow.at_once.as_bytes()).await.is_err() || slow.slowly.is_empty() {
        return std::future::pending().await;
    }
    for byte in slow.slowly.bytes().cycle() {
        tokio::time::sleep(PAUSE).await;
        if write.write_all(&[byte]).await.is_err() {
            return;
        }
    }
}

/// Reads to the end; a reset is one too.
async fn end(mut read: ReadHalf<socket::Socket>) {
    let mut buffer = [0; 256];
    while read.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

/// Comes, watches, posts and goes, as often as it can while the slow ones hold on; how often.
async fn honest(server: Arc<Hydrant>, held: JoinSet<Duration>) -> (usize, Vec<Duration>) {
    let held = tokio::spawn(held.join_all());
    let mut rounds = 0;
    while !held.is_finished() {
        let mut client = server.watch(&["a.b.*"]).await;
        let key = rounds.to_string();
        server.announce("a", "b", &key).await;
        while client.event().await.key != key {}
        rounds += 1;
    }
    (rounds, held.await.unwrap())
}

/// So many of each kind at once must all be ended, none before its time, and the honest are served.
async fn besieged(server: Hydrant, tls: bool, kinds: Vec<Slow>) {
    server.token().await;
    let server = Arc::new(server);
    let mut held = JoinSet::new();
    for kind in kinds {
        for _ in 0..EACH {
            let (kind, address) = (kind.clone(), server.address());
            let begun = Instant::now();
            held.spawn(async move { hold(begun, socket::connect(address, tls).await, kind).await });
        }
    }
    let (rounds, times) = Box::pin(honest(Arc::clone(&server), held)).await;
    assert!(rounds > 0);
    assert!(times.iter().all(|time| *time >= ALMOST), "{:?}", times.iter().min());
    server.until("hydrant_connections", 0).await;
    assert_eq!(server.metric("hydrant_handshakes_rejected_total{reason=\"limited\"}").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_and_upgrades_are_ended_and_disturb_nobody() {
    let server = Hydrant::start(SETTINGS).await;
    let upgrade = server.handshake_text().await.trim_end().to_owned();
    let kinds = vec![
        slow("", ""),
        slow("", "GET /api/v3/info HTTP/1.1\r\n"),
        slow("GET /api/v3/info HTTP/1.1\r\n", "X: y\r\n"),
        slow(upgrade, "\r\nX: y"),
        slow("POST /api/v3/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n", "Cookie: 1\r\n"),
    ];
    besieged(server, false, kinds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_tls_handshakes_are_ended_and_disturb_nobody() {
    let server = Hydrant::start_tls(SETTINGS).await;
    // A record of a ClientHello that never comes whole.
    let hello = "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03";
    let kinds = vec![slow("", ""), slow("\x16", ""), slow("", "\x16\x03\x01\x02\x00"), slow(hello, "\0")];
    besieged(server, false, kinds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_within_tls_are_ended_and_disturb_nobody() {
    let server = Hydrant::start_tls(SETTINGS).await;
    besieged(server, true, vec![slow("", ""), slow("GET /api/v3/info HTTP/1.1\r\n", "X: y\r\n")]).await;
}

/// Who is nobody has no right to a wait for the rest of its body, nor for its reading of answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_hold_no_socket_by_bodies_or_by_not_reading() {
    let server = Hydrant::start(SETTINGS).await;
    let post = |headers: &str| {
        format!("POST /api/v3/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}\r\n")
    };
    let wrong = "Authorization: Bearer wrong.wrong.wrong\r\n";
    let mut held = JoinSet::new();
    for headers in [
        "Content-Length: 1000000\r\n".to_owned(),
        format!("Content-Length: 1000000\r\n{wrong}"),
        "Transfer-Encoding: chunked\r\n".to_owned(),
        "Content-Length: 1000000\r\nExpect: 100-continue\r\n".to_owned(),
    ] {
        let address = server.address();
        let slow = slow(post(&headers), if headers.contains("chunked") { "1\r\n[\r\n" } else { "[" });
        held.spawn(async move { hold(Instant::now(), socket::connect(address, false).await, slow).await });
    }
    let requests = "GET /api/v3/info HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20_000);
    let mut deaf = socket::connect_narrow(server.address(), false).await;
    held.spawn(async move {
        let begun = Instant::now();
        // It never reads; a write fails when the server has ended the connection.
        patiently("the end of a deaf client", async { while deaf.write_all(requests.as_bytes()).await.is_ok() {} })
            .await;
        begun.elapsed()
    });
    held.join_all().await;
    // Not one of them holds a place any more: all are there to be taken.
    let mut known = Http::connect(server.address(), false).await;
    let login = basic(common::LOGIN);
    let reply = known.request("GET", "/api/v3/info", &[("authorization", &login)], "").await;
    assert_eq!(reply.status.as_u16(), 200);
    let bearer = format!("Bearer {}", server.token().await);
    server.try_connect(&Show::Header(&bearer), &[]).await.unwrap();
}

/// The first byte of a post by somebody who is known, whose body is said to be so long.
async fn beginning(server: &Hydrant, length: usize) -> String {
    format!(
        "POST /api/v3/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer {}\r\n\
         Content-Length: {length}\r\n\r\n[",
        server.token().await
    )
}

/// All of these clients are given up after `least`, and an honest one is served meanwhile.
async fn all_are_given_up<F>(length: usize, least: Duration, client: impl Fn(SocketAddr, String) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let server = Arc::new(Hydrant::start(SETTINGS).await);
    let request = beginning(&server, length).await;
    let mut held = JoinSet::new();
    for _ in 0..EACH {
        let client = client(server.address(), request.clone());
        held.spawn(async move {
            let begun = Instant::now();
            client.await;
            begun.elapsed()
        });
    }
    let (rounds, times) = Box::pin(honest(Arc::clone(&server), held)).await;
    assert!(rounds > 0);
    assert!(times.iter().all(|time| *time >= least), "{:?}", times.iter().min());
}

/// Nor has somebody who is known; the time that a body may stand still cannot be set, so this takes as long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stands_still_is_given_up_and_disturbs_nobody() {
    let client = |address, request: String| async move {
        let mut raw = Raw(socket::connect(address, false).await);
        raw.send(request.as_bytes()).await;
        let answer = raw.head().await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    };
    all_are_given_up(1_000, Duration::from_millis(9900), client).await;
}

/// Nor has one that never stands still, but comes byte by byte: its share of the memory for bodies is for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_trickles_is_given_up_and_disturbs_nobody() {
    let client = |address, request| async move {
        let (mut read, write) = tokio::io::split(socket::connect(address, false).await);
        let talk = tokio::spawn(talk(write, slow(request, " ")));
        let mut answer = Vec::new();
        // The server may reset what it does not want to hear any more.
        let _ = patiently("the end of a slow client", read.read_to_end(&mut answer)).await;
        talk.abort();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("slowly"), "{answer}");
    };
    all_are_given_up(1_000_000, Duration::from_millis(19_900), client).await;
}
