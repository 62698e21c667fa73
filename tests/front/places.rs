//! Places for requests at the endpoint: how many there are, who holds them for how long, and what goes along with whose
//! credential.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::common::http::Http;
use crate::common::raw::Raw;
use crate::common::{Hydrant, LOGIN, basic, http, patiently, socket};
use crate::endpoint::{Drp, MACHINE, SENT_BEFORE_REFUSAL, User};
use crate::identity::{by_password, told};

/// More than sockets hold, so an answer that nobody reads stays under way.
const LARGE: &str = "/blob/1000000000";

/// An endpoint and a hydrant in front of it with four places.
async fn front(toml: &str) -> (Drp, Hydrant) {
    let drp = Drp::start().await;
    let settings =
        format!("{}[auth]\nmode = \"local\"\n[proxy]\nrequests = 4\nconnect = \"3s\"\n{toml}", drp.settings());
    let hydrant = Hydrant::start_tls(&settings).await;
    (drp, hydrant)
}

/// The same with clients in the networks that they name.
async fn behind_a_proxy() -> (Drp, Hydrant) {
    let drp = Drp::start().await;
    let proxy = "[proxy]\nrequests = 4\nconnect = \"3s\"\n";
    let toml = format!("trusted_proxies = [\"127.0.0.1\"]\n{}[auth]\nmode = \"local\"\n{proxy}", drp.settings());
    let hydrant = Hydrant::start_tls(&toml).await;
    (drp, hydrant)
}

/// Asks on a connection, and reads no more than the head.
async fn head(raw: &mut Raw, method: &str, path: &str, headers: &str) -> String {
    raw.send(format!("{method} {path} HTTP/1.1\r\nHost: front\r\n{headers}\r\n").as_bytes()).await;
    raw.head().await
}

