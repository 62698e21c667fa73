//! What stands before the server: proxies that tell of their clients, balancers that watch it end, clients that close
//! half, and requests that are none.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::http::Http;
use crate::common::raw::Raw;
use crate::common::ws::Show;
use crate::common::{Hydrant, JSON, LOGIN, PATIENCE, basic, event, http, patiently, socket};

const TRUSTING: &str = "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]";

/// The addresses of all connections of a kind, as operators see them.
async fn addresses(server: &Hydrant, kind: &str) -> Vec<SocketAddr> {
    let all = server.request("GET", &format!("/api/v3/connections?Type={kind}"), &[], "").await.json();
    let address = |one: &serde_json::Value| one["RemoteAddr"].as_str().unwrap().parse().unwrap();
    all.as_array().unwrap().iter().map(address).collect()
}

/// The addresses of so many websockets: a shard adopts them after their handshakes were answered.
async fn websockets(server: &Hydrant, count: usize) -> Vec<SocketAddr> {
    let listed = async {
        loop {
            let all = addresses(server, "websocket").await;
            if all.len() == count {
                return all;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, listed).await.expect("they are listed")
}

fn ips(addresses: &[SocketAddr]) -> Vec<String> {
    let mut all: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    all.sort();
    all.dedup();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_proxy_tells_who_its_client_is() {
    let server = Hydrant::start(TRUSTING).await;
    let bearer = format!("Bearer {}", server.token().await);
    let headers = [("x-forwarded-for", "203.0.113.9, 192.0.2.1, 10.1.1.1")];
    let client = server.try_connect(&Show::Header(&bearer), &headers).await.unwrap();
    let websockets = websockets(&server, 1).await;
    assert_eq!(ips(&websockets), ["192.0.2.1"]);
    let path = format!("/api/v3/connections/{}", websockets[0]);
    assert_eq!(server.request("GET", &path, &[], "").await.json()["Type"], "websocket");
    // Several clients come on one connection of the proxy.
    let mut kept = Http::connect(server.address(), false).await;
    for client in ["192.0.2.2", "for=\"[2001:db8::3]:99\"", "192.0.2.2"] {
        let name = if client.starts_with("for") { "forwarded" } else { "x-forwarded-for" };
        let reply =
            kept.request("GET", "/api/v3/info", &[("authorization", bearer.as_str()), (name, client)], "").await;
        assert_eq!(reply.status.as_u16(), 200);
    }
    let api = addresses(&server, "api").await;
    assert!(api.contains(&"[2001:db8::3]:99".parse().unwrap()), "{api:?}");
    assert_eq!(api.iter().filter(|address| address.ip().to_string() == "192.0.2.2").count(), 1, "{api:?}");
    assert_eq!(server.request("DELETE", &path, &[], "").await.status.as_u16(), 200);
    drop((client, kept));
    let empty = async {
        while addresses(&server, "api").await.iter().any(|address| address.ip().to_string() != "127.0.0.1") {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    patiently("the proxy's clients to be gone", empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_is_believed() {
    let server = Hydrant::start("trusted_proxies = [\"10.0.0.0/8\"]").await;
    let bearer = format!("Bearer {}", server.token().await);
    let headers = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1")];
    let _client = server.try_connect(&Show::Header(&bearer), &headers).await.unwrap();
    assert_eq!(ips(&websockets(&server, 1).await), ["127.0.0.1"]);
    let server = Hydrant::start(TRUSTING).await;
    let bearer = format!("Bearer {}", server.token().await);
    let headers = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=203.0.113.9")];
    let _client = server.try_connect(&Show::Header(&bearer), &headers).await.unwrap();
    assert_eq!(ips(&websockets(&server, 1).await), ["127.0.0.1"], "one of the two is made up");
}

/// The status of a login whose client a proxy tells.
async fn login(server: &Hydrant, password: &str, client: &str) -> u16 {
    let authorization = basic(&format!("rocketskates:{password}"));
    let headers = [("authorization", authorization.as_str()), ("x-forwarded-for", client)];
    let reply = http::request(server.address(), server.tls, "GET", "/api/v3/info", &headers, "").await;
    reply.status.as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guesser_behind_a_proxy_locks_nobody_else_out() {
    let server = Hydrant::start(TRUSTING).await;
    let mut last = 0;
    for guess in 0..8 {
        last = login(&server, &format!("wrong-{guess}"), &format!("192.0.2.66, 203.0.113.{guess}")).await;
    }
    assert_eq!(last, 429, "a network of 256 addresses is one guesser");
    assert_eq!(login(&server, "r0cketsk8ts", "192.0.2.5").await, 200);
    // Who is not believed guesses as itself, whatever it says.
    let server = Hydrant::start("").await;
    for guess in 0..8 {
        last = login(&server, &format!("wrong-{guess}"), &format!("203.0.{guess}.1")).await;
    }
    assert_eq!(last, 429);
}

/// A connection that begins with this header, and the server's end of it.
async fn proxied(server: &Hydrant, header: &[u8]) -> Option<socket::Socket> {
    let address = server.server.addresses()[1];
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(header).await.unwrap();
    socket::try_over(stream, server.tls).await
}

const LISTENING: &str = "listen_proxy_protocol = [\"127.0.0.1:0\"]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_protocol_tells_who_the_client_is() {
    let settings = format!("{LISTENING}\n{TRUSTING}");
    for server in [Hydrant::start(&settings).await, Hydrant::start_tls(&settings).await] {
        let bearer = format!("Bearer {}", server.token().await);
        let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x08\x0a\x00\x00\x01\x10\x00\x01\xbb";
        let headers = [b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n".as_slice(), v2, b"PROXY UNKNOWN\r\n"];
        let mut clients = Vec::new();
        for header in headers {
            let socket = proxied(&server, header).await.unwrap();
            clients.push(server.handshake(socket, &Show::Header(&bearer), &[]).await.unwrap());
        }
        let all = websockets(&server, 3).await;
        assert_eq!(ips(&all), ["127.0.0.1", "192.0.2.7", "192.0.2.8"]);
        assert!(all.contains(&"192.0.2.7:4711".parse().unwrap()), "{all:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_with_the_proxy_protocol_takes_nothing_else() {
    let stranger = format!("{LISTENING}\ntrusted_proxies = [\"10.0.0.0/8\"]");
    let get = b"GET /api/v3/info HTTP/1.1\r\nHost: a\r\n\r\n".as_slice();
    let named = [b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n".as_slice(), get].concat();
    for (settings, sent) in [(format!("{LISTENING}\n{TRUSTING}"), get), (stranger, named.as_slice())] {
        let server = Hydrant::start(&settings).await;
        let Some(mut socket) = proxied(&server, sent).await else { continue };
        let mut answer = Vec::new();
        // A reset is an end too.
        let _ = patiently("the end", socket.read_to_end(&mut answer)).await;
        assert_eq!(String::from_utf8(answer).unwrap(), "");
        assert_eq!(server.metric("hydrant_handshakes_rejected_total{reason=\"bad_request\"}").await, 1);
        // On the other listener the header is no request.
        let mut raw = server.dial().await;
        raw.send(b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n\r\n").await;
        assert!(raw.head().await.starts_with("HTTP/1.1 400 "));
    }
}

/// Everything that comes until the server ends the connection: the head, and the body.
async fn to_the_end(raw: &mut Raw) -> (String, String) {
    let head = raw.head().await;
    let mut body = String::new();
    patiently("the end", raw.0.read_to_string(&mut body)).await.unwrap();
    (head, body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_half_is_answered() {
    for server in [Hydrant::start("").await, Hydrant::start_tls("").await] {
        let bearer = format!("Bearer {}", server.token().await);
        // A password takes its time, so that the end is there long before the answer.
        for authorization in [bearer.as_str(), &basic(LOGIN)] {
            for round in 0..10 {
                let mut raw = server.dial().await;
                let body = event("a", "b", &round.to_string());
                let head = format!(
                    "POST /api/v3/events HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n\
                     Content-Type: {JSON}\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                raw.send((head + &body).as_bytes()).await;
                raw.0.shutdown().await.unwrap();
                let (head, body) = to_the_end(&mut raw).await;
                assert!(head.starts_with("HTTP/1.1 204 ") && body.is_empty(), "{head}{body}");
            }
        }
    }
}

/// It may only have ended its own side, but the rest of its body does not come: 408, as for one that stands still,
/// would come much later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_ends_in_the_middle_of_its_body_is_not_waited_for() {
    for server in [Hydrant::start("").await, Hydrant::start_tls("").await] {
        let mut raw = server.dial().await;
        let authorization = format!("Bearer {}", server.token().await);
        let head = format!(
            "POST /api/v3/events HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\nContent-Type: {JSON}\r\n\
             Content-Length: 1000\r\n\r\n{{",
        );
        raw.send(head.as_bytes()).await;
        raw.0.shutdown().await.unwrap();
        let (head, body) = to_the_end(&mut raw).await;
        assert!(head.starts_with("HTTP/1.1 400 ") && body.contains("the body ended early"), "{head}{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_cannot_be_read_is_answered_with_a_drp_error() {
    let get = "GET /api/v3/info HTTP/1.1\r\nHost: a\r\n";
    let many = format!("{get}{}\r\n", "X: y\r\n".repeat(128));
    let large = format!("{get}X: {}\r\n\r\n", "y".repeat(80_000));
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(31_000));
    for server in [Hydrant::start("").await, Hydrant::start_tls("").await] {
        for (sent, status) in [
            ("\0\r\n\r\n", 400),
            ("nonsense\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
            ("GET / HTTP/3.5\r\nHost: a\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
            (many.as_str(), 431),
            (large.as_str(), 431),
        ] {
            for before in ["", get] {
                let mut raw = server.dial().await;
                if !before.is_empty() {
                    // A good request first, whose answer is another matter.
                    raw.send(format!("{before}\r\n").as_bytes()).await;
                    let head = raw.head().await;
                    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                    let mut body = vec![0; length.parse().unwrap()];
                    raw.0.read_exact(&mut body).await.unwrap();
                }
                raw.send(sent.as_bytes()).await;
                let (head, body) = to_the_end(&mut raw).await;
                assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{sent:.40}: {head}");
                assert!(head.contains("Content-Type: application/json\r\n"), "{head}");
                assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}{body}");
                let error: serde_json::Value = serde_json::from_str(&body).unwrap();
                assert_eq!(error["Code"], status, "{body}");
                assert!(error["Messages"][0].as_str().unwrap().len() > 20, "{body}");
            }
        }
        let mut raw = server.dial().await;
        raw.send(long.as_bytes()).await;
        assert!(raw.head().await.starts_with("HTTP/1.1 404 "), "a long target is one all the same");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lame_duck_serves_until_balancers_have_looked_elsewhere() {
    let server = Hydrant::start("timeouts = { lame_duck = \"1h\" }").await;
    let (address, probe) = (server.address(), server.server.probe_address().unwrap());
    let bearer = format!("Bearer {}", server.token().await);
    let mut client = server.watch(&["a.b.*"]).await;
    let mut kept = Http::connect(address, false).await;
    let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
    let before = kept.request("POST", "/api/v3/events", &headers, event("a", "b", "1")).await;
    assert_eq!((before.status.as_u16(), before.header("connection")), (204, ""));
    let ending = tokio::spawn(server.stop());
    let unready = async {
        while http::request(probe, false, "GET", "/readyz", &[], "").await.status.as_u16() == 200 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    patiently("the server to be unready", unready).await;
    let after = kept.request("POST", "/api/v3/events", &headers, event("a", "b", "2")).await;
    assert_eq!((after.status.as_u16(), after.header("connection")), (204, "close"));
    let mut another = Http::connect(address, false).await;
    another.request("POST", "/api/v3/events", &headers, event("a", "b", "3")).await.taken();
    for key in ["1", "2", "3"] {
        assert_eq!(client.event().await.key, key, "websockets stay as they are");
    }
    assert!(!ending.is_finished());
    ending.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lame_duck_ends_in_good_order() {
    let server = Hydrant::start("timeouts = { lame_duck = \"50ms\" }").await;
    let mut client = server.watch(&["a.b.*"]).await;
    let ending = tokio::spawn(server.stop());
    assert_eq!(client.closed().await.0, 1001);
    patiently("the end of the server", ending).await.unwrap();
}
