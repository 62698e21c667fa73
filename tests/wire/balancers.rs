//! HAProxy and nginx as Debian packs them, and Traefik, with the files of `examples/balancers`: what goes through, whom
//! the server sees, and that nobody notices a restart. `make faults` installs them and runs this.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::common::balancer::{Balancer, Kind, Node};
use crate::common::http::Http;
use crate::common::ports::free_port;
use crate::common::socket::{self, Socket};
use crate::common::ws::Show;
use crate::common::{Hydrant, JSON, basic, event, patiently};

/// The client that talks through balancers; they themselves are at 127.0.0.1.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

const ALL: [Kind; 4] = [Kind::HaproxyHttp, Kind::HaproxyTcp, Kind::Nginx, Kind::Traefik];

/// A balancer in front of these.
async fn before(kind: Kind, nodes: [&Hydrant; 2], changes: &[(&str, &str)]) -> Balancer {
    before_with(kind, nodes, changes, false).await
}

async fn before_with(kind: Kind, nodes: [&Hydrant; 2], changes: &[(&str, &str)], tls: bool) -> Balancer {
    let node = |hydrant: &Hydrant| Node {
        api: hydrant.server.addresses()[usize::from(kind == Kind::HaproxyTcp)],
        probe: hydrant.server.probe_address().unwrap(),
    };
    Balancer::start_with(kind, &nodes.map(node), changes, tls).await
}

/// A connection of the client through a balancer.
async fn dial(balancer: &Balancer) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((CLIENT, 0))).unwrap();
    patiently("a connection", socket.connect(balancer.address)).await.unwrap()
}

async fn http_through(balancer: &Balancer) -> Http {
    Http::over(Box::new(dial(balancer).await), balancer.address).await
}

/// Two nodes that trust the balancers. Their addresses differ, and their ports for probes do not: Traefik knows one.
async fn nodes(more: &str) -> [Hydrant; 2] {
    let probe = free_port();
    let settings = |host: &str| {
        format!(
            "listen = [\"{host}:0\"]\nmetrics_listen = \"{host}:{probe}\"\ntrusted_proxies = [\"127.0.0.1\"]\n\
             listen_proxy_protocol = [\"{host}:0\"]\nshards = 1\n{more}"
        )
    };
    [Hydrant::start(&settings("127.0.0.11")).await, Hydrant::start(&settings("127.0.0.12")).await]
}

