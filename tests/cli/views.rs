//! The ways in which `hydrant watch` shows events, as people run it.

use std::io::BufRead;

use crate::support::{Broker, Done, run};
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

/// A notice that needs no registration.
const LOSS: &str = r#"{"Time":"2026-01-02T03:04:07Z","Type":"hydrant","Action":"gap","Key":"replay","Principal":"",
    "Object":{"Requested":"R","From":"2026-01-02T03:04:01Z","To":"2026-01-02T03:04:02Z","Events":15},"Original":null}"#;
/// One that only comes to who has registered for it.
const LINK: &str = r#"{"Time":"2026-01-02T03:04:07Z","Type":"hydrant","Action":"gap","Key":"drp:8092","Principal":"",
    "Object":{"Endpoint":"https://drp:8092","From":"A","To":"B","Events":null},"Original":null}"#;

/// What is shown of some events, until one is counted.
fn shown(events: &[&'static str], view: &[&str]) -> Done {
    let steps = events.iter().map(|event| Step::Send(event));
    let server = serve(vec![[Step::Answer(1)].into_iter().chain(steps).chain([Step::Listen]).collect()]);
    watch(&server, &[&["*.*.*", "--count=1"], view].concat()).finish()
}

#[test]
fn a_loss_is_told_in_words_and_is_not_counted() {
    let told = "hydrant: warning: events are missing from 2026-01-02T03:04:01Z to 2026-01-02T03:04:02Z: the server no \
                longer has them (15 events of any type)\n";
    for (view, expected) in [
        (&["--fields", "Type,Key"][..], "Type  Key\njobs  j1\n"),
        (&["--changed"], "2026-01-02T03:04:06Z jobs.create j1\n  no Original to compare with\n"),
    ] {
        let done = shown(&[LOSS, CREATE], view);
        assert_eq!((done.code, done.out.as_str()), (Some(0), expected));
        assert!(done.err.ends_with(told), "{}", done.err);
    }
    let stats = shown(&[LOSS, CREATE], &["--stats"]);
    assert!(stats.out.starts_with("1 event in ") && stats.err.ends_with(told), "{}{}", stats.out, stats.err);
    // Programs read the notice itself.
    let lines = shown(&[LOSS, CREATE], &[]);
    assert_eq!(lines.out.lines().count(), 2, "{}", lines.out);
    assert!(lines.out.contains("\"Events\":15") && lines.err.ends_with(told), "{}{}", lines.out, lines.err);
    assert!(shown(&[LOSS, CREATE], &["--pretty"]).out.contains("\"Events\": 15"));
}

#[test]
fn a_notice_that_was_registered_for_is_an_event() {
    let told = "events are missing from A to B: they did not arrive from https://drp:8092\n";
    for (view, expected) in [
        (&["--fields", "Action,Key"][..], "Action  Key\ngap     drp:8092\n".to_owned()),
        (&["--changed"], format!("2026-01-02T03:04:07Z hydrant.gap drp:8092\n  {told}")),
    ] {
        let done = shown(&[LINK], view);
        assert_eq!((done.code, done.out), (Some(0), expected));
        assert!(done.err.ends_with(&format!("hydrant: warning: {told}")), "{}", done.err);
    }
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
    let lines: Vec<&str> = refused.err.lines().filter_map(|line| line.strip_prefix("hydrant: ")).collect();
    let (shown, caret) = (lines[lines.len() - 2], lines[lines.len() - 1]);
    assert!(shown == "machines.*.*.Stage=Eq(" && caret.trim_start() == "^", "{}", refused.err);
    assert_eq!(caret.find('^'), Some(shown.len()), "{}", refused.err);
    let wrong = run(&["watch", "--sse", "a.*.*", "-E", &broker.url(), "-T", "x"], "", &[]);
    assert!(wrong.code == Some(1) && wrong.err.contains("401") | wrong.err.contains("403"), "{}", wrong.err);
}
