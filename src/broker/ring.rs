//! The events retained by [`super::history`]: one order, with a bounded share for connection events.
//!
//! Anybody who may connect causes events of Type `connections`, without any right. They count against the ring's
//! bounds like all others, but may use at most one [`SHARE`]th of its events and bytes. Beyond that the oldest
//! *connection events* are dropped, so they cannot push out what a reconnecting client is waiting for. Every event
//! keeps its number. A number that is not retained although it is not below [`Ring::first`] belonged to a connection
//! event; [`Ring::read`] counts those separately, so that only clients that listen to connections are notified.
//!
//! Contract: pure and bounded. Numbers rise by one from event to event, for both kinds together.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;

use super::connection::CONNECTIONS;
use super::origin::Trace;
use crate::event::Event;

/// Events about connections may use one part in this many of the limits.
pub(super) const SHARE: usize = 8;

/// Limits of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// The maximum number of events; zero disables the history.
    pub events: usize,
    /// The maximum number of bytes of their frames.
    pub bytes: usize,
}

/// A retained event.
#[derive(Debug, Clone)]
pub struct Retained {
    /// Its sequence number.
    pub number: u64,
    /// The event.
    pub event: Arc<Event>,
    /// Its trace, if nodes share it.
    pub trace: Option<Trace>,
}

#[derive(Debug)]
pub(super) struct Entry {
    number: u64,
    event: Arc<Event>,
    /// The latest time so far, of intake or of an event; never decreases.
    horizon: Timestamp,
    taken: Timestamp,
    trace: Option<Trace>,
}

/// Entries in the order of their numbers, which need not be consecutive.
#[derive(Debug, Default)]
struct Lane {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Lane {
    fn push(&mut self, entry: Entry) {
        self.bytes += entry.event.frame().len();
        self.entries.push_back(entry);
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.event.frame().len();
        Some(entry)
    }

    fn front(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.number)
    }

    /// Returns the index of the first entry with this number or a higher one.
    fn at(&self, number: u64) -> usize {
        self.entries.partition_point(|entry| entry.number < number)
    }

    fn exceeds(&self, limits: HistoryLimits) -> bool {
        self.entries.len() > limits.events || self.bytes > limits.bytes
    }
}

/// The result of reading a range of numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RangeRead {
    /// The number of events at the start of the range that are no longer retained.
    pub lost: u64,
    /// The number of later connection events that are no longer retained, all before the number `notified`.
    pub connections: u64,
    /// The reader has been notified of all missing connection events before this number.
    pub notified: u64,
    /// The number at which to continue: everything before it was read or counted.
    pub next: u64,
}

/// Recent events in sequence order, bounded in count and bytes, with a share for connection events.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// The number of the next event.
    next: u64,
    /// All events below this number are gone.
    first: u64,
    /// All connection events below this number are gone.
    known: u64,
    others: Lane,
    connections: Lane,
    horizon: Timestamp,
    /// Events whose own Time was too far ahead to count, oldest first.
    ahead: VecDeque<(u64, Timestamp)>,
}

impl Ring {
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Returns the lowest number that can be read.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn horizon(&self) -> Timestamp {
        self.horizon
    }

    pub(super) fn is_empty(&self) -> bool {
        self.others.entries.is_empty() && self.connections.entries.is_empty()
    }

    /// Assigns numbers to events that are not retained.
    pub(super) fn skip(&mut self, events: u64) {
        self.next += events;
        self.first = self.next;
    }

    /// Adds the next event. Its own `time` counts unless it is later than `latest`.
    pub(super) fn push(
        &mut self,
        event: &Arc<Event>,
        time: Option<Timestamp>,
        trace: Option<Trace>,
        now: Timestamp,
        latest: Timestamp,
    ) {
        let number = self.next;
        self.next += 1;
        if let Some(time) = time.filter(|time| *time > latest) {
            self.ahead.push_back((number, time));
        }
        let time = time.filter(|time| *time <= latest).unwrap_or(now);
        self.horizon = self.horizon.max(now).max(time);
        let lane = if event.kind() == CONNECTIONS { &mut self.connections } else { &mut self.others };
        lane.push(Entry { number, event: Arc::clone(event), horizon: self.horizon, taken: now, trace });
    }

