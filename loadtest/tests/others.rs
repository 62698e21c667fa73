//! `fleet`, `stall` and `idle` against a server that behaves.

#![allow(clippy::unwrap_used, reason = "a test")]

#[allow(dead_code, reason = "not every test needs every fault")]
mod fake;

use clap::Parser as _;
use hydrant_loadtest::args::Cli;
use serde_json::Value;

use fake::{Fake, Fault};

/// Runs a subcommand; returns whether all was well, what it printed, and its JSON.
fn run(work: &str, more: &[&str]) -> (bool, String, Value) {
    let fake = Fake::start(Fault::None);
    let json = tempfile::NamedTempFile::new().unwrap();
    let (url, pid, path) = (fake.url(), std::process::id().to_string(), json.path().to_str().unwrap());
    let mut line = vec!["hydrant-loadtest", work, "--endpoint", &url, "--server-pid", &pid, "--no-pin", "--json", path];
    line.extend(more);
    let mut out = Vec::new();
    let clean = hydrant_loadtest::run(&Cli::try_parse_from(line).unwrap(), &mut out).unwrap();
    (clean, String::from_utf8(out).unwrap(), serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

#[test]
fn a_fleet_gets_what_it_should() {
    let size = ["--machines", "20", "--runners", "10", "--portals", "2", "--scripts", "0"];
    let (clean, table, json) = run("fleet", &[&size[..], &["--rate", "500", "--seconds", "2"]].concat());
    assert!(clean, "{table}");
    let sample = &json["rates"][0]["server"][0];
    assert_eq!(sample["events"], 1_000);
    let received = sample["counts"]["received"].as_u64().unwrap();
    // Two portals get all, and half of the machines have a runner.
    assert!((2_200..3_000).contains(&received), "{table}");
    assert_eq!(sample["latency"]["count"].as_u64().unwrap(), received);
    assert!(sample["latency"]["p50"].as_u64().unwrap() < 1_000_000);
}

#[test]
fn stalled_clients_are_told_and_the_healthy_lose_nothing() {
    let (clean, table, json) = run("stall", &["--healthy", "3", "--stalled", "2", "--megabytes", "40", "--k", "64"]);
    assert!(clean, "{table}");
    let round = &json["results"][0]["rounds"][0];
    assert_eq!(round["fates"]["closed"], 2, "{table}");
    assert!(table.contains("1013"), "{table}");
    assert_eq!(round["counts"]["received"], 2 * 3 * round["events"].as_u64().unwrap());
}

#[test]
fn idle_connections_are_weighed() {
    let (clean, table, json) = run("idle", &["--connections", "50", "--rest", "0"]);
    assert!(clean, "{table}");
    assert_eq!(json["weights"][0]["counts"]["received"], 50);
    assert!(json["weights"][0]["resident_rested"].as_u64().unwrap() > 1_000_000);
}
