//! `hydrant record` and the playing back of what it recorded, as people run them.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Broker, Cutter, Done, PATIENCE, Running, run, start};

fn events(numbers: std::ops::Range<u32>) -> String {
    numbers.fold(String::new(), |mut text, n| {
        writeln!(text, r#"{{"Type":"machines","Action":"update","Key":"{n}","Object":{{"Stage":"local"}}}}"#).unwrap();
        text
    })
}

/// The keys of NDJSON's events, without a server's notices.
fn keys(text: &str) -> Vec<String> {
    let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    events.filter(|event| event["Type"] != "hydrant").map(|event| event["Key"].as_str().unwrap().to_owned()).collect()
}

fn numbers(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|n| n.to_string()).collect()
}

/// All that a broker has of machines, in its order. An event that is posted now tells where that ends.
fn history(broker: &Broker) -> Vec<String> {
    broker.post(r#"{"Type":"machines","Action":"delete","Key":"the end"}"#);
    let mut running = start(&["watch", "machines.*.*", "--since", "1h", "-E", &broker.url()], &[]);
    let mut text = String::new();
    while !text.contains("\"the end\"") {
        let line = running.line();
        assert_ne!(line, "", "{}", running.finish().err);
        text.push_str(&line);
    }
    let mut keys = keys(&text);
    keys.pop();
    keys
}

/// What is in a recording: it is played into a broker of its own.
fn played(path: &Path) -> (Vec<String>, Done) {
    let broker = Broker::start();
    let done = broker.run(&["post", path.to_str().unwrap()], "");
    (history(&broker), done)
}

/// Starts a recording, and waits until it is connected.
fn record(endpoint: &str, path: &Path, more: &[&str]) -> Running {
    let file = path.to_str().unwrap();
    let args = [&["record", file, "machines.*.*", "-E", endpoint], more].concat();
    let running = start(&args, &[]);
    let connected = running.err_lines().find(|line| line.contains("connected"));
    assert!(connected.is_some(), "{}", running.finish().err);
    running
}

#[test]
fn nothing_is_skipped_or_doubled_while_connections_are_cut() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let cutter = Cutter::to(&broker.address);
    let path = dir.path().join("cut.ndjson");
    let running = record(&format!("http://{}", cutter.address), &path, &["--count", "900"]);
    let mut cut = 0;
    for n in 0..9 {
        if n % 3 == 0 {
            cutter.until_open();
        }
        broker.post(&events(n * 100..(n + 1) * 100));
        cut += cutter.cut();
        // So that it is connected again when the next come in some rounds, and not in others.
        std::thread::sleep(Duration::from_millis(u64::from(n) * 60));
    }
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(cut >= 2, "{cut} connections were cut");
    assert_eq!(keys(&std::fs::read_to_string(&path).unwrap()), numbers(0..900));
    assert!(done.err.contains("recorded 900 events in"), "{}", done.err);
}

#[test]
fn a_loss_is_told_and_recorded_but_not_counted() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let path = dir.path().join("loss.ndjson");
    let running = record(&broker.url(), &path, &["--since", "2020-01-01T00:00:00Z", "--count", "1"]);
    broker.post(&events(0..1));
    let done = running.finish();
    assert!(done.err.contains("hydrant: warning: events are missing from 2020-01-01T00:00:00Z to "), "{}", done.err);
    assert!(done.code == Some(0) && done.err.contains("recorded 1 event in"), "{}", done.err);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().count() == 2 && text.contains("\"Key\":\"replay\""), "{text}");
    assert_eq!(keys(&text), numbers(0..1));
}

#[expect(clippy::disallowed_methods, reason = "the Times of events are those of the real clock")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Longer than a feed looks back before its beginning at another node, which is told in whole seconds.
const LONG_AGO: Duration = Duration::from_secs(7);

/// Does a test with several ways to get events at the same time, since it waits.
fn with_each(ways: &[&'static [&'static str]], test: fn(&[&str])) {
    std::thread::scope(|scope| ways.iter().for_each(|way| drop(scope.spawn(move || test(way)))));
}

