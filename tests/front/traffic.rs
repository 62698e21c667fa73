//! What the metrics say of requests that go through.

use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::http::Http;
use crate::common::{Hydrant, LOGIN, basic, http, patiently, socket};
use crate::endpoint::{Drp, MACHINE};

async fn front(toml: &str) -> (Drp, Hydrant) {
    let drp = Drp::start().await;
    let hydrant = Hydrant::start_tls(&format!("{toml}{}[auth]\nmode = \"local\"\n", drp.settings())).await;
    (drp, hydrant)
}

fn requests(class: &str, outcome: &str) -> String {
    format!("hydrant_proxy_requests_total{{class=\"{class}\",outcome=\"{outcome}\"}}")
}

fn bytes(direction: &str) -> String {
    format!("hydrant_proxy_bytes_total{{direction=\"{direction}\"}}")
}

const IN_FLIGHT: &str = "hydrant_proxy_requests_in_flight";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_counted_by_class_and_outcome_and_bodies_by_their_bytes() {
    let (_drp, hydrant) = front("").await;
    let mut kept = Http::connect(hydrant.address(), true).await;
    let login = basic(LOGIN);
    let machine = format!("/api/v3/machines/{MACHINE}");
    let shown = kept.request("GET", &machine, &[("authorization", &login)], "").await;
    kept.request("GET", "/api/v3/machines/none", &[("authorization", &login)], "").await.error(404);
    let sunk = kept.request("PUT", "/sink", &[], "hello").await;
    let coffee = kept.request("GET", "/teapot", &[], "").await;
    kept.request("GET", "/unchanged", &[], "").await;
    let one_each = [("api", "2xx"), ("api", "4xx"), ("other", "2xx"), ("other", "4xx"), ("other", "3xx")];
    for (class, outcome) in one_each {
        assert_eq!(hydrant.metric(&requests(class, outcome)).await, 1, "{class} {outcome}");
    }
    assert_eq!(hydrant.metric("hydrant_proxy_answer_seconds_count").await, 5);
    hydrant.until(IN_FLIGHT, 0).await;
    assert_eq!(hydrant.metric(&bytes("up")).await, 5);
    let down = hydrant.metric(&bytes("down")).await;
    let seen = shown.body.len() + sunk.body.len() + coffee.body.len();
    assert!(down > seen as u64, "{down} bytes down, {seen} of them in three answers of four");

    // What hydrant answers itself is no request for the endpoint.
    let before = hydrant.metric("hydrant_proxy_answer_seconds_count").await;
    hydrant.request("POST", "/api/v3/events", &[], "{}").await;
    assert_eq!(hydrant.metric("hydrant_proxy_answer_seconds_count").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_is_under_way_until_it_ends() {
    let (_drp, hydrant) = front("").await;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(socket::connect(hydrant.address(), true).await)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let ask =
        Request::get("/switch").header("host", "front").header("connection", "upgrade").header("upgrade", "websocket");
    let answer = patiently("an answer", sender.send_request(ask.body(String::new()).unwrap())).await.unwrap();
    let mut tunnel = TokioIo::new(patiently("the other protocol", hyper::upgrade::on(answer)).await.unwrap());
    patiently("a write", tunnel.write_all(b"hello")).await.unwrap();
    patiently("the echo", tunnel.read_exact(&mut [0; 5])).await.unwrap();
    assert_eq!(hydrant.metric(&requests("upgrade", "1xx")).await, 1);
    assert_eq!(hydrant.metric(IN_FLIGHT).await, 1);
    hydrant.until(&bytes("up"), 5).await;
    hydrant.until(&bytes("down"), 5).await;
    patiently("the end", tunnel.shutdown()).await.unwrap();
    patiently("the end", tunnel.read(&mut [0; 1])).await.unwrap();
    hydrant.until(IN_FLIGHT, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_come_is_counted_as_late() {
    let (_drp, hydrant) = front("[proxy]\nanswer = \"500ms\"\n").await;
    let late = http::request(hydrant.address(), true, "GET", "/silent", &[], "").await;
    assert_eq!(late.status.as_u16(), 504);
    assert_eq!(hydrant.metric(&requests("other", "late")).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_to_nothing_is_counted_by_what_was_the_matter() {
    let settings =
        "[timeouts]\nping = \"500ms\"\nidle = \"1s\"\n[proxy]\nrequests = 1\nconnect = \"3s\"\nidle = \"1s\"\n";
    let (mut drp, hydrant) = front(settings).await;
    let get = async |path: &'static str| http::request(hydrant.address(), true, "GET", path, &[], "").await;
    // A client that comes while the only place is taken, one that goes before the answer, one that does not send on.
    let mut raw = hydrant.dial().await;
    raw.send(b"GET /silent HTTP/1.1\r\nHost: front\r\n\r\n").await;
    hydrant.until(IN_FLIGHT, 1).await;
    assert_eq!(get("/ui/").await.status.as_u16(), 503);
    assert_eq!(hydrant.metric(&requests("other", "busy")).await, 1);
    drop(raw);
    hydrant.until(&requests("other", "gone"), 1).await;
    hydrant.until(IN_FLIGHT, 0).await;
    let mut raw = hydrant.dial().await;
    raw.send(b"PUT /sink HTTP/1.1\r\nHost: front\r\nContent-Length: 1000\r\n\r\nhello").await;
    assert!(patiently("the end of the wait", raw.head()).await.starts_with("HTTP/1.1 408 "));
    assert_eq!(hydrant.metric(&requests("other", "stalled")).await, 1);

    // Answers that end in the middle, by either side.
    let mut raw = hydrant.dial().await;
    raw.send(b"GET /cut HTTP/1.1\r\nHost: front\r\n\r\n").await;
    hydrant.until("hydrant_proxy_cut_off_total{side=\"endpoint\"}", 1).await;
    let mut raw = hydrant.dial().await;
    raw.send(b"GET /blob/1000000000 HTTP/1.1\r\nHost: front\r\n\r\n").await;
    raw.head().await;
    drop(raw);
    hydrant.until("hydrant_proxy_cut_off_total{side=\"client\"}", 1).await;

    drp.stop().await;
    // A connection that was kept may be found broken first.
    let refused = async {
        while hydrant.metric(&requests("other", "unreachable")).await == 0 {
            get("/ui/").await.error(502);
        }
    };
    patiently("a connection that is refused", refused).await;
    hydrant.until(IN_FLIGHT, 0).await;
}
