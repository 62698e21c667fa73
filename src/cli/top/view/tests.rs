//! Tests of what `top` draws, on terminals of several sizes.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui_core::backend::TestBackend;
use ratatui_core::style::Color;
use ratatui_core::terminal::Terminal;

use super::*;
use crate::cli::text::{acts, width};
use crate::cli::top::figures::{Connection, Registration, Status};
use crate::cli::top::state::{List, Look};

const STATUS: &str = r#"{"Version":"0.1.0","Id":"node-a","Started":"2026-01-01T00:00:00Z","Time":"2026-01-01T03:02:00Z",
"Sequence":"18c5a3f2b1d00e47:12345","HistoryFrom":"2026-01-01T02:50:00Z","Connections":1024,"Registrations":2048,
"Received":{"post":12000,"upstream":500,"demo":0},"Refused":3,"Delivered":381100,"DeliveredBytes":104857600,
"Dropped":{"slow_consumer":7},"Conflated":5,"SlowConsumers":{"close":2},"Disconnects":{"slow_consumer":2,"client":9},
"Rejected":{"forbidden":1},"FilterWork":1000000,
"Queue":{"Events":123,"Bytes":12288,"DeepestBytes":4096,"OldestMilliseconds":3,"InboxEvents":0},
"Shards":[{"Events":12500,"BusySeconds":1.0,"LongestTurnMilliseconds":1.5},
{"Events":12500,"BusySeconds":2.0,"LongestTurnMilliseconds":0.2}],
"Latency":{"BoundsMicroseconds":[128,256,512],"Counts":[10,10,0,0]},
"Upstreams":[{"Endpoint":"https://drp:8092","Connected":false,"Since":"2026-01-01T03:00:00Z",
"Error":"refused\u001b[2J","Gaps":2}],
"Nats":{"Connected":true,"LostIn":1005,"LostOut":3,"Since":"2026-01-01T00:00:00Z",
"Stream":{"Name":"EVENTS","Usable":true,"Since":"2026-01-01T00:00:00Z"}},
"Identity":{"Endpoint":"https://drp:8092","Readable":true,"Since":"2026-01-01T00:00:00Z","Error":""}}"#;

fn connection(n: u64) -> Connection {
    serde_json::from_value(serde_json::json!({
        "CreateTime": "2026-01-01T02:00:00Z", "Principal": format!("user:console-{n}\u{9b}31m"),
        "RemoteAddr": format!("10.0.0.1:{n}"), "Type": "websocket", "Registrations": 2, "QueuedEvents": n,
        "QueuedBytes": n * 1000, "DeliveredEvents": 12_345_678,
        "DroppedEvents": n % 2, "QueuedAgeMilliseconds": n * 30, "Encoding": "deflate", "Overflow": "conflate",
    }))
    .unwrap()
}

fn registration(n: u64) -> Registration {
    serde_json::from_value(serde_json::json!({
        "Spec": format!("machines.update.*.Stage=In(local,{n},\u{202e}x)"), "Hits": n, "Deliveries": n * 10,
        "LastHit": "2026-01-01T03:01:00Z", "Shared": 3, "Combinations": 1, "FilterWork": n * 1_000_000,
        "FilterBytes": 120,
    }))
    .unwrap()
}

fn full() -> State {
    let mut state = State::new("https://127.0.0.1:8092".to_owned());
    let status: Status = serde_json::from_str(STATUS).unwrap();
    state.looked(Look { status: status.clone(), ..Look::default() });
    let mut later = Status { time: "2026-01-01T03:02:02Z".to_owned(), ..status };
    *later.received.get_mut("post").unwrap() += 2408;
    (later.delivered, later.filter_work) = (later.delivered + 76_220, later.filter_work + 2_400_000);
    (later.shards[0].busy_seconds, later.latency.counts) = (1.5, vec![10_000, 40, 3, 0]);
    let look = Look {
        status: later,
        connections: Some(Ok((0..40).map(connection).collect::<Vec<_>>().into())),
        registrations: Some(Ok((0..3).map(registration).collect::<Vec<_>>().into())),
    };
    state.looked(look);
    state
}

fn press(state: &mut State, code: KeyCode) {
    state.key(KeyEvent::new(code, KeyModifiers::NONE));
}