/// How far a feed looks back before its beginning at another node.
const OVERLAP: Duration = Duration::from_secs(5);

/// Two nodes have the same events, in another order, and one of them more of them: a feed that moves from one to the
/// other repeats nothing that it had. What the other had a little before the feed began comes, since its clock may be
/// behind; what is older stays away.
#[test]
fn a_feed_that_moves_to_another_node_has_each_event_once() {
    with_each(&[&["record"], &["watch"], &["watch", "--sse"]], |way| {
        // On a machine that is busy, "a little before" may have been too long before.
        let found = (0..5).find_map(|_| moved(way));
        assert_eq!(found.expect("a feed that begins in time"), numbers(0..6), "{way:?}");
    });
}

/// What such a feed has got; nothing if it did not begin soon after event 5.
fn moved(way: &[&str]) -> Option<Vec<String>> {
    let (one, other) = (Broker::start(), Broker::start());
    let at = |n: u32| {
        let time = now();
        format!(r#"{{"Time":"{time}","Type":"machines","Action":"update","Key":"{n}"}}"#)
    };
    let post = |events: &[&str], to: &[&Broker]| to.iter().for_each(|broker| broker.post(&events.join("\n")));
    let balancer = Cutter::over(&[&one.address, &other.address]);
    let url = format!("http://{}", balancer.address);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("moved.ndjson");
    let into: &[&str] = if way == ["record"] { &[file.to_str().unwrap()] } else { &[] };
    post(&[&at(900), &at(901)], &[&other]);
    std::thread::sleep(LONG_AGO);
    let begun = Instant::now();
    post(&[&at(5)], &[&other]);
    // Longer than the whole second in which it was, which is what the feed is told of its beginning.
    std::thread::sleep(Duration::from_millis(1100));
    let running = start(&[way, into, &["machines.*.*", "-E", &url, "--count", "6"]].concat(), &[]);
    assert!(running.err_lines().any(|line| line.contains("connected")));
    if begun.elapsed() > OVERLAP {
        return None;
    }
    // The other node has what was posted there first; it has not reached the one when that is lost.
    post(&[&at(1)], &[&other]);
    let (a, c) = (at(0), at(2));
    post(&[&a, &c], &[&one, &other]);
    std::thread::sleep(Duration::from_millis(500));
    balancer.cut();
    post(&[&at(3), &at(4)], &[&other]);
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{way:?} {}", done.err);
    let text = if into.is_empty() { done.out } else { std::fs::read_to_string(&file).unwrap() };
    let mut found = keys(&text);
    found.sort();
    Some(found)
}

/// One that was started again knows nothing of what a client had before.
#[test]
fn a_feed_that_had_nothing_yet_gets_no_history_of_another_node() {
    with_each(&[&["watch"], &["watch", "--sse"]], |way| {
        let (one, other) = (Broker::start(), Broker::start());
        other.post(&events(100..200));
        std::thread::sleep(LONG_AGO);
        let balancer = Cutter::over(&[&one.address, &other.address]);
        let url = format!("http://{}", balancer.address);
        let running = start(&[way, &["machines.*.*", "-E", &url, "--count", "1"]].concat(), &[]);
        assert!(running.err_lines().any(|line| line.contains("connected")));
        balancer.cut();
        other.post(&events(7..8));
        let done = running.finish();
        assert_eq!((done.code, keys(&done.out)), (Some(0), numbers(7..8)), "{way:?} {}", done.err);
    });
}

#[test]
fn a_recording_that_could_not_begin_is_not_in_the_way() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let path = dir.path().join("a.ndjson");
    let file = path.to_str().unwrap();
    let refused = broker.run(&["record", file, "-P", "wrong"], "");
    assert!(refused.code == Some(1) && refused.err.contains("403"), "{}", refused.err);
    let running = record(&broker.url(), &path, &[]);
    running.signal("TERM");
    assert_eq!(running.finish().code, Some(0));
}