    /// Evicts events until the limits are met, and returns them.
    pub(super) fn evict(&mut self, limits: HistoryLimits) -> Vec<Entry> {
        let mut gone = Vec::new();
        let share = HistoryLimits { events: (limits.events / SHARE).max(1), bytes: limits.bytes / SHARE };
        while self.connections.exceeds(share) {
            let Some(entry) = self.connections.pop() else { break };
            self.known = entry.number + 1;
            gone.push(entry);
        }
        while self.exceeds(limits) {
            let Some(entry) = self.pop_oldest() else { break };
            self.first = entry.number + 1;
            gone.push(entry);
        }
        self.known = self.known.max(self.first);
        let left = self.ahead.partition_point(|(number, _)| *number < self.first);
        self.ahead.drain(..left);
        gone
    }

    fn exceeds(&self, limits: HistoryLimits) -> bool {
        let (others, connections) = (&self.others, &self.connections);
        others.entries.len() + connections.entries.len() > limits.events
            || others.bytes + connections.bytes > limits.bytes
    }

    fn pop_oldest(&mut self) -> Option<Entry> {
        match (self.others.front(), self.connections.front()) {
            (Some(other), Some(connection)) if connection < other => self.connections.pop(),
            (None, _) => self.connections.pop(),
            _ => self.others.pop(),
        }
    }

