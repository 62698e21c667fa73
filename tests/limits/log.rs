//! A log that nobody reads, or that cannot be written, costs lines and nothing else.

use std::process::Stdio;

use crate::common::{event, http, patiently};
use crate::outside::{Outside, full_disk};

const DROPPED: &str = "hydrant_log_lines_dropped_total";
const AUDIT: &str = "log = { audit = true }";

/// Shards log when a websocket comes and goes; the server goes on, and ends well.
async fn goes_on(server: &mut Outside) {
    let before = server.metric(DROPPED).await;
    for _ in 0..2 {
        drop(server.websocket().await);
    }
    http::metric_reaches(server.probe, "hydrant_connections", 0).await;
    http::metric_satisfies(server.probe, DROPPED, |dropped| dropped > before).await;
    assert!(server.is_healthy().await);
    assert_eq!(server.metric("hydrant_panics_total").await, 0);
    assert_eq!(server.end().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_lines_only() {
    goes_on(&mut Outside::start("", full_disk(), AUDIT).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_pipe_costs_lines_only() {
    let mut server = Outside::start("", Stdio::piped(), AUDIT).await;
    drop(server.child.stderr.take());
    goes_on(&mut server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_that_nobody_reads_holds_up_nobody() {
    let mut server = Outside::start("", Stdio::piped(), "log = { audit = true, level = \"trace\" }").await;
    let post = event("machines", "update", "k");
    let headers =
        [("authorization", &*crate::common::basic(crate::common::LOGIN)), ("content-type", "application/json")];
    let fill = async {
        while server.metric(DROPPED).await == 0 {
            for _ in 0..20 {
                http::request(server.api, false, "POST", "/api/v3/events", &headers, &post).await.taken();
            }
        }
    };
    patiently("a full queue of lines", fill).await;
    goes_on(&mut server).await;
}