/// The address that `node` has for its websockets.
async fn seen(node: &Hydrant) -> Vec<String> {
    let all = node.request("GET", "/api/v3/connections?Type=websocket", &[], "").await.json();
    all.as_array().unwrap().iter().map(|one| one["RemoteAddr"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs haproxy, nginx and traefik: make faults"]
async fn everything_goes_through_and_the_client_is_seen() {
    for kind in ALL {
        let [node, spare] = nodes("").await;
        // One of them, so that it is known where everything goes.
        let balancer = before(kind, [&node, &node], &[]).await;
        let bearer = format!("Bearer {}", node.token().await);
        let forged = [
            ("authorization", bearer.as_str()),
            ("x-forwarded-for", "203.0.113.9"),
            ("forwarded", "for=203.0.113.9"),
            ("x-forwarded-proto", "https"),
        ];
        for method in ["GET", "HEAD"] {
            let reply = http_through(&balancer).await.request(method, "/api/v3/info", &forged, "").await;
            assert_eq!(reply.status.as_u16(), 200, "{kind:?} {method}");
        }
        let socket = Box::new(dial(&balancer).await);
        let mut client = node.handshake(socket, &Show::Header(&bearer), &forged[1..]).await.unwrap();
        client.register("a.b.*").await;
        let all = seen(&node).await;
        assert!(all.len() == 1 && all[0].starts_with("127.0.0.2:"), "{kind:?}: {all:?}");
        let mut http = http_through(&balancer).await;
        let large = format!(r#"{{"Type":"a","Action":"b","Key":"large","Object":"{}"}}"#, "x".repeat(3 << 20));
        for body in [event("a", "b", "small"), large] {
            let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
            http.request("POST", "/api/v3/events", &headers, body).await.taken();
        }
        assert_eq!((client.event().await.key, client.event().await.key), ("small".to_owned(), "large".to_owned()));
        drop(spare);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs haproxy, nginx and traefik: make faults"]
async fn a_guesser_locks_nobody_else_out() {
    for kind in ALL {
        let [node, _spare] = nodes("").await;
        let balancer = before(kind, [&node, &node], &[]).await;
        let mut last = 0;
        for guess in 0..8 {
            let wrong = basic(&format!("rocketskates:wrong-{guess}"));
            let made_up = format!("203.0.{guess}.1");
            let headers = [("authorization", wrong.as_str()), ("x-forwarded-for", made_up.as_str())];
            last = http_through(&balancer).await.request("GET", "/api/v3/info", &headers, "").await.status.as_u16();
        }
        assert_eq!(last, 429, "{kind:?}: a new address each time does not help");
        // Another client of the same balancer: 127.0.1.1 is another network.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.1.1:0".parse().unwrap()).unwrap();
        let stream = socket.connect(balancer.address).await.unwrap();
        let right = basic("rocketskates:r0cketsk8ts");
        let mut http = Http::over(Box::new(stream), balancer.address).await;
        let reply = http.request("GET", "/api/v3/info", &[("authorization", right.as_str())], "").await;
        assert_eq!(reply.status.as_u16(), 200, "{kind:?}");
    }
}

/// The times of the files, shorter by the factor by which a ping every three seconds is shorter than the server's own.
/// A server that the machine holds up for as long again is late with none.
fn short(kind: Kind) -> &'static [(&'static str, &'static str)] {
    match kind {
        Kind::HaproxyHttp => &[("client 50s", "client 6s"), ("server 50s", "server 6s"), ("tunnel 60s", "tunnel 6s")],
        Kind::HaproxyTcp => &[("client 50s", "client 6s"), ("server 50s", "server 6s")],
        Kind::Nginx => &[("read_timeout 60s", "read_timeout 6s"), ("send_timeout 60s", "send_timeout 6s")],
        // What is quiet has no limit there.
        Kind::Traefik => &[],
    }
}

/// Reads on until this has come.
async fn until(socket: &mut Socket, said: &mut String, text: &str) {
    while !said.contains(text) {
        let mut piece = [0; 4096];
        let length = patiently("more of a stream", socket.read(&mut piece)).await.unwrap();
        assert!(length > 0, "ended before {text}: {said}");
        said.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
}

/// With TLS where the file of the balancer ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs haproxy, nginx and traefik: make faults"]
async fn a_stream_comes_through_as_it_happens_and_stays() {
    for (kind, tls) in ALL.map(|kind| (kind, kind != Kind::HaproxyTcp)) {
        let [node, _spare] = nodes("timeouts = { ping = \"3s\", idle = \"1m\" }").await;
        let balancer = before_with(kind, [&node, &node], short(kind), tls).await;
        let mut socket = socket::over(dial(&balancer).await, tls).await;
        let (host, token) = (balancer.address, node.token().await);
        let request = format!(
            "GET /api/v3/events?register=a.b.* HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut said = String::new();
        until(&mut socket, &mut said, "event: answer").await;
        assert!(said.contains("text/event-stream"), "{kind:?}: {said}");
        node.announce("a", "b", "first").await;
        until(&mut socket, &mut said, "first").await;
        // Longer than the balancer's limits: comments keep it.
        let quiet = until(&mut socket, &mut said, "nothing of the kind");
        let _ = tokio::time::timeout(Duration::from_secs(9), quiet).await;
        node.announce("a", "b", "after").await;
        until(&mut socket, &mut said, "after").await;
    }
}

/// The times of the server are shorter by the same factor as those of the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs haproxy, nginx and traefik: make faults"]
async fn a_quiet_websocket_outlives_the_balancers_limit() {
    for kind in ALL {
        let [node, _spare] = nodes("timeouts = { ping = \"3s\", idle = \"1m\" }").await;
        let balancer = before(kind, [&node, &node], short(kind)).await;
        let bearer = format!("Bearer {}", node.token().await);
        let socket = Box::new(dial(&balancer).await);
        let mut client = node.handshake(socket, &Show::Header(&bearer), &[]).await.unwrap();
        client.register("a.b.*").await;
        let quiet = async { while !matches!(client.next().await, Message::Text(_)) {} };
        let _ = tokio::time::timeout(Duration::from_secs(9), quiet).await;
        node.announce("a", "b", "after").await;
        assert_eq!(client.event().await.key, "after", "{kind:?}");
    }
}

/// One node of two ends while posts go on, one connection each as scripts do it: all are taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs haproxy, nginx and traefik: make faults"]
async fn a_node_that_ends_costs_no_post() {
    for kind in ALL {
        let [one, other] = nodes("timeouts = { lame_duck = \"4s\" }").await;
        let balancer = before(kind, [&one, &other], &[]).await;
        // Each has keys of its own: a password is good at both.
        let login = basic("rocketskates:r0cketsk8ts");
        let headers = [("authorization", login.as_str()), ("content-type", JSON)];
        let ending = tokio::spawn(one.stop());
        let mut posted = 0;
        let mut kept = http_through(&balancer).await;
        while !ending.is_finished() || posted < 20 {
            let mut fresh = http_through(&balancer).await;
            let reply = fresh.request("POST", "/api/v3/events", &headers, event("a", "b", &posted.to_string())).await;
            assert_eq!(reply.status.as_u16(), 204, "{kind:?}, post {posted}: {reply:?}");
            let reply = kept.try_request("POST", "/api/v3/events", &headers, event("a", "b", "kept")).await;
            match reply {
                Some(reply) => assert_eq!(reply.status.as_u16(), 204, "{kind:?}: {reply:?}"),
                // A connection that the answer before has ended.
                None => kept = http_through(&balancer).await,
            }
            posted += 1;
        }
        ending.await.unwrap();
    }
}