    /// Returns the intake time of the oldest retained event.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        let fronts = [&self.others, &self.connections].into_iter().filter_map(|lane| lane.entries.front());
        fronts.min_by_key(|entry| entry.number).map(|entry| entry.taken)
    }

    /// Returns the number after the last retained event that is older than `time`; `None` if there is no such event.
    pub(super) fn find(&self, time: Timestamp) -> Option<u64> {
        let last = |lane: &Lane| {
            let at = lane.entries.partition_point(|entry| entry.horizon < time);
            at.checked_sub(1).map(|at| lane.entries[at].number + 1)
        };
        last(&self.others).max(last(&self.connections))
    }

    /// Returns the number of the first event with exactly this Time, which was too far ahead to count.
    pub(super) fn find_ahead(&self, time: Timestamp) -> Option<u64> {
        self.ahead.iter().find(|(_, other)| *other == time).map(|(number, _)| *number)
    }

    /// Reads up to `max` events of a range, in order. Counts missing connection events from `notified` on.
    pub(super) fn read(&self, range: Range<u64>, notified: u64, max: usize, into: &mut Vec<Retained>) -> RangeRead {
        let lost = self.first.min(range.end).saturating_sub(range.start);
        let start = range.start + lost;
        let before = into.len();
        let lanes = [&self.others, &self.connections];
        let [mut others, mut connections] = lanes.map(|lane| lane.entries.range(lane.at(start)..).peekable());
        while into.len() - before < max {
            let number = |entry: Option<&&Entry>| entry.map_or(u64::MAX, |entry| entry.number);
            let lane = if number(others.peek()) < number(connections.peek()) { &mut others } else { &mut connections };
            let Some(entry) = lane.next_if(|entry| entry.number < range.end) else { break };
            into.push(Retained { number: entry.number, event: Arc::clone(&entry.event), trace: entry.trace });
        }
        let full = into.len() - before == max;
        let next = if full { into.last().map_or(start, |last| last.number + 1) } else { range.end };
        let (from, known) = (notified.max(start), self.known.min(range.end));
        RangeRead { lost, connections: self.gone(from, known), notified: notified.max(known), next: next.max(start) }
    }

    /// Returns the number of connection events from `from` on and before `known` that are no longer retained.
    fn gone(&self, from: u64, known: u64) -> u64 {
        let retained = self.others.at(known).saturating_sub(self.others.at(from));
        known.saturating_sub(from).saturating_sub(retained as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Draft;

    const LIMITS: HistoryLimits = HistoryLimits { events: 80, bytes: 1 << 20 };

    fn event(kind: &str) -> Arc<Event> {
        Arc::new(Draft::new(kind, "create", "k").seal(Timestamp::UNIX_EPOCH))
    }

    fn add(ring: &mut Ring, kind: &str, count: usize) {
        add_within(ring, kind, count, LIMITS);
    }

    fn add_within(ring: &mut Ring, kind: &str, count: usize, limits: HistoryLimits) {
        let (event, now) = (event(kind), Timestamp::UNIX_EPOCH);
        for _ in 0..count {
            ring.push(&event, None, None, now, now);
            ring.evict(limits);
        }
    }

    fn read_range(ring: &Ring, range: Range<u64>, notified: u64, max: usize) -> (Vec<u64>, RangeRead) {
        let mut events = Vec::new();
        let read = ring.read(range, notified, max, &mut events);
        (events.iter().map(|one| one.number).collect(), read)
    }

    #[test]
    fn any_number_of_connections_pushes_out_none_but_older_ones() {
        let mut ring = Ring::default();
        add(&mut ring, "machines", 30);
        add(&mut ring, CONNECTIONS, 10_000);
        add(&mut ring, "machines", 2);
        let (numbers, read) = read_range(&ring, 0..ring.next(), 0, 100);
        let expected: Vec<u64> = (0..30).chain(10_020..10_032).collect();
        assert_eq!(numbers, expected, "ten of eighty are connections");
        assert_eq!(read, RangeRead { lost: 0, connections: 9990, notified: 10_020, next: 10_032 });
    }

    #[test]
    fn what_is_gone_is_counted_once_whatever_the_portions() {
        let mut ring = Ring::default();
        add(&mut ring, CONNECTIONS, 15);
        add(&mut ring, "machines", 5);
        add(&mut ring, CONNECTIONS, 7);
        let (mut from, mut notified, mut gone, mut all) = (0, 0, 0, Vec::new());
        while from < ring.next() {
            let (numbers, read) = read_range(&ring, from..ring.next(), notified, 2);
            all.extend(numbers);
            gone += read.connections;
            (from, notified) = (read.next, read.notified);
            if from == 17 {
                add(&mut ring, CONNECTIONS, 1);
            }
        }
        assert_eq!(all.len() as u64 + gone, ring.next(), "{all:?}");
        assert!(all.is_sorted());
    }

    #[test]
    fn all_together_keep_the_limits() {
        let mut ring = Ring::default();
        add(&mut ring, CONNECTIONS, 10);
        add(&mut ring, "machines", 75);
        assert_eq!(ring.first(), 5);
        let (numbers, read) = read_range(&ring, 0..ring.next(), 0, 100);
        assert_eq!((numbers.len(), read.lost, read.connections), (80, 5, 0));
        assert_eq!(read_range(&ring, 7..9, 0, 100).0, [7, 8]);
    }

    #[test]
    fn bytes_may_be_used_up_to_the_last_one_of_the_share_and_of_all() {
        let mut ring = Ring::default();
        let other = "c".repeat(CONNECTIONS.len());
        let limits = HistoryLimits { events: 1000, bytes: 3 * SHARE * event(CONNECTIONS).frame().len() };
        let numbers = |ring: &Ring| read_range(ring, 0..ring.next(), 0, 100).0;
        add_within(&mut ring, CONNECTIONS, 3, limits);
        assert_eq!(numbers(&ring), [0, 1, 2], "three fill the share");
        add_within(&mut ring, CONNECTIONS, 1, limits);
        assert_eq!(numbers(&ring), [1, 2, 3]);
        add_within(&mut ring, &other, 3 * SHARE - 3, limits);
        assert_eq!((numbers(&ring).len(), ring.first()), (3 * SHARE, 0), "all are as long as these");
        add_within(&mut ring, &other, 1, limits);
        assert_eq!((numbers(&ring).len(), ring.first()), (3 * SHARE, 2));
    }
}