#[test]
fn a_recording_that_was_killed_is_played_up_to_there_and_written_on() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    for name in ["killed.ndjson", "killed.ndjson.zst"] {
        let path = dir.path().join(name);
        let running = record(&broker.url(), &path, &[]);
        broker.post(&events(0..300));
        let begun = Instant::now();
        while std::fs::metadata(&path).unwrap().len() == 0 && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        running.signal("KILL");
        assert_eq!(running.finish().code, None);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 10]).unwrap();
        let (found, done) = played(&path);
        assert_eq!(done.code, Some(1), "{}", done.err);
        assert!(done.err.contains("may be truncated; ") && done.err.contains("posted before it"), "{}", done.err);
        assert!(found.len() < 300 && found == numbers(0..u32::try_from(found.len()).unwrap()), "{name}: {found:?}");

        let file = path.to_str().unwrap();
        let done = broker.run(&["record", file, "machines.*.*"], "");
        assert_eq!(done.code, Some(64));
        assert!(done.err.contains("already exists; use --append"), "{}", done.err);
        let running = record(&broker.url(), &path, &["--append", "--count", "5"]);
        broker.post(&events(900..905));
        let done = running.finish();
        assert!(done.code == Some(0) && done.err.contains("of an incomplete event"), "{}", done.err);
        let (again, done) = played(&path);
        assert_eq!(done.code, Some(0), "{}", done.err);
        let kept = again.len() - 5;
        // Of a compressed one the frame that was cut is gone.
        assert!(kept == found.len() || (kept < found.len() && name == "killed.ndjson.zst"), "{name}: {kept}");
        assert_eq!(again, [numbers(0..u32::try_from(kept).unwrap()), numbers(900..905)].concat(), "{name}");

        let running = record(&broker.url(), &path, &["--force"]);
        running.signal("TERM");
        let done = running.finish();
        assert!(done.code == Some(0) && done.err.contains("recorded 0 events"), "{}", done.err);
    }
}

/// A mistyped address, password or registration must not cost the last recording.
#[test]
fn a_recording_is_not_replaced_before_there_is_another() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", nobody.local_addr().unwrap());
    for name in ["old.ndjson", "old.ndjson.zst"] {
        let path = dir.path().join(name);
        let file = path.to_str().unwrap();
        std::fs::write(&path, "old").unwrap();
        let url = broker.url();
        for wrong in [
            &["-E", "https://127.0.0.1:1", "--timeout=1"][..],
            &["-E", &silent, "--timeout=1"],
            &["-E", &url, "-P", "wrong"],
            &["-E", &url, "machines.*.*.Stage=Eq("],
        ] {
            let done = run(&[&["record", file, "--force"], wrong].concat(), "", &[]);
            assert_eq!(done.code, Some(1), "{wrong:?} {}", done.err);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "old", "{wrong:?} {}", done.err);
        }
        let running = start(&["record", file, "--force", "-E", &silent], &[]);
        std::thread::sleep(Duration::from_secs(1));
        running.signal("TERM");
        let done = running.finish();
        assert!(done.code == Some(0) && done.err.contains("recorded nothing; "), "{}", done.err);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");

        let running = record(&url, &path, &["--force"]);
        running.signal("KILL");
        running.finish();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old", "no event has come");
        let running = record(&url, &path, &["--force", "--count=2"]);
        broker.post(&events(0..2));
        assert_eq!(running.finish().code, Some(0));
        assert_eq!(played(&path).0, numbers(0..2));
    }
}

#[test]
fn a_recording_is_ended_well_by_a_signal_and_is_for_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let path = dir.path().join("a.ndjson.zst");
    let mut running = record(&broker.url(), &path, &[]);
    broker.post(&events(0..3));
    // They are on their way when this returns; what has come is in the file.
    let seen = broker.run(&["watch", "machines.*.*", "--since=1h", "--count=3", "--timeout=30"], "");
    assert_eq!(seen.code, Some(0));
    std::thread::sleep(Duration::from_secs(1));
    running.signal("TERM");
    let _ = running.input.take();
    let done = running.finish();
    assert!(done.code == Some(0) && done.err.contains("recorded 3 events"), "{}", done.err);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(played(&path).0, numbers(0..3));
    let late = broker.run(&["record", path.to_str().unwrap(), "--force", "--count=9", "--timeout=5s", "x.*.*"], "");
    assert!(late.code == Some(1) && late.err.contains("only 0 of 9 events arrived within 5 s"), "{}", late.err);
    let folder = broker.run(&["record", dir.path().to_str().unwrap()], "");
    assert!(folder.code == Some(1) && folder.err.contains("is a directory"), "{}", folder.err);
    let dash = broker.run(&["record", "-"], "");
    assert!(dash.code == Some(64) && dash.err.contains("hydrant watch"), "{}", dash.err);
}

