//! The ways in which `hydrant watch` shows events, as people run it.

use std::io::BufRead;

use crate::support::{Broker, run};
use crate::watch::{Step, serve, watch};

const UPDATE: &str = r#"{"Time":"2026-01-02T03:04:05Z","Type":"machines","Action":"update","Key":"m1",
    "Principal":"user:a","Object":{"Name":"one","Stage":"local","Params":{"n":12345678901234567890123}},
    "Original":{"Name":"one","Stage":"none","Params":{}}}"#;
const CREATE: &str =
    r#"{"Time":"2026-01-02T03:04:06Z","Type":"jobs","Action":"create","Key":"j1","Object":{},"Original":null}"#;

fn two() -> Vec<Step> {
    vec![Step::Answer(1), Step::Send(UPDATE), Step::Send(CREATE), Step::Listen]
}

#[test]
fn fields_are_a_table() {
    let server = serve(vec![two()]);
    let done = watch(&server, &["*.*.*", "--count=2", "--fields", "Type, Key,Object.Name,Stage"]).finish();
    assert_eq!(done.code, Some(0), "{}", done.err);
    let expected =
        "Type      Key  Object.Name  Stage\nmachines  m1   one          local\njobs      j1   -            -\n";
    assert_eq!(done.out, expected);
}

#[test]
fn changes_are_a_line_each() {
    let server = serve(vec![two()]);
    let done = watch(&server, &["*.*.*", "--count=2", "--changed"]).finish();
    let expected = "2026-01-02T03:04:05Z machines.update m1
  Stage     \"none\" -> \"local\"
  Params.n  (nothing) -> 12345678901234567890123
2026-01-02T03:04:06Z jobs.create j1
  no Original to compare with
";
    assert_eq!((done.code, done.out.as_str()), (Some(0), expected));
}

#[test]
fn stats_are_a_line_a_second_and_a_summary() {
    let server = serve(vec![two()]);
    let mut running = watch(&server, &["*.*.*", "--stats"]);
    // The events come at once or one by one, each in some line.
    let mut lines: Vec<String> = Vec::new();
    let has = |lines: &[String], kind: &str| lines.iter().any(|line| line.contains(kind));
    while !(has(&lines, "machines ") && has(&lines, "jobs ")) {
        lines.push(running.line());
        assert_ne!(lines.last().unwrap(), "", "it has ended");
    }
    assert!(lines.iter().all(|line| line.contains(" ev/s, ") && line.ends_with('\n')), "{lines:?}");
    running.signal("TERM");
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.err);
    let summary: Vec<&str> = done.out.lines().rev().take(3).collect();
    assert!(summary[2].starts_with("2 events in "), "{}", done.out);
    assert!(summary[1].ends_with("/s  jobs") && summary[0].ends_with("/s  machines"), "{}", done.out);
}

#[test]
fn what_a_terminal_acts_on_is_escaped_and_means_the_same() {
    let hostile = "{\"Type\":\"a\",\"Action\":\"b\",\"Key\":\"\u{9b}2J\u{7f}\u{202e}\u{8}\",\"Object\":null}";
    let server = serve(vec![vec![Step::Answer(1), Step::Send(hostile), Step::Listen]; 2]);
    for more in [&["--count=1"][..], &["--count=1", "--pretty"]] {
        let done = watch(&server, &[&["a.b.*"], more].concat()).finish();
        assert!(done.out.contains(r#""\u009b2J\u007f\u202e\u0008""#), "{}", done.out);
    }
}

#[test]
fn only_one_view_at_a_time() {
    for pair in [["--pretty", "--stats"], ["--changed", "--fields=Key"]] {
        let done = run(&["watch", "a.b.c", pair[0], pair[1]], "", &[]);
        assert_eq!((done.code, done.out.as_str()), (Some(64), ""), "{}", done.err);
    }
    let done = run(&["watch", "a.b.c", "--fields", "a..b"], "", &[]);
    assert!(done.code == Some(64) && done.err.contains("empty name"), "{}", done.err);
}

#[test]
fn a_stream_brings_the_same_as_a_websocket() {
    let broker = Broker::start();
    for how in [&["--sse"][..], &[]] {
        let url = broker.url();
        let args = [&["watch", "-E", &url, "machines.*.*", "jobs.*.*", "--count=3"], how].concat();
        let mut running = crate::support::start(&args, &[]);
        assert_eq!(running.err_lines().next().unwrap(), "hydrant: connected, 2 registrations");
        broker.post(&format!("{UPDATE}\n{CREATE}\n{{\"Type\":\"other\",\"Action\":\"a\",\"Key\":\"k\"}}\n{UPDATE}"));
        let keys: Vec<String> = running
            .out
            .take()
            .unwrap()
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap()["Key"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(keys, ["m1", "j1", "m1"], "{how:?}");
        assert_eq!(running.finish().code, Some(0));
    }
}

#[test]
fn a_stream_ends_with_the_servers_reason() {
    let broker = Broker::start();
    let refused = broker.run(&["watch", "--sse", "machines.*.*.Stage=Eq("], "");
    assert!(refused.code == Some(1) && refused.err.contains("400 (Bad Request)"), "{}", refused.err);
    let wrong = run(&["watch", "--sse", "a.*.*", "-E", &broker.url(), "-T", "x"], "", &[]);
    assert!(wrong.code == Some(1) && wrong.err.contains("401") | wrong.err.contains("403"), "{}", wrong.err);
}
