//! What is not hydrant's own goes to the endpoint and comes back unchanged.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::common::http::Http;
use crate::common::{Hydrant, JSON, LOGIN, basic, http, patiently, socket};
use crate::endpoint::{Drp, MACHINE, User};

/// An endpoint and a hydrant in front of it.
async fn front(toml: &str) -> (Drp, Hydrant) {
    let drp = Drp::start().await;
    let hydrant = Hydrant::start_tls(&format!("{toml}{}[auth]\nmode = \"local\"\n", drp.settings())).await;
    (drp, hydrant)
}

async fn get(hydrant: &Hydrant, path: &str, headers: &[(&str, &str)]) -> http::Reply {
    http::request(hydrant.address(), true, "GET", path, headers, "").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_arrive_as_they_were_sent() {
    let (drp, hydrant) = front("").await;
    let headers = [
        ("authorization", &*basic(LOGIN)),
        ("x-log-request", "debug"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("tracestate", "a=1,b=2"),
        ("connection", "x-secret-hop"),
        ("x-secret-hop", "1"),
        ("te", "trailers"),
        ("proxy-authorization", "Basic eA=="),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-host", "evil"),
    ];
    let path = format!("/api/v3/machines/{MACHINE}?slim=Params&decode=true");
    let reply = get(&hydrant, &path, &headers).await;
    assert_eq!((reply.status, reply.json()["Name"].as_str()), (StatusCode::OK, Some("john")));
    let got = drp.last(&path);
    assert_eq!(got.header("authorization"), basic(LOGIN));
    assert_eq!(got.header("host"), drp.address.to_string());
    assert_eq!(got.header("x-log-request"), "debug");
    assert_eq!(got.header("traceparent"), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    assert_eq!(got.header("tracestate"), "a=1,b=2");
    assert_eq!(got.header("x-forwarded-for"), "10.0.0.1, 127.0.0.1");
    assert_eq!(got.header("x-forwarded-proto"), "https");
    assert_eq!(got.header("x-forwarded-host"), hydrant.address().to_string());
    assert_eq!(got.header("via"), "1.1 hydrant");
    for name in ["x-secret-hop", "te", "proxy-authorization", "connection", "transfer-encoding"] {
        assert_eq!(got.header(name), "", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_back_as_they_were() {
    let (_drp, hydrant) = front("").await;
    let teapot = get(&hydrant, "/teapot", &[]).await;
    assert_eq!((teapot.status.as_u16(), teapot.body.as_str()), (418, "no coffee"));
    let cookies: Vec<&str> = teapot.headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap()).collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!((teapot.header("x-hop"), teapot.header("keep-alive")), ("", ""));
    assert_eq!(get(&hydrant, "/ui/", &[]).await.header("content-type"), "text/html");

    // DRP's own refusals: an empty body stays empty, a DRP Error stays that one.
    let none = get(&hydrant, "/api/v3/machines", &[]).await;
    assert_eq!((none.status.as_u16(), none.body.as_str()), (401, ""));
    assert_eq!(none.header("www-authenticate"), "dr-provision");
    let wrong = get(&hydrant, "/api/v3/machines", &[("authorization", &basic("rocketskates:no"))]).await;
    assert_eq!((wrong.status.as_u16(), wrong.body.as_str()), (403, ""));
    let missing = get(&hydrant, "/api/v3/machines/x", &[("authorization", &basic(LOGIN))]).await;
    assert_eq!(missing.body, r#"{"Code":404,"Key":"x","Messages":["Not Found"],"Model":"","Type":"GET"}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_without_a_body_leave_the_connection_usable() {
    let (_drp, hydrant) = front("").await;
    let mut kept = Http::connect(hydrant.address(), true).await;
    for round in 0..3 {
        let empty = kept.request("GET", "/empty", &[], "").await;
        assert_eq!((empty.status.as_u16(), empty.header("content-type")), (204, ""), "{round}");
        let unchanged = kept.request("GET", "/unchanged", &[], "").await;
        assert_eq!((unchanged.status.as_u16(), unchanged.header("etag")), (304, "\"x\""));
        let head = kept.request("HEAD", "/ui/", &[], "").await;
        assert_eq!((head.status.as_u16(), head.header("content-length"), head.body.as_str()), (200, "13", ""));
        let whole = kept.request("GET", "/ui/", &[], "").await;
        assert_eq!(whole.body, "<html></html>");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_in_the_query_is_handed_on() {
    let (drp, hydrant) = front("").await;
    let path = format!("/api/v3/machines/{MACHINE}?token=rocketskates:r0cketsk8ts");
    assert_eq!(get(&hydrant, &path, &[]).await.status, StatusCode::OK);
    assert_eq!(drp.last(&path).header("authorization"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_away_is_told_as_a_drp_error() {
    let (mut drp, hydrant) = front("").await;
    let mut kept = Http::connect(hydrant.address(), true).await;
    assert_eq!(kept.request("GET", "/ui/", &[], "").await.status, StatusCode::OK);
    drp.stop().await;
    // A connection to the endpoint that was kept may be found broken first.
    let mut message = String::new();
    while !message.contains("cannot reach") {
        message = kept.request("GET", "/ui/?token=canary", &[], "").await.error(502);
        assert!(!message.contains("canary"), "{message}");
    }
    drp.resume().await;
    assert_eq!(kept.request("GET", "/ui/", &[], "").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_says_nothing_is_waited_for_and_no_longer() {
    let (drp, hydrant) = front("[proxy]\nanswer = \"200ms\"\n").await;
    let message = get(&hydrant, "/silent", &[]).await.error(504);
    assert!(message.contains("did not answer within"), "{message}");
    patiently("the end of the request", drp.state.abandoned.notified()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_requests_than_allowed_are_told_to_come_again() {
    let times = "[timeouts]\nping = \"500ms\"\nidle = \"1s\"\n";
    let (_drp, hydrant) = front(&format!("{times}[proxy]\nidle = \"1s\"\nrequests = 1\nconnect = \"3s\"\n")).await;
    let mut first = Http::connect(hydrant.address(), true).await;
    let waiting = tokio::spawn(async move { first.request("GET", "/silent", &[], "").await });
    hydrant.until("hydrant_proxy_requests_in_flight", 1).await;
    let refusal = get(&hydrant, "/ui/", &[]).await;
    assert!(refusal.error(503).contains("too many requests"));
    assert_eq!(refusal.header("retry-after"), "1");
    waiting.abort();
    // The one that waited is gone, and its place is free.
    let again = async { while get(&hydrant, "/ui/", &[]).await.status != StatusCode::OK {} };
    patiently("the place", again).await;
}

/// A connection on which bodies are streamed.
async fn streaming<B>(hydrant: &Hydrant, request: Request<B>) -> Response<hyper::body::Incoming>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let socket = socket::connect(hydrant.address(), true).await;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    patiently("an answer", sender.send_request(request)).await.unwrap()
}

fn request(method: &str, path: &str) -> hyper::http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "front")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_is_not_taken_for_whole() {
    let (_drp, hydrant) = front("[proxy]\nidle = \"300ms\"\n").await;
    for path in ["/cut", "/stalling"] {
        let answer = streaming(&hydrant, request("GET", path).body(String::new()).unwrap()).await;
        assert_eq!(answer.headers()["content-length"], "1000");
        assert!(patiently("the end", answer.into_body().collect()).await.is_err(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_in_the_middle_is_no_more_waited_for() {
    // Who has gone cannot be told from who has only ended its side, which is waited for as long as these say.
    let times = "[timeouts]\nping = \"500ms\"\nidle = \"1s\"\n[proxy]\nrequests = 1\nidle = \"1s\"\n";
    let (drp, hydrant) = front(times).await;
    // While a body comes down: first one that flows, then one that does not.
    for path in ["/blob/1000000000", "/stalling", "/silent"] {
        let socket = socket::connect(hydrant.address(), true).await;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        let connection = tokio::spawn(connection);
        let sending = sender.send_request(request("GET", path).body(String::new()).unwrap());
        if path == "/silent" {
            let arrived = async {
                while !drp.take().iter().any(|got| got.target == path) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! { _ = sending => panic!("answered"), () = arrived => {} }
        } else {
            let mut body = patiently("an answer", sending).await.unwrap().into_body();
            assert!(patiently("a part", body.frame()).await.is_some());
        }
        connection.abort();
        patiently("the endpoint to notice", drp.state.abandoned.notified()).await;
    }
    // While a body goes up.
    let (feed, frames) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
    let frames = futures_util::stream::unfold(frames, |mut frames| async move { Some((frames.recv().await?, frames)) });
    let socket = socket::connect(hydrant.address(), true).await;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
    let connection = tokio::spawn(connection);
    let sending = sender.send_request(request("PUT", "/sink").body(StreamBody::new(Box::pin(frames))).unwrap());
    let sending = tokio::spawn(sending);
    feed.send(Ok(Frame::data(Bytes::from_static(&[0; 4096])))).await.unwrap();
    let came = async {
        while drp.state.received.load(Ordering::Relaxed) < 4096 {
            tokio::task::yield_now().await;
        }
    };
    patiently("the first part", came).await;
    connection.abort();
    patiently("the endpoint to notice", drp.state.abandoned.notified()).await;
    sending.abort();
    assert_eq!(get(&hydrant, "/ui/", &[]).await.status, StatusCode::OK);
}

/// It may name a length beside its chunks, or speak an older HTTP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_framed_by_hydrant() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") && socket.read_buf(&mut head).await.is_ok_and(|count| count > 0)
                    {
                    }
                    let _ = socket.write_all(answer.as_bytes()).await;
                    let _ = socket.shutdown().await;
                    // A socket with something unread would be reset, and its answer with it.
                    let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
                });
            }
        });
        let upstream = format!("[upstream]\nurls = [\"http://{address}\"]\ntoken = \"t\"\n");
        let hydrant = Hydrant::start(&format!("{upstream}[auth]\nmode = \"local\"\n")).await;
        let reply = http::request(hydrant.address(), false, "GET", "/ui/", &[], "").await;
        assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "hello"), "{answer}");
        let mut raw = hydrant.dial().await;
        raw.send(b"GET /ui/ HTTP/1.1\r\nHost: front\r\n\r\n").await;
        let head = patiently("an answer", raw.head()).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_stands_still_gives_its_place_back() {
    let (drp, hydrant) = front("[proxy]\nrequests = 1\nidle = \"2s\"\n").await;
    let mut raw = hydrant.dial().await;
    raw.send(b"PUT /sink HTTP/1.1\r\nHost: front\r\nContent-Length: 1000\r\n\r\nhello").await;
    let answer = patiently("the end of the wait", raw.head()).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    patiently("the endpoint to notice", drp.state.abandoned.notified()).await;
    assert_eq!(get(&hydrant, "/ui/", &[]).await.status, StatusCode::OK);
}

/// For ever a part that can be sent at once.
fn endless() -> StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, std::io::Error>>> {
    StreamBody::new(futures_util::stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[0; 16_384])))))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_does_not_read_on_keeps_no_place() {
    let (drp, hydrant) = front("[proxy]\nrequests = 1\nidle = \"2s\"\nanswer = \"1h\"\n").await;
    let answer = streaming(&hydrant, request("PUT", "/unread").body(endless()).unwrap()).await;
    assert_eq!(answer.status().as_u16(), 504);
    assert_eq!(get(&hydrant, "/ui/", &[]).await.status, StatusCode::OK);
    // What was under way comes, and then the connection ends.
    drp.state.reads_on.notify_one();
    patiently("the endpoint to notice", drp.state.abandoned.notified()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_a_path_steers_the_own_credential() {
    let (drp, hydrant) = front("").await;
    // As it should be: the path that was judged, whatever its spelling.
    let path = format!("/api/v3/machines/{MACHINE}/connections");
    hydrant.request("GET", &path.replace("machines", "m%61chines"), &[], "").await;
    assert_eq!(drp.last(&path).header("authorization"), basic(LOGIN));
    drp.take();
    for key in [
        "%2e%2e",
        ".%2E",
        "..",
        "%2e",
        "",
        "a%2f..%2fb",
        "a%5c..%5cb",
        "%252e%252e",
        "..%3bx",
        "a%3fb",
        "a%23b",
        "%c0%ae%c0%ae",
    ] {
        for model in ["machines", "clusters", "resource_brokers"] {
            let path = format!("/api/v3/{model}/{key}/connections");
            assert_eq!(hydrant.request("GET", &path, &[], "").await.status, StatusCode::NOT_FOUND, "{path}");
        }
    }
    let steered: Vec<String> =
        drp.take().into_iter().map(|got| got.target).filter(|t| t.contains("connections")).collect();
    assert_eq!(steered, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_ca_file_lies_is_not_told() {
    let drp = Drp::start().await;
    let held = tempfile::tempdir().unwrap();
    let ca = held.path().join("canary.pem");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let settings = drp.settings().replace("tls = \"insecure\"", &format!("ca_file = {ca:?}"));
    let hydrant = Hydrant::start_tls(&format!("{settings}[auth]\nmode = \"local\"\n")).await;
    std::fs::remove_file(&ca).unwrap();
    let message = get(&hydrant, "/ui/", &[]).await.error(502);
    assert!(!message.contains("canary"), "{message}");
    assert!(message.contains("one of its files for this connection"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_goes_through() {
    let (_drp, hydrant) = front("").await;
    let ask = request("GET", "/switch").header("connection", "upgrade").header("upgrade", "websocket");
    let answer = streaming(&hydrant, ask.body(String::new()).unwrap()).await;
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.headers()["upgrade"], "websocket");
    let upgraded = patiently("the other protocol", hyper::upgrade::on(answer)).await.unwrap();
    let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
    let mut heard = [0; 5];
    for _ in 0..3 {
        patiently("a write", to.write_all(b"hello")).await.unwrap();
        patiently("the echo", from.read_exact(&mut heard)).await.unwrap();
        assert_eq!(&heard, b"hello");
    }
    patiently("the end", to.shutdown()).await.unwrap();
    assert_eq!(patiently("the end", from.read(&mut heard)).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_first_is_told_what_the_endpoint_says() {
    let (drp, hydrant) = front("").await;
    for (path, first) in [("/sink", "HTTP/1.1 100 "), ("/refusing", "HTTP/1.1 413 ")] {
        let mut raw = hydrant.dial().await;
        let head = format!("PUT {path} HTTP/1.1\r\nHost: front\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        raw.send(head.as_bytes()).await;
        let answer = raw.head().await;
        assert!(answer.starts_with(first), "{path}: {answer}");
        if path == "/sink" {
            raw.send(b"hello").await;
            let answer = raw.head().await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    }
    assert_eq!(drp.last("/sink").header("expect"), "100-continue");
    assert_eq!(drp.state.received.load(Ordering::Relaxed), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hydrants_own_paths_stay_its_own_and_the_rest_is_not() {
    let (drp, hydrant) = front("").await;
    let reply = hydrant.request("GET", "/api/v3/connections", &[], "").await.json();
    let (theirs, own): (Vec<_>, Vec<_>) =
        reply.as_array().unwrap().iter().partition(|one| one["RemoteAddr"] == "192.0.2.9:99");
    let endpoint = serde_json::json!(format!("https://{}", drp.address));
    assert!(theirs.len() == 1 && theirs[0]["Endpoint"] == endpoint, "{reply}");
    // The one that asks, and perhaps the one that has just got the token.
    assert!(!own.is_empty() && own.iter().all(|one| one["Endpoint"].is_null()), "{reply}");
    let theirs = hydrant.request("GET", "/api/v3/connections/192.0.2.9:99", &[], "").await.json();
    assert_eq!((&theirs["Principal"], &theirs["Endpoint"]), (&"user:other".into(), &endpoint));
    hydrant.request("DELETE", "/api/v3/connections/192.0.2.9:99", &[], "").await;
    assert_eq!(drp.last("/api/v3/connections/192.0.2.9:99").method, "DELETE");
    hydrant.request("GET", "/api/v3/connections/192.0.2.8:1", &[], "").await.error(404);
    // What somebody asks of another server must not be asked of this one.
    let mut raw = hydrant.dial().await;
    raw.send(b"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n").await;
    assert!(raw.head().await.starts_with("HTTP/1.1 404 "));
    let options = http::request(hydrant.address(), true, "OPTIONS", "/api/v3/events", &[], "").await;
    assert_eq!(options.status.as_u16(), 401, "it is the endpoint's to say who may from where");
    assert_eq!(drp.last("/api/v3/events").method, "OPTIONS");
    assert_eq!(options.header("content-type"), "", "{JSON} would be ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_types_of_the_endpoint_are_known_to_warnings() {
    let drp = Drp::start().await;
    let front = Hydrant::start_tls(&drp.settings()).await;
    let check = async |spec: &str| {
        let body = serde_json::json!({"Spec": spec}).to_string();
        let headers = [("content-type", JSON)];
        front.request("POST", "/api/v3/hydrant/check", &headers, &body).await.json()["Warnings"].to_string()
    };
    let known = async {
        while !check("dns_zone.update.*").await.contains("did you mean `dns_zones`?") {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    crate::common::patiently("the types of the endpoint", known).await;
    assert_eq!(check("dns_zones.update.*").await, "[]");
}

/// Every place may hold such an answer in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_info_that_is_too_long_is_not_added_to() {
    let (drp, hydrant) = front("").await;
    drp.state.padding.store(2 << 20, Ordering::Relaxed);
    let message = hydrant.request("GET", "/api/v3/info", &[], "").await.error(502);
    assert_eq!(message, "the answer of the endpoint is longer than 1048576 bytes");
}

/// What is added to is asked for with GET, whoever answers: otherwise there would be nothing to add to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_is_answered_as_get_is_where_both_have_a_part_of_the_answer() {
    let drp = Drp::start().await;
    drp.state.users.lock().insert("alice".to_owned(), User::new("wonder", &["superuser"]));
    for (mode, login) in [("local", LOGIN), ("upstream", "alice:wonder"), ("both", "alice:wonder"), ("both", LOGIN)] {
        let hydrant = Hydrant::start_tls(&format!("{}[auth]\nmode = \"{mode}\"\n", drp.settings())).await;
        for path in ["/api/v3/info", "/api/v3/connections?Principal=user:other"] {
            let ask = async |method| {
                http::request(hydrant.address(), true, method, path, &[("authorization", &basic(login))], "").await
            };
            let (get, head) = (ask("GET").await, ask("HEAD").await);
            assert_eq!(
                (get.status.as_u16(), head.status.as_u16(), &*head.body),
                (200, 200, ""),
                "{mode} {login}: {path}"
            );
            assert_eq!(head.header("content-type"), JSON, "{mode} {login}: {path}");
            let length = get.body.len().to_string();
            assert!(get.body.contains("12345678901234567890") || get.body.contains("user:other"), "{get:?}");
            assert_eq!(head.header("content-length"), length, "{mode} {login}: {path}");
        }
    }
}

/// Asks on a connection of its own; the head of the answer.
async fn head(hydrant: &Hydrant, request: &str) -> String {
    let mut raw = hydrant.dial().await;
    raw.send(format!("{request}\r\nHost: front\r\nConnection: close\r\n\r\n").as_bytes()).await;
    raw.head().await
}

/// hyper sends no body with a GET of unknown length unless it is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_chunks_arrives_whatever_the_method() {
    let (drp, hydrant) = front("").await;
    for method in ["GET", "DELETE", "POST"] {
        let before = drp.state.received.load(Ordering::Relaxed);
        let mut raw = hydrant.dial().await;
        let request = format!("{method} /sink HTTP/1.1\r\nHost: front\r\nTransfer-Encoding: chunked\r\n\r\n");
        raw.send((request + "5\r\nhello\r\n0\r\n\r\n").as_bytes()).await;
        let answer = raw.head().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(drp.state.received.load(Ordering::Relaxed) - before, 5, "{method}");
    }
}

/// A browser adds Basic credentials by itself: a page of another site must not change anything with them, and must not
/// read what it is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_page_does_nothing_at_the_endpoint_with_the_browsers_credentials() {
    let (drp, hydrant) = front("allowed_origins = [\"https://portal.example\"]\n").await;
    let (form, credentials) = ("access-control-allow-credentials", basic(LOGIN));
    let own = format!("https://{}", hydrant.address());
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
    for (origin, scheme, is_let) in [
        ("https://evil.example", credentials.as_str(), false),
        ("null", &credentials.replace("Basic", "bASIC"), false),
        ("https://evil.example", "Bearer x", true),
        ("https://portal.example", &credentials, true),
        (&own, &credentials, true),
        ("", &credentials, true),
    ] {
        let mut headers = vec![("authorization", scheme)];
        headers.extend((!origin.is_empty()).then_some(("origin", origin)));
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            drp.take();
            let reply = http::request(hydrant.address(), true, method, "/teapot", &headers, "a=b").await;
            assert_eq!(reply.status.as_u16(), if is_let { 418 } else { 403 }, "{method} {origin} {scheme}");
            let has_come = drp.take().iter().any(|got| got.target == "/teapot");
            assert_eq!(has_come, is_let, "{method} {origin} {scheme}");
        }
        let reply = get(&hydrant, "/teapot", &headers).await;
        assert_eq!((reply.status.as_u16(), reply.header(form) == "true"), (418, is_let), "{origin} {scheme}");
        headers.extend(upgrade);
        let reply = get(&hydrant, "/ui/", &headers).await;
        assert_eq!(reply.status.as_u16(), if is_let { 200 } else { 403 }, "{origin} {scheme}");
    }
}

/// A hydrant in front of an endpoint whose answers are these bytes. What follows them never comes.
async fn front_of(answer: &'static str) -> Hydrant {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let mut lines = BufReader::new(read).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if line.is_empty() && write.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let upstream = format!("[upstream]\nurls = [\"http://{address}\"]\nusername = \"a\"\npassword = \"b\"\n");
    Hydrant::start(&format!("{upstream}[auth]\nmode = \"local\"\n[proxy]\nidle = \"500ms\"\n")).await
}

/// Chunks go before a length; whoever goes by the length takes a part for the whole, or waits for more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_length_that_contradicts_the_chunks_is_not_passed_on() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 300\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let hydrant = front_of(answer).await;
        let reply = http::request(hydrant.address(), false, "GET", "/ui/", &[], "").await;
        assert_eq!((reply.body.as_str(), reply.header("content-length")), ("hello", ""));
    }
}

/// An answer of HTTP/1.0 ends with its connection, so that nobody could tell a part of it from the whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_has_hydrants_own_version() {
    let hydrant = front_of("HTTP/1.0 200 OK\r\n\r\nhalf").await;
    let mut raw = hydrant.dial().await;
    raw.send(b"GET /ui/ HTTP/1.1\r\nHost: front\r\n\r\n").await;
    let answer = raw.head().await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("transfer-encoding: chunked\r\n"), "{answer}");
    let mut rest = Vec::new();
    // How it ends is another matter.
    drop(patiently("the end", raw.0.read_to_end(&mut rest)).await);
    assert!(rest.starts_with(b"4\r\nhalf\r\n") && !rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    let old = head(&hydrant, "GET /ui/ HTTP/1.0").await;
    assert!(old.starts_with("HTTP/1.0 200 "), "{old}");
}
