//! The formats of log lines.

use std::collections::BTreeMap;

use crate::support::{Running, run, start};

fn serve(format: &str, dir: &std::path::Path) -> Running {
    let data = dir.display().to_string();
    let args = [
        "serve",
        "--tls",
        "off",
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "off",
        "--demo",
        "1",
        "--data-dir",
        &data,
    ];
    start(&args, &[("HYDRANT_LOG_FORMAT", format)])
}

/// The line that says where it listens, and every line until then.
fn lines(format: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let running = serve(format, dir.path());
    let mut before = Vec::new();
    for line in running.err_lines() {
        before.push(line);
        if before.last().is_some_and(|line| line.contains("listening")) {
            break;
        }
    }
    before
}

/// The pairs of a line of logfmt.
fn pairs(line: &str) -> BTreeMap<String, String> {
    let pair = regex::Regex::new(r#"(?:^| )([^ ="]+)=("(?:[^"\\]|\\.)*"|[^ "]*)"#).unwrap();
    let found: Vec<_> =
        pair.captures_iter(line).map(|pair| (pair[0].len(), pair[1].to_owned(), pair[2].to_owned())).collect();
    assert_eq!(found.iter().map(|(length, ..)| length).sum::<usize>(), line.len(), "nothing but pairs: {line}");
    found.into_iter().map(|(_, key, value)| (key, value.trim_matches('"').to_owned())).collect()
}

#[test]
fn logfmt_is_a_line_of_pairs() {
    let lines = lines("logfmt");
    let warned = lines.iter().map(|line| pairs(line)).find(|line| line["level"] == "warn").expect("the first user");
    assert!(warned["message"].contains(' '), "{warned:?}");
    let last = pairs(lines.last().unwrap());
    assert_eq!((last["level"].as_str(), last["message"].as_str()), ("info", "listening"));
    assert!(last["address"].starts_with("127.0.0.1:") && last["target"].starts_with("hydrant::"), "{last:?}");
    assert!(last["ts"].parse::<jiff::Timestamp>().is_ok(), "{last:?}");
}

#[test]
fn json_is_an_object_a_line() {
    let lines = lines("json");
    let last: serde_json::Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!((last["level"].as_str(), last["message"].as_str()), (Some("INFO"), Some("listening")));
    assert_eq!(last["tls"], "off");
}

/// The line that matters most is one that programs can read, too.
#[test]
fn the_reason_of_a_failed_start_has_the_format_of_the_log() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let fails = |format: &str, level: &str| {
        let args = ["serve", "--listen", &address, "--metrics-listen", "off"];
        let done = run(&args, "", &[("HYDRANT_LOG_FORMAT", format), ("HYDRANT_LOG_LEVEL", level)]);
        assert_eq!(done.code, Some(1), "{}", done.err);
        let last = done.err.lines().find(|line| line.contains("Address already in use")).unwrap_or_default().to_owned();
        assert!(last.contains(&address), "{}", done.err);
        last
    };
    let json: serde_json::Value = serde_json::from_str(&fails("json", "info")).unwrap();
    assert_eq!((&json["level"], &json["message"]), (&"ERROR".into(), &"the server has ended".into()));
    assert_eq!(pairs(&fails("logfmt", "info"))["level"], "error");
    for (format, level) in [("text", "info"), ("json", "off")] {
        assert!(fails(format, level).starts_with("hydrant: cannot listen on "), "{format}");
    }
}
