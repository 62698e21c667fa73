//! Work to be counted in instructions, which a busy machine does not change: `make instructions`.
//!
//! Started under valgrind, which counts only inside the functions called `counted_*`; each prints how many units of
//! work that were. `match` and `jobs` ask an index of 100,000 registrations about 10,000 events. `fail` and `pass` ask
//! an index about 640 events, each of which reaches 1,000 filters that are all false or all true. `outbox` puts 64
//! events of 1 KB into the outboxes of 1,000 connections, gathers them as for one write each, and takes them out again.
//! `intake` reads a posted array of 64 events of 1 KB. `shared`, `classes` and `filters` are the turns of
//! `matched_turn` in `fanout_turn`; `make counting-cost` shows what counting adds to them. Without valgrind it shows
//! only that the work is done.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

#[path = "common/bodies.rs"]
mod bodies;
#[path = "common/fleet.rs"]
mod fleet;
#[path = "common/machines.rs"]
mod machines;
#[path = "common/matched.rs"]
mod matched;
#[path = "common/passing.rs"]
mod passing;

use std::hint::black_box;
use std::io::{self, Write};
use std::sync::Arc;

use hydrant::event::posting::{Form, Posting};
use hydrant::event::{Draft, Event};
use hydrant::fanout::outbox::gather::Gathered;
use hydrant::fanout::outbox::{ConnId, Fanout};
use hydrant::index::Index;
use hydrant::overflow::Overflow;
use hydrant::stats::{Delivery, OutboxLimits};

const MATCHED: usize = 10_000;
const CONNECTIONS: usize = 1_000;
const EVENTS: usize = 64;
const TURNS: usize = 10;

#[inline(never)]
fn counted_match<S: Copy>(index: &mut Index<S>, events: &[Event]) -> u64 {
    let mut hits = 0;
    for event in events {
        index.matches(event, |_| true, |_| hits += 1);
    }
    hits
}

#[inline(never)]
fn counted_outbox(fanout: &mut Fanout, events: &[Arc<Event>], conns: &[ConnId], dirty: &mut Vec<ConnId>) -> usize {
    for event in events {
        fanout.begin_event(event);
        for &conn in conns {
            assert_eq!(fanout.deliver(event, 0, conn), Delivery::Queued);
        }
        fanout.end_event();
    }
    fanout.take_dirty(dirty);
    let mut written = 0;
    for &conn in dirty.iter() {
        let mut gathered = Gathered::new();
        fanout.gather(conn, 256 << 10, &mut gathered);
        let bytes = gathered.iter().map(|slice| slice.len()).sum();
        drop(gathered);
        fanout.advance(conn, bytes, 1);
        written += bytes;
    }
    fanout.end_round(1);
    written
}

#[inline(never)]
fn counted_intake(posting: &Posting<'_>, body: &[u8], form: Form) -> Vec<Event> {
    posting.read(body, form).unwrap()
}

#[inline(never)]
fn counted_turn(turn: &mut matched::Turn) -> usize {
    turn.run()
}

fn turns(kind: &str, out: &mut impl Write) -> io::Result<()> {
    let mut turn = matched::Turn::new(kind);
    // Once before, so that nothing is made for the first time.
    turn.run();
    let deliveries: usize = (0..TURNS).map(|_| counted_turn(black_box(&mut turn))).sum();
    assert_eq!(deliveries, TURNS * matched::CONNECTIONS * matched::EVENTS);
    writeln!(out, "{kind}: {deliveries} deliveries, {TURNS} turns")
}

fn matching(work: &str, kind: &str, out: &mut impl Write) -> io::Result<()> {
    let mut index = fleet::index(100_000);
    let events: Vec<Event> = fleet::events(kind).take(MATCHED).collect();
    // Once before, so that nothing is made for the first time.
    warm(&mut index, &events[..100]);
    let hits = counted_match(&mut index, black_box(&events));
    writeln!(out, "{work}: {MATCHED} events, {hits} hits")
}

fn warm<S: Copy>(index: &mut Index<S>, events: &[Event]) {
    events.iter().for_each(|event| index.matches(event, |_| true, |_| ()));
}

fn filters(work: &str, percent: usize, out: &mut impl Write) -> io::Result<()> {
    let mut index = passing::index(percent);
    let events = machines::events();
    warm(&mut index, &events);
    let hits: u64 = (0..TURNS).map(|_| counted_match(&mut index, black_box(&events))).sum();
    let filters = TURNS * events.len() * passing::SUBSCRIBERS;
    assert_eq!(hits, (filters * percent / 100) as u64);
    writeln!(out, "{work}: {filters} filters, {hits} hits")
}

fn outbox(out: &mut impl Write) -> io::Result<()> {
    let object = format!("{{\"text\":\"{}\"}}", "x".repeat(900));
    let mut draft = Draft::new("machines", "update", "k");
    draft.object = &object;
    let events: Vec<Arc<Event>> = (0..EVENTS).map(|_| Arc::new(draft.seal(jiff::Timestamp::UNIX_EPOCH))).collect();
    let mut fanout = Fanout::new(OutboxLimits { bytes: 16 << 20, events: 16_384 });
    let conns: Vec<ConnId> = (0..CONNECTIONS).map(|_| fanout.open(Overflow::Disconnect)).collect();
    let mut dirty = Vec::new();
    let mut written = 0;
    for _ in 0..TURNS {
        written += counted_outbox(&mut fanout, black_box(&events), &conns, &mut dirty);
    }
    assert_eq!(written, TURNS * CONNECTIONS * EVENTS * events[0].frame().len());
    writeln!(out, "outbox: {} deliveries, {TURNS} turns", TURNS * CONNECTIONS * EVENTS)
}

fn intake(out: &mut impl Write) -> io::Result<()> {
    let now = || jiff::Timestamp::UNIX_EPOCH;
    let posting =
        Posting { principal: "user:bench", may_impersonate: false, event_bytes: 1 << 20, events: usize::MAX, now };
    let body = bodies::array(EVENTS, 1_024);
    // Once before, so that nothing is made for the first time.
    drop(posting.read(&body, Form::Json).unwrap());
    for _ in 0..TURNS {
        assert_eq!(counted_intake(&posting, black_box(&body), Form::Json).len(), EVENTS);
    }
    writeln!(out, "intake: {} events, {TURNS} bodies of {} bytes", TURNS * EVENTS, body.len())
}

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    // Cargo's own argument `--bench` is none of ours.
    let all = ["match", "jobs", "fail", "pass", "outbox", "intake"].into_iter().chain(matched::KINDS);
    let asked = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    all.filter(|work| asked.as_ref().is_none_or(|asked| asked == work)).try_for_each(|work| match work {
        "match" => matching(work, "machines", &mut out),
        "jobs" => matching(work, "jobs", &mut out),
        "fail" => filters(work, 0, &mut out),
        "pass" => filters(work, 100, &mut out),
        "outbox" => outbox(&mut out),
        "intake" => intake(&mut out),
        kind => turns(kind, &mut out),
    })
}