/// Asks for a large answer on a new connection; the connection and the status.
async fn hold(hydrant: &Hydrant, headers: &str) -> (Raw, String) {
    let mut raw = hydrant.dial().await;
    let answer = head(&mut raw, "GET", LARGE, headers).await;
    (raw, answer.split(' ').nth(1).unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_under_way_hold_their_places_and_strangers_leave_some() {
    let (_drp, hydrant) = front("").await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let (raw, status) = hold(&hydrant, "").await;
        assert_eq!(status, "200");
        held.push(raw);
    }
    let others = join_all((0..5).map(|_| hold(&hydrant, ""))).await;
    assert!(others.iter().all(|(_, status)| status == "503"));
    // Somebody who is known to the endpoint is served, and whoever guesses is not.
    let machine = format!("/api/v3/machines/{MACHINE}");
    let ask = async |login: &str| {
        http::request(hydrant.address(), true, "GET", &machine, &[("authorization", &basic(login))], "").await
    };
    assert_eq!(ask("rocketskates:wrong").await.status.as_u16(), 503);
    assert_eq!(ask(LOGIN).await.status.as_u16(), 200);
    let own = http::request(hydrant.address(), true, "GET", &format!("{machine}?token={LOGIN}"), &[], "").await;
    assert_eq!(own.status.as_u16(), 200);
    // A place comes free when its answer is given up.
    held.remove(0);
    let again = async {
        while hold(&hydrant, "").await.1 != "200" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    patiently("a place", again).await;
}

/// What anybody is answered well proves nothing, with whatever credential.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_answer_to_anybody_is_no_proof_of_good_credentials() {
    let (drp, hydrant) = front("").await;
    let (garbage, good) =
        ("Authorization: Bearer garbage\r\n".to_owned(), format!("Authorization: {}\r\n", basic(LOGIN)));
    let mut held = Vec::new();
    for (method, path, credential) in [
        ("OPTIONS", "/api/v3/machines", &garbage),
        ("GET", "/api/v3/public", &garbage),
        ("GET", "/api/v3/public?token=garbage", &String::new()),
        ("OPTIONS", "/api/v3/machines", &garbage),
        ("GET", "/api/v3/public", &good),
    ] {
        let mut raw = hydrant.dial().await;
        let answer = head(&mut raw, method, path, credential).await;
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        held.push(raw);
    }
    assert_eq!(drp.asked("/api/v3/info"), 2, "once for each credential, and an OPTIONS is not worth a question");
    let mut statuses = Vec::new();
    for raw in &mut held {
        let answer = head(raw, "GET", LARGE, "").await;
        statuses.push(answer.split(' ').nth(1).unwrap().to_owned());
    }
    assert_eq!(statuses, ["200", "200", "200", "503", "200"], "only the last has shown who it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_early_comes_whole() {
    const SIZE: usize = 4 << 20;
    let (_drp, hydrant) = front("").await;
    for (asks_first, sends) in [("Expect: 100-continue\r\n", 0), ("", SENT_BEFORE_REFUSAL)] {
        let mut raw = hydrant.dial().await;
        let headers = format!("{asks_first}Content-Length: 4194304\r\n");
        raw.send(format!("PUT /refuse/{SIZE} HTTP/1.1\r\nHost: front\r\n{headers}\r\n").as_bytes()).await;
        raw.send(&vec![b'x'; sends]).await;
        let answer = raw.head().await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close\r\n"), "{answer}");
        let mut rest = Vec::new();
        patiently("the body", raw.0.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.len() >= SIZE, "{} of {SIZE} bytes", rest.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_services_credential_goes_nothing_of_the_callers() {
    let (drp, hydrant) = front("").await;
    let bearer = format!("Bearer {}", hydrant.token().await);
    let headers = [
        ("authorization", bearer.as_str()),
        ("accept", "application/json"),
        ("x-log-request", "trace"),
        ("cookie", "a=b"),
        ("content-type", "text/plain"),
        ("x-http-method-override", "DELETE"),
        ("range", "bytes=0-1"),
    ];
    for path in ["/api/v3/connections", &format!("/api/v3/machines/{MACHINE}/connections"), "/api/v3/info"] {
        drp.take();
        let asked = format!("{path}?Type=Eq(websocket)&slim=Params&a=b");
        http::request(hydrant.address(), true, "GET", &asked, &headers, "a body").await;
        let got = drp.last(path);
        assert_eq!((got.method.as_str(), got.header("authorization")), ("GET", &*basic(LOGIN)), "{path}");
        let mut names: Vec<&str> = got.headers.keys().map(hyper::header::HeaderName::as_str).collect();
        names.sort_unstable();
        let mut expected =
            vec!["accept", "authorization", "host", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
        if path == "/api/v3/connections" {
            // Callers share the endpoint's list, so it must not depend on one of them.
            expected.retain(|name| !["accept", "x-forwarded-host"].contains(name));
        }
        assert_eq!(names, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_bad_pieces_is_the_clients_mistake() {
    let (_drp, hydrant) = front("").await;
    let mut raw = hydrant.dial().await;
    raw.send(b"PUT /sink HTTP/1.1\r\nHost: front\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n")
        .await;
    let answer = raw.head().await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_protocol_but_websocket_goes_through() {
    let (drp, hydrant) = front("").await;
    let mut raw = hydrant.dial().await;
    let asks = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n";
    let answer = head(&mut raw, "GET", "/ui/", asks).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let got = drp.last("/ui/");
    assert_eq!((got.header("upgrade"), got.header("http2-settings"), got.header("connection")), ("", "", ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_request_comes_from_can_be_left_out() {
    let (drp, hydrant) = front("forwarded_for = false\n").await;
    http::request(hydrant.address(), true, "GET", "/ui/", &[("x-forwarded-for", "10.0.0.1")], "").await;
    let got = drp.last("/ui/");
    assert_eq!((got.header("x-forwarded-for"), got.header("x-forwarded-proto")), ("", "https"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_endpoint_is_stays_here_and_nothing_is_said_twice() {
    let (mut drp, hydrant) = front("").await;
    drp.stop().await;
    let message = http::request(hydrant.address(), true, "GET", "/ui/", &[], "").await.error(502);
    assert_eq!(message, "cannot reach the endpoint: Connection refused (os error 111)");
}

/// Every place among the strangers is held by a request that is being worked on: whoever comes is told to come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gets_no_place_is_told_when_to_come_again() {
    let drp = Drp::start().await;
    // A client that has gone is told from one that only waits when these are over.
    let times = "timeouts = { ping = \"500ms\", idle = \"1s\" }\nproxy = { idle = \"1s\" }";
    let settings = format!("limits = {{ pending_handshakes = 2 }}\n{times}\n{}", drp.settings());
    let hydrant = Hydrant::start(&settings).await;
    let mut held = Vec::new();
    for n in 1..=2 {
        let mut raw = hydrant.dial().await;
        raw.send(b"GET /silent HTTP/1.1\r\nHost: front\r\n\r\n").await;
        held.push(raw);
        hydrant.until("hydrant_proxy_requests_in_flight", n).await;
    }
    let mut raw = hydrant.dial().await;
    let answer = raw.head().await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: 1\r\n"), "{answer}");
    let mut body = String::new();
    patiently("the end", raw.0.read_to_string(&mut body)).await.unwrap();
    assert!(body.contains("too many connections"), "{body}");
    drop(raw.0.shutdown().await);
    held.remove(0);
    let again = async {
        while Http::connect(hydrant.address(), false)
            .await
            .try_request("GET", "/ui/", &[], "")
            .await
            .is_none_or(|reply| reply.status != 200)
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    patiently("a place", again).await;
}

/// A client that is gone with half of its body holds no place at the endpoint for as long as one that only rests may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_ends_in_the_middle_of_a_body_gives_its_place_back() {
    let drp = Drp::start().await;
    let hydrant = Hydrant::start(&format!("[proxy]\nidle = \"1h\"\n{}", drp.settings())).await;
    let mut raw = hydrant.dial().await;
    raw.send(b"POST /sink HTTP/1.1\r\nHost: front\r\nContent-Length: 1000\r\n\r\nhello").await;
    hydrant.until("hydrant_proxy_requests_in_flight", 1).await;
    raw.0.shutdown().await.unwrap();
    let answer = raw.head().await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    hydrant.until("hydrant_proxy_requests_in_flight", 0).await;
}

/// A client that does not read on is given up: what could not be handed to it may not be missing in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_on_gives_its_place_back() {
    let drp = Drp::start().await;
    let hydrant =
        Hydrant::start(&format!("timeouts = {{ idle = \"10m\" }}\n[proxy]\nidle = \"500ms\"\n{}", drp.settings()))
            .await;
    let (_download, status) = hold(&hydrant, "").await;
    assert_eq!(status, "200");
    hydrant.until("hydrant_proxy_cut_off_total{side=\"client\"}", 1).await;
    hydrant.until("hydrant_proxy_requests_in_flight", 0).await;
}

/// A page of another origin uses a hydrant in front of an endpoint that knows nothing of origins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_may_use_the_endpoint_too() {
    let (drp, hydrant) = front("").await;
    let machine = format!("/api/v3/machines/{MACHINE}");
    let origin = ("origin", "https://portal.rackn.io");
    let asks = [origin, ("access-control-request-method", "PATCH")];
    let leave = http::request(hydrant.address(), true, "OPTIONS", &machine, &asks, "").await;
    assert_eq!((leave.status.as_u16(), leave.header("access-control-allow-origin")), (204, "*"));
    assert!(drp.take().iter().all(|got| got.method != "OPTIONS"), "the endpoint was asked");
    let headers = [origin, ("authorization", &*basic(LOGIN))];
    let reply = http::request(hydrant.address(), true, "GET", &machine, &headers, "").await;
    assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin")), (200, "*"));
    let page = http::request(hydrant.address(), true, "GET", "/ui/", &[origin], "").await;
    assert_eq!(page.header("access-control-allow-origin"), "", "outside of the API nothing is hydrant's own");
}

/// A download that gets on is no connection that makes nothing of its place, however long it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_gets_on_loses_its_place_to_nobody() {
    let (_drp, hydrant) = front("[limits]\npending_handshakes = 2\n").await;
    let (mut download, status) = hold(&hydrant, "").await;
    assert_eq!(status, "200");
    let _silent = tokio::net::TcpStream::connect(hydrant.address()).await.unwrap();
    let mut some = vec![0; 256 << 10];
    // For longer than a request may take to come whole.
    let end = tokio::time::Instant::now() + Duration::from_millis(2_500);
    while tokio::time::Instant::now() < end {
        patiently("the download", download.0.read_exact(&mut some)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (_newcomer, status) = hold(&hydrant, "").await;
    assert_eq!(status, "200", "the silent one makes room");
    for _ in 0..64 {
        patiently("the download", download.0.read_exact(&mut some)).await.unwrap();
    }
}

/// An early answer that takes longer than the body was to be held back, and than a client may take over its body. The
/// client may be held up for as long between two reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_the_endpoint_does_not_want_is_not_asked_for_while_its_answer_is_read() {
    const SIZE: usize = 48 << 20;
    let (_drp, hydrant) = front("idle = \"4s\"\n").await;
    let mut raw = hydrant.dial().await;
    let headers = "Expect: 100-continue\r\nContent-Length: 4194304\r\n";
    let answer = head(&mut raw, "PUT", &format!("/refuse/{SIZE}"), headers).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let mut some = vec![0; 256 << 10];
    let mut read = 0;
    for _ in 0..60 {
        patiently("a part", raw.0.read_exact(&mut some)).await.unwrap();
        read += some.len();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut rest = Vec::new();
    patiently("the rest", raw.0.read_to_end(&mut rest)).await.unwrap();
    assert!(read + rest.len() >= SIZE, "{} of {SIZE} bytes", read + rest.len());
}

/// A part of an answer, 16 KiB, takes a slow client longer than it may accept nothing. The kernel reports progress only
/// every five reads or so, so on a busy machine it may look as if there were none: one of five downloads must be whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_is_slow_is_not_taken_for_one_that_stands_still() {
    const SIZE: usize = 1 << 20;
    let drp = Drp::start().await;
    let toml = format!("[limits]\nsocket_buffer = \"8KiB\"\n[proxy]\nidle = \"3s\"\n{}", drp.settings());
    let hydrant = Hydrant::start(&toml).await;
    let mut read = Vec::new();
    while read.last().is_none_or(|read| *read < SIZE) {
        assert!(read.len() < 5, "of {SIZE} bytes came {read:?}");
        read.push(download_slowly(&hydrant, SIZE).await);
    }
}

/// Downloads slowly at first. Returns the number of bytes that came.
async fn download_slowly(hydrant: &Hydrant, size: usize) -> usize {
    let mut raw = Raw(socket::connect_narrow(hydrant.address(), false).await);
    let answer = head(&mut raw, "GET", &format!("/blob/{size}"), "Connection: close\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (mut some, mut read) = (vec![0; 1 << 10], 0);
    for _ in 0..50 {
        if patiently("a part", raw.0.read_exact(&mut some)).await.is_err() {
            return read;
        }
        read += some.len();
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let mut rest = Vec::new();
    // What came before an error counts.
    drop(patiently("the rest", raw.0.read_to_end(&mut rest)).await);
    read + rest.len()
}

/// The only place is that of the answer itself: nothing else can be asked before it is complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_place_no_answer_waits_for_a_second_one() {
    let drp = Drp::start().await;
    let settings = format!("{}[auth]\nmode = \"local\"\n[proxy]\nrequests = 1\nconnect = \"1h\"\n", drp.settings());
    let hydrant = Hydrant::start_tls(&settings).await;
    // Longer than what is read ahead.
    let role = serde_json::json!({"Name": "long", "Description": "x".repeat(1 << 20), "Claims": []});
    drp.state.roles.lock().as_array_mut().unwrap().push(role);
    let credential = basic(LOGIN);
    let headers = [("authorization", credential.as_str())];
    let asked =
        (0..5).map(async |_| http::request(hydrant.address(), true, "GET", "/api/v3/roles", &headers, "").await);
    let answers = patiently("the answers", join_all(asked)).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body.len() > 1 << 20));
}

/// An answer that is not read holds a place for as long as its client likes, whoever that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_network_of_known_callers_leaves_places_to_others() {
    let (_drp, hydrant) = behind_a_proxy().await;
    let credential = format!("Authorization: {}\r\n", basic(LOGIN));
    let (first, second) =
        (credential.clone() + "X-Forwarded-For: 192.0.2.1\r\n", credential + "X-Forwarded-For: 198.51.100.1\r\n");
    let shown = head(&mut hydrant.dial().await, "GET", "/api/v3/public", &first).await;
    assert!(shown.starts_with("HTTP/1.1 204 "), "{shown}");
    let (mut held, mut statuses) = (Vec::new(), Vec::new());
    for headers in [&first, &first, &first, &second] {
        let (raw, status) = hold(&hydrant, headers).await;
        held.push(raw);
        statuses.push(status);
    }
    assert_eq!(statuses, ["200", "200", "503", "200"]);
}

/// Who was removed at the endpoint loses its websocket, even if somebody holds every place there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hydrant_needs_to_know_waits_for_no_client() {
    let drp = Drp::start().await;
    drp.state.users.lock().insert("alice".to_owned(), User::new("wonderland", &[]));
    let hydrant = Hydrant::start_tls(&format!("{}[proxy]\nrequests = 1\n", drp.settings())).await;
    let mut alice = by_password(&hydrant, "alice:wonderland").await.unwrap();
    let (_held, status) = hold(&hydrant, "").await;
    assert_eq!(status, "200");
    drp.state.users.lock().remove("alice");
    told(&drp, &hydrant, "users", "delete", "alice").await;
    assert_eq!(alice.closed().await.0, 1008);
}

/// An answer that hydrant adds to is not under way for less long than others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_info_that_nobody_reads_holds_its_place() {
    let drp = Drp::start().await;
    drp.state.padding.store(1_000_000, Ordering::Relaxed);
    let small = "[limits]\nsocket_buffer = \"8KiB\"\n";
    let toml = format!("{small}{}[proxy]\nrequests = 1\nconnect = \"500ms\"\n", drp.settings());
    let hydrant = Hydrant::start(&toml).await;
    let mut raw = Raw(socket::connect_narrow(hydrant.address(), false).await);
    let credential = format!("Authorization: {}\r\nConnection: close\r\n", basic(LOGIN));
    let answer = head(&mut raw, "GET", "/api/v3/info", &credential).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("content-length: 10"), "{answer}");
    assert_eq!(hold(&hydrant, "").await.1, "503");
    let mut rest = String::new();
    patiently("the rest", raw.0.read_to_string(&mut rest)).await.unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&rest).unwrap()["features"].is_array());
    hydrant.until("hydrant_proxy_requests_in_flight", 0).await;
    let head = head(&mut hydrant.dial().await, "HEAD", "/api/v3/info", &credential).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-length: 10"), "{head}");
}

/// A token may be good for other things.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_may_not_read_the_info_is_not_checked_with_every_request() {
    let (drp, hydrant) = front("").await;
    *drp.state.refuses.lock() = ("info", 403);
    let (credential, mut raw) = (format!("Authorization: {}\r\n", basic(LOGIN)), hydrant.dial().await);
    for _ in 0..3 {
        let answer = head(&mut raw, "GET", "/api/v3/public", &credential).await;
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    }
    assert_eq!(drp.asked("/api/v3/info"), 1);
}

/// Somebody else's invented credentials wait to be checked, more than the endpoint refuses in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invented_credentials_keep_no_other_network_from_being_known() {
    let (drp, hydrant) = behind_a_proxy().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let (raw, status) = hold(&hydrant, "").await;
        assert_eq!(status, "200");
        held.push(raw);
    }
    drp.state.refuses_after.store(250, Ordering::Relaxed);
    let (address, machine) = (hydrant.address(), format!("/api/v3/machines/{MACHINE}"));
    let mut invented = JoinSet::new();
    for number in 0..100 {
        let (machine, credential) = (machine.clone(), format!("Bearer invented-{number}"));
        invented.spawn(async move {
            let headers = [("authorization", credential.as_str()), ("x-forwarded-for", "192.0.2.1")];
            http::request(address, true, "GET", &machine, &headers, "").await
        });
    }
    hydrant.until_that("hydrant_proxy_requests_in_flight", |requests| requests > 60).await;
    let headers = [("authorization", &*basic(LOGIN)), ("x-forwarded-for", "198.51.100.1")];
    let answer = http::request(address, true, "GET", &machine, &headers, "").await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
}

/// The endpoint answers at once and waits for the rest before it closes, as Go's server does with short bodies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_answered_before_the_end_of_its_body_keeps_no_connection() {
    let (drp, hydrant) = front("").await;
    for _ in 0..6 {
        let mut raw = hydrant.dial().await;
        let answer = head(&mut raw, "POST", "/forbidden", "Content-Length: 200000\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("connection: close\r\n"), "{answer}");
        patiently("the endpoint to notice", drp.state.abandoned.notified()).await;
        let mut rest = Vec::new();
        patiently("the end", raw.0.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.ends_with(b"no"), "{rest:?}");
    }
}

/// Sends on until nothing more is taken.
async fn fill(raw: &mut Raw) {
    let chunk = vec![b'x'; 64 << 10];
    let mut sending = async || tokio::time::timeout(Duration::from_millis(700), raw.0.write_all(&chunk)).await;
    while let Ok(sent) = sending().await {
        sent.unwrap();
    }
}

/// The endpoint answers, and neither reads on nor closes: a connection to it that is stuck counts until it ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_nobody_reads_after_its_answer_holds_its_place_and_not_for_ever() {
    let drp = Drp::start().await;
    // It is looked at while it is stuck, however slow the machine is.
    let proxy = "[proxy]\nrequests = 1\nconnect = \"300ms\"\nidle = \"12s\"\n";
    let hydrant = Hydrant::start_tls(&format!("{}[auth]\nmode = \"local\"\n{proxy}", drp.settings())).await;
    let mut raw = hydrant.dial().await;
    raw.send(b"POST /forbidden/unread HTTP/1.1\r\nHost: front\r\nContent-Length: 1000000000\r\n\r\n").await;
    fill(&mut raw).await;
    drp.state.reads_on.notify_one();
    let answer = raw.head().await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let ask = async || http::request(hydrant.address(), true, "GET", "/ui/", &[], "").await.status.as_u16();
    assert_eq!(ask().await, 503, "the connection is still there");
    patiently("the place", async { while ask().await != 200 {} }).await;
}