/// A closed terminal ends it like Ctrl-C, unless `nohup` has been asked to prevent that.
#[test]
fn a_recording_is_ended_well_by_a_closed_terminal_unless_it_was_told_to_ignore_that() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let program = env!("CARGO_BIN_EXE_hydrant");
    for (is_ignored, ends_by) in [(false, "HUP"), (true, "TERM")] {
        let path = dir.path().join(format!("{is_ignored}.ndjson.zst"));
        let hangup = if is_ignored { "ignore" } else { "default" };
        let command = format!("exec env --{hangup}-signal=HUP {program} record $0 'machines.*.*' -E $1 --count=99");
        let url = broker.url();
        let mut child = std::process::Command::new("sh")
            .args(["-c", &command, path.to_str().unwrap(), &url])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
        assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("connected")));
        let signal = |name: &str| {
            let id = child.id().to_string();
            assert!(std::process::Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
        };
        if is_ignored {
            signal("HUP");
        }
        broker.post(&events(0..3));
        let seen = broker.run(&["watch", "machines.*.*", "--since=1h", "--count=3", "--timeout=30"], "");
        assert_eq!(seen.code, Some(0));
        std::thread::sleep(Duration::from_secs(1));
        signal(ends_by);
        let said: Vec<String> = lines.map_while(Result::ok).collect();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{ends_by}: {said:?}");
        assert_eq!(played(&path).0, numbers(0..3), "{ends_by}");
    }
}

/// It must not kill the process, which would leave a part of an event.
#[test]
fn a_limit_on_the_size_of_files_ends_a_recording_as_a_full_disk_does() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let path = dir.path().join("limited.ndjson");
    let command = format!("ulimit -f 8; exec {} record $0 'machines.*.*' -E $1", env!("CARGO_BIN_EXE_hydrant"));
    let mut child = std::process::Command::new("sh")
        .args(["-c", &command, path.to_str().unwrap(), &broker.url()])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("connected")));
    broker.post(&events(0..200));
    let said: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said:?}");
    assert!(said.concat().contains("File too large"), "{said:?}");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    keys(&text);
}

#[test]
fn a_recording_is_played_with_its_pace() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let path = dir.path().join("paced.ndjson");
    let at = |n: u32, second: f64| {
        format!(r#"{{"Time":"2026-01-02T03:04:{second:06.3}Z","Type":"machines","Action":"a","Key":"{n}"}}"#)
    };
    let notice = r#"{"Time":"2026-01-02T03:04:05Z","Type":"hydrant","Action":"gap","Key":"x"}"#;
    std::fs::write(&path, [at(0, 5.0), at(1, 5.4), notice.to_owned(), at(2, 8.0), at(3, 8.0)].join("\n")).unwrap();
    let play = |speed: &str| {
        let begun = Instant::now();
        let done = broker.run(&["post", path.to_str().unwrap(), "--speed", speed], "");
        assert_eq!(done.code, Some(0), "{}", done.err);
        assert!(done.err.contains("posted 4 events") && done.err.contains("skipped 1 notice of"), "{}", done.err);
        begun.elapsed()
    };
    assert!(play("2x") >= Duration::from_millis(1500));
    play("1000x");
    play("max");
    assert_eq!(history(&broker), [numbers(0..4), numbers(0..4), numbers(0..4)].concat());
    let wrong = run(&["post", "--speed", "fast"], "", &[]);
    assert!(wrong.code == Some(64) && wrong.err.contains("1x or 10x, or max"), "{}", wrong.err);
}
