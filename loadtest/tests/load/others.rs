//! `fleet`, `stall` and `idle` against a server that behaves.

use clap::Parser as _;
use hydrant_loadtest::args::Cli;
use serde_json::Value;

use crate::fake::{Fake, Fault};

/// Runs a subcommand; returns whether all was well, what it printed, and its JSON.
fn run(work: &str, more: &[&str]) -> (bool, String, Value) {
    run_with(Fault::None, work, more)
}

fn run_with(fault: Fault, work: &str, more: &[&str]) -> (bool, String, Value) {
    let fake = Fake::start(fault);
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
    assert!(sample["latency"]["p50"].as_u64() <= sample["latency"]["max"].as_u64(), "{sample}");
}

/// One fault to the first client of a fleet; what of it was counted besides what was received.
fn fleet_fault(fault: Fault, clients: [&str; 2]) -> Vec<(String, u64)> {
    let size = ["--machines", "5", "--scripts", "0", "--rate", "100", "--seconds", "1"];
    let [runners, portals] = clients;
    let line = [&size[..], &["--runners", runners, "--portals", portals]].concat();
    let (clean, table, json) = run_with(fault, "fleet", &line);
    assert!(!clean && table.contains("FAULT"), "{table}");
    let counts = json["rates"][0]["server"][0]["counts"].as_object().unwrap();
    let counts = counts.iter().filter(|(name, _)| *name != "received");
    counts.map(|(name, count)| (name.clone(), count.as_u64().unwrap())).filter(|(_, count)| *count > 0).collect()
}

fn one(name: &str) -> Vec<(String, u64)> {
    vec![(name.to_owned(), 1)]
}

#[test]
fn what_comes_too_often_or_out_of_order_is_seen_by_a_fleet() {
    // A single portal: with it, nobody waits any more for an event that comes again.
    assert_eq!(fleet_fault(Fault::Repeat, ["0", "1"]), one("duplicates"));
    assert_eq!(fleet_fault(Fault::Repeat, ["0", "2"]), one("duplicates"));
    assert_eq!(fleet_fault(Fault::Swap, ["0", "1"]), one("reordered"));
    assert_eq!(fleet_fault(Fault::Stray, ["5", "0"]), one("duplicates"));
    let closed = fleet_fault(Fault::Close, ["0", "1"]);
    assert!(closed.contains(&("closed".to_owned(), 1)), "{closed:?}");
}

#[test]
fn a_client_that_one_run_has_lost_is_not_missed_by_the_next() {
    let size = ["--machines", "5", "--runners", "0", "--portals", "2", "--scripts", "0"];
    let line = [&size[..], &["--rate", "50", "--seconds", "1", "--rounds", "3"]].concat();
    let (clean, table, json) = run_with(Fault::Close, "fleet", &line);
    assert!(!clean, "{table}");
    let runs = json["rates"][0]["server"].as_array().unwrap().iter().map(|run| &run["counts"]);
    let counts: Vec<[u64; 3]> =
        runs.map(|counts| ["received", "lost", "closed"].map(|name| counts[name].as_u64().unwrap())).collect();
    assert_eq!((counts[0][2], &counts[1..]), (1, &[[50, 0, 0], [50, 0, 0]][..]), "{table}");
}

#[test]
fn a_registration_that_is_refused_is_counted_as_such() {
    let (clean, table, json) = run_with(Fault::Refuse, "storm", &["-n", "3"]);
    assert!(clean, "it is allowed at the second attempt: {table}");
    assert_eq!(json["arrival"]["errors"], serde_json::json!({ "registration refused": 1 }), "{table}");
}

/// The exit status and standard error of the program.
fn program(line: &[&str], limit: &str) -> (Option<i32>, String) {
    let program = env!("CARGO_BIN_EXE_hydrant-loadtest");
    let limited = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
    let done = std::process::Command::new("sh").args(["-c", &limited, program]).args(line).output().unwrap();
    (done.status.code(), String::from_utf8(done.stderr).unwrap())
}

#[test]
fn an_impossible_command_line_has_an_exit_status_of_its_own() {
    let fleet = ["fleet", "--no-pin", "--serve", "/no/hydrant", "--machines", "4"];
    let (code, error) = program(&[&fleet[..], &["--runners", "5"]].concat(), "1000");
    assert!(code == Some(2) && error.contains("--runners"), "{error}");
    let (code, error) = program(&[&fleet[..], &["--runners", "0", "--rate", "0"]].concat(), "1000");
    assert!(code == Some(2) && error.contains("--rate"), "{error}");
    let (code, error) = program(&[&fleet[..], &["--runners", "4"]].concat(), "1000");
    assert!(code == Some(1) && error.contains("/no/hydrant"), "{error}");
}

#[test]
fn too_few_files_for_the_last_kind_of_work_are_known_before_the_first() {
    let line = ["compare", "--no-pin", "--no-peers", "--serve", "/no/hydrant", "--only", "plain,idle", "-n", "10"];
    let (code, error) = program(&[&line[..], &["--idle", "1000"]].concat(), "500");
    assert!(code == Some(1) && error.contains("needs 1328 open files, but the hard limit is 500"), "{error}");
}

#[test]
fn metrics_that_cannot_be_read_are_no_missing_figure() {
    let fake = Fake::start(Fault::None);
    let url = fake.url();
    let line = ["hydrant-loadtest", "storm", "--no-pin", "-n", "3", "--endpoint", &url, "--metrics", &url[7..]];
    let error = hydrant_loadtest::run(&Cli::try_parse_from(line).unwrap(), &mut Vec::new()).unwrap_err();
    assert!(format!("{error:#}").contains("(--metrics 127.0.0.1:"), "{error:#}");
}

#[test]
fn what_does_not_come_is_seen_by_a_fleet() {
    assert_eq!(fleet_fault(Fault::Lose, ["0", "1"]), one("lost"));
}

#[test]
fn what_comes_harmed_is_seen_by_a_fleet() {
    assert_eq!(fleet_fault(Fault::Harm, ["0", "1"]), [("corrupt".to_owned(), 1), ("lost".to_owned(), 1)]);
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
