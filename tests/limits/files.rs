//! The limit of open files: raised as far as it goes, and never used up by clients.

use std::io::Read;
use std::process::Stdio;

use tokio::net::TcpStream;

use crate::common::http::Http;
use crate::common::{LOGIN, basic, patiently};
use crate::outside::Outside;

/// Sockets that say nothing stay for as long as a head may take.
const PATIENT: &str = "shards = 1\n[timeouts]\nheader = \"60s\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_do_not_take_the_last_files() {
    let mut server = Outside::start("ulimit -n 64", Stdio::piped(), PATIENT).await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(TcpStream::connect(server.api).await.unwrap());
    }
    crate::common::http::metric_satisfies(
        server.probe,
        "hydrant_handshakes_rejected_total{reason=\"limited\"}",
        |refused| refused >= 100 - 48,
    )
    .await;
    for _ in 0..10 {
        assert!(server.is_healthy().await);
    }
    assert_eq!(server.metric("process_max_fds").await, 64);
    drop(clients);
    assert_eq!(server.end().code(), Some(0));
    let mut said = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("at most 48 connections fit, although limits.connections is 100000"), "{said}");
    assert!(said.contains("no file descriptors are left for clients"), "{said}");
    assert!(!said.contains("cannot accept"), "{said}");
}

/// A machine's agent holds as many connections as it gets; each has shown its credentials.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_principal_does_not_take_the_files_of_all() {
    let server = Outside::start("ulimit -n 256", Stdio::null(), PATIENT).await;
    let path = "/api/v3/machines/3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e/token";
    let login = [("authorization", &*basic(LOGIN))];
    let token = Http::connect(server.api, false).await.request("GET", path, &login, "").await.json();
    let bearer = format!("Bearer {}", token["Token"].as_str().unwrap());
    let mut kept = Vec::new();
    let refused = loop {
        let mut http = Http::connect(server.api, false).await;
        let reply = http.request("GET", "/api/v3/hydrant/me", &[("authorization", &bearer)], "").await;
        if reply.status == 429 {
            break reply;
        }
        assert_eq!(reply.status, 200, "{}", reply.body);
        kept.push(http);
    };
    assert_eq!((kept.len(), refused.header("connection")), ((256 - 64) / 8, "close"));
    assert!(refused.body.contains("too many HTTP connections of this principal: at most 24"), "{}", refused.body);
    for http in &mut kept {
        assert_eq!(http.request("GET", "/api/v3/hydrant/me", &[("authorization", &bearer)], "").await.status, 200);
    }
    server.websocket().await;
    kept.pop();
    let mut again = Http::connect(server.api, false).await;
    let one_more = async {
        while again.request("GET", "/api/v3/hydrant/me", &[("authorization", &bearer)], "").await.status != 200 {
            again = Http::connect(server.api, false).await;
        }
    };
    patiently("the place of one that has left", one_more).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_soft_limit_is_raised_to_the_hard_one() {
    let mut server =
        Outside::start("ulimit -Sn 64; ulimit -Hn 512", Stdio::piped(), "limits = { connections = 100 }").await;
    assert_eq!(server.metric("process_max_fds").await, 512);
    assert_eq!(server.end().code(), Some(0));
    let mut said = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!said.contains("connections fit"), "{said}");
}
