//! The limit of open files: raised as far as it goes, and never used up by clients.

use std::io::Read;
use std::process::Stdio;

use tokio::net::TcpStream;

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
