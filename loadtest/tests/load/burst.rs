//! `burst` against a server that behaves, and against several that do not.

use clap::Parser as _;
use hydrant_loadtest::args::{Cli, Command};
use hydrant_loadtest::burst;
use hydrant_loadtest::check::Counts;
use hydrant_loadtest::report::{Outcome as _, Report};

use crate::fake::{Fake, Fault};

/// A short run of 3 clients with K = 8, so that every fault happens in the first turn or not at all.
fn run(fault: Fault, more: &[&str]) -> anyhow::Result<Report> {
    let fake = Fake::start(fault);
    let (url, pid) = (fake.url(), std::process::id().to_string());
    let mut line = vec!["hydrant-loadtest", "burst", "--endpoint", &url, "--server-pid", &pid, "--no-pin"];
    // What is late by more is lost; only one fault has the time pass.
    let patience = if fault == Fault::Lose { "10" } else { "60" };
    line.extend(["--connections", "3", "--turns", "3", "--rounds", "2", "--turn-timeout", patience]);
    if !more.contains(&"--k") {
        line.extend(["--k", "8"]);
    }
    line.extend(more);
    match Cli::try_parse_from(line)?.command {
        Some(Command::Burst(args)) => burst::run(&args),
        other => unreachable!("burst was asked for, not {other:?}"),
    }
}

fn counts(fault: Fault) -> Counts {
    let report = run(fault, &["--no-floor"]).unwrap();
    assert!(!report.is_clean());
    report.cases[0].counts
}

#[test]
fn a_good_server_is_measured_beside_the_floor() {
    let report = run(Fault::None, &["--k", "1,8", "--payload", "512,20000"]).unwrap();
    assert!(report.is_clean());
    assert_eq!(report.cases.len(), 4);
    for case in &report.cases {
        // Two rounds of three turns and one to warm up, each K events to three clients.
        assert_eq!(case.counts.received, 2 * 4 * case.k * 3);
        assert_eq!(case.rounds.len(), 2);
        let summary = case.summary();
        assert!(summary.server.unwrap().min > 0.0 && summary.floor.unwrap().min > 0.0);
        assert!(summary.ratio.unwrap().median > 1.0, "a whole server is cheaper than writev: {summary:?}");
    }
}

#[test]
fn selective_events_go_to_one_client_each() {
    let report = run(Fault::None, &["--selective", "--k", "7"]).unwrap();
    assert!(report.is_clean());
    assert_eq!(report.cases[0].counts.received, 2 * 4 * 7);
}

#[test]
fn a_lost_event_is_counted() {
    assert_eq!(counts(Fault::Lose).lost, 1);
}

#[test]
fn a_repeated_event_is_counted() {
    assert_eq!(counts(Fault::Repeat).duplicates, 1);
}

#[test]
fn a_swap_is_counted() {
    let counts = counts(Fault::Swap);
    assert_eq!((counts.reordered, counts.lost), (1, 0));
}

#[test]
fn a_harmed_event_is_counted() {
    let counts = counts(Fault::Harm);
    assert_eq!((counts.corrupt, counts.lost), (1, 1));
}

#[test]
fn a_lost_connection_is_counted_with_its_events_and_its_reason() {
    let report = run(Fault::Close, &["--no-floor"]).unwrap();
    let case = &report.cases[0];
    assert_eq!((case.counts.closed, case.counts.lost), (1, 3));
    assert!(case.first_error.is_some());
}

#[test]
fn a_busy_server_is_asked_again() {
    let report = run(Fault::Busy, &["--no-floor"]).unwrap();
    assert!(report.is_clean());
    assert_eq!(report.cases[0].busy, 8);
}

#[test]
fn refusals_are_errors_with_the_servers_words() {
    let error = run(Fault::Refuse, &[]).unwrap_err().to_string();
    assert!(error.contains("client 0") && error.contains("\"error\""), "{error}");
    let error = run(Fault::Forbid, &[]).unwrap_err().to_string();
    assert!(error.contains("403 not today"), "{error}");
    let gone = Fake::start(Fault::None).url();
    let error = run(Fault::None, &["--endpoint", &gone]).unwrap_err().to_string();
    assert!(!error.is_empty());
}