fn picture(state: &State, columns: u16, rows: u16, is_coloured: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    let theme = Theme { is_coloured };
    terminal.draw(|frame| draw(state, theme, frame.area(), frame.buffer_mut())).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(state: &State, columns: u16, rows: u16) -> Vec<String> {
    let cells = picture(state, columns, rows, false);
    let line = |y| (0..columns).map(|x| cells[(x, y)].symbol()).collect::<String>();
    (0..rows).map(|y| line(y).trim_end().to_owned()).collect()
}

#[test]
fn the_overview_of_a_small_terminal() {
    let expected = "\x20hydrant 0.1.0  https://127.0.0.1:8092  live  up 3h 2m  node-a
 1 Overview   2 Connections   3 Registrations
events in      1,204 /s  █
            14,908 in total: post 14,408, upstream 500
deliveries    38,110 /s  █
            457,320 in total, 0 B/s
latency     p50 128 µs  p90 128 µs  p99 128 µs  p99.9 256 µs
queued      123 events, 12.0 KB; deepest 4.0 KB, oldest 3 ms; inbox 0
filters     1.2 ms of work per second
clients     1,024 connections, 2,048 registrations

Since the start
lost        endpoints: 2 gaps; other nodes: 1,005 events in, 3 out
dropped     slow_consumer 7
slow        close 2
conflated   5
closed      client 9, slow_consumer 2
refused     3 events (inboxes full); connections: forbidden 1

endpoint    https://drp:8092 not connected for 2m 2s: refused\u{fffd}[2J
nats        connected for 3h 2m
stream      EVENTS usable for 3h 2m
identity    https://drp:8092 readable for 3h 2m
q quit  1 2 3 tabs  s sort  r reverse  space pause  ? help";
    assert_eq!(lines(&full(), 80, 24).join("\n"), expected);
    let mut scrolled = full();
    press(&mut scrolled, KeyCode::End);
    let last = lines(&scrolled, 80, 24);
    assert_eq!(
        last[20..23],
        [
            "Shard      Events    Busy   Longest turn",
            "0          12,500    25 %         1.5 ms",
            "1          12,500     0 %         200 µs"
        ]
    );
}

#[test]
fn a_wide_terminal_has_both_columns() {
    let all = lines(&full(), 200, 50);
    assert!(
        all[2].starts_with("events in") && all[2].contains("endpoint    https://drp:8092 not connected"),
        "{}",
        all[2]
    );
    assert!(all.iter().any(|line| line.contains("Shard")) && all[49].starts_with("q quit"));
}

#[test]
fn connections_fit_their_terminal() {
    let mut state = full();
    press(&mut state, KeyCode::Char('2'));
    let small = lines(&state, 80, 24);
    assert_eq!(small[2], "40 websockets and streams");
    assert_eq!(small[3], "Principal            From          Queued▾   Oldest   Delivered   Dropped");
    assert_eq!(small[4], "user:console-39\u{fffd}31m  10.0.0.1:39   38.1 KB    1.2 s       12.3M         1");
    let wide = lines(&state, 200, 50);
    assert!(wide[3].contains("Encoding") && wide[4].ends_with("deflate") && wide[43].contains("console-0"), "{wide:?}");
    press(&mut state, KeyCode::PageDown);
    assert!(lines(&state, 80, 24)[4].contains("console-29"));
    press(&mut state, KeyCode::End);
    assert!(lines(&state, 80, 24)[22].contains("console-0"), "the last page is full");
}

#[test]
fn an_incomplete_list_says_why() {
    let mut state = full();
    press(&mut state, KeyCode::Char('2'));
    assert_eq!(lines(&state, 100, 24)[2], "40 websockets and streams");
    let lack = |state: &mut State, missing: &str| {
        let list = List { rows: vec![connection(7)], missing: Some(missing.to_owned()) };
        let status = state.status.clone().unwrap();
        state.looked(Look { status, connections: Some(Ok(list)), ..Look::default() });
    };
    let why = "incomplete: the endpoint did not return its connections";
    lack(&mut state, "endpoint");
    assert_eq!(lines(&state, 100, 24)[2], format!("1 websockets and streams, {why}"));
    let all = text(&mut state, 100, 10);
    assert!(all.contains(&format!("Connections\n{why}\nPrincipal")), "{all}");
    state.tab = Tab::Connections;
    lack(&mut state, "some\u{7}");
    assert_eq!(lines(&state, 100, 24)[2], "1 websockets and streams, incomplete: some\u{fffd} missing");
}

#[test]
fn registrations_and_what_may_not_be_seen() {
    let mut state = full();
    press(&mut state, KeyCode::Char('3'));
    let all = lines(&state, 100, 24);
    assert!(all[3].starts_with("Registration") && all[3].contains("Cost▾"), "{}", all[3]);
    assert!(
        all[4].starts_with("machines.update.*.Stage=In(local,2,\u{fffd}x)") && all[4].contains("2.0 ms"),
        "{}",
        all[4]
    );
    let status = state.status.clone().unwrap();
    let messages = vec!["a tenant sees".to_owned()];
    let refusal = RefusedError { status: 400, messages, retry_after: None, model: String::new() };
    state.looked(Look { status, registrations: Some(Err(refusal)), ..Look::default() });
    assert_eq!(lines(&state, 100, 24)[2], "the server answered 400 (Bad Request): a tenant sees");
}

#[test]
fn registrations_that_are_left_out_are_counted() {
    let mut state = full();
    press(&mut state, KeyCode::Char('3'));
    assert_eq!(lines(&state, 100, 24)[2], "3 different registrations");
    let mut noted = |rows: u64, all: i64| {
        let status = Status { registrations: all, ..state.status.clone().unwrap() };
        let rows = (0..rows).map(registration).collect::<Vec<_>>().into();
        state.looked(Look { status, registrations: Some(Ok(rows)), ..Look::default() });
        lines(&state, 100, 24)[2].clone()
    };
    assert_eq!(noted(200, 10_000), "the busiest 200 of 10,000 registrations");
    // Each row stands for three, and so many come from more than one shard.
    assert_eq!(noted(200, 600), "200 different registrations");
    // A shard has room for these: the others came later than the list.
    assert_eq!(noted(99, 10_000), "99 different registrations");
}

#[test]
fn a_tab_that_was_opened_after_the_pause_says_so() {
    let mut state = full();
    state.registrations = None;
    press(&mut state, KeyCode::Char('3'));
    assert_eq!(lines(&state, 100, 24)[2], "");
    press(&mut state, KeyCode::Char(' '));
    assert_eq!(lines(&state, 100, 24)[2], "not requested before the pause; space resumes");
    let mut state = State::new(String::new());
    press(&mut state, KeyCode::Char(' '));
    assert_eq!(lines(&state, 100, 24)[2], "not requested before the pause; space resumes");
}

#[test]
fn what_went_wrong_stands_at_the_bottom_with_the_last_figures() {
    let mut state = State::new("https://drp\u{1b}:1".to_owned());
    assert_eq!(lines(&state, 80, 24)[23], "connecting to https://drp\u{fffd}:1");
    state = full();
    state.lost("cannot connect\u{7}; retrying in 0.5 s".to_owned());
    let all = lines(&state, 80, 24);
    assert!(all[0].contains("LOST") && all[2].starts_with("events in"));
    assert_eq!(all[23], "cannot connect\u{fffd}; retrying in 0.5 s");
    state.looked(Look { status: state.status.clone().unwrap(), ..Look::default() });
    assert!(lines(&state, 80, 24)[0].contains("live"));
    press(&mut state, KeyCode::Char('p'));
    assert!(lines(&state, 80, 24)[0].contains("PAUSED"));
    press(&mut state, KeyCode::Char('?'));
    assert!(lines(&state, 80, 24).iter().any(|line| line.contains("overview, connections, registrations")));
}

#[test]
fn every_size_is_drawn_and_nothing_that_a_terminal_acts_on() {
    let mut state = full();
    state.shows_help = true;
    for tab in Tab::ALL {
        state.tab = tab;
        for (columns, rows) in [(1, 1), (1, 50), (200, 1), (5, 3), (20, 4), (20, 5), (79, 24), (200, 50)] {
            for shows_help in [true, false] {
                state.shows_help = shows_help;
                let all = lines(&state, columns, rows).concat();
                assert!(!all.chars().any(acts), "{columns}x{rows}");
            }
        }
    }
}

#[test]
fn colours_are_left_out_if_they_are_not_wanted() {
    let mut state = full();
    for tab in Tab::ALL {
        state.tab = tab;
        let plain =
            |buffer: &Buffer| buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset);
        assert!(plain(&picture(&state, 80, 24, false)), "{tab:?}");
        assert!(!plain(&picture(&state, 80, 24, true)), "{tab:?}");
    }
}

#[test]
fn one_picture_as_text_has_all_three() {
    let all = text(&mut full(), 100, 10);
    for part in [
        "events in",
        "Shard",
        "Connections\nPrincipal",
        "... of 40 websockets and streams",
        "Registrations\nRegistration",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(all.lines().all(|line| width(line) <= 110) && !all.chars().any(|c| acts(c) && c != '\n'));
}
