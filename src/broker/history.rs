//! Recent events, for clients that reconnect and ask for what they missed (`?since=`).
//!
//! The history is a ring of references to sealed events, bounded in count and bytes. The sequencer fills it under its
//! lock, so its order is the global order. Shards read it in batches ([`crate::fanout::session`]); an ordinary delivery
//! never touches it.
//!
//! Contract: [`History::read`] returns every retained event of a range in order, and the number of events that are
//! gone. Connection events have a bounded share of the ring ([`super::ring`]). A starting point is a [`Since`]: a time,
//! or a sequence number with the epoch of the process that assigned it. A time selects the first retained event that
//! was accepted at or after it, *or whose own Time is at or after it*: a client that asks for the Time of the last
//! event it received gets that event again and everything after it, whatever the producers' clocks say. Events' own
//! Times count only while they are less than [`SKEW`] ahead of this clock, so that one wrong clock cannot make every
//! client replay everything. A client that asks for a Time further ahead gets the retained event with exactly that
//! Time, and everything after it.
//!
//! A Time after the start of this process may belong to an event of an earlier run or of another node, if its
//! producer's clock was ahead ([`History::may_precede`]). That is assumed in two cases: the Time is ahead of the clock
//! even now, or clocks that were so far ahead have been measured since. Then, unless a retained event has that Time,
//! nobody knows which events preceded it: the client gets a gap notice and everything that is retained. Other times are
//! used as they are; otherwise every request in the first minutes of a process would get a gap notice.
//!
//! Why a ring in memory: a reconnecting client has missed seconds, not days, and the events are in memory anyway.
//! Retaining one costs a reference.

use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use thiserror::Error;

use super::ahead::{self, Ahead};
use super::archive::Archive;
use super::gap::Gap;
use super::milestones::{self, Milestones};
use super::origin::Trace;
use super::ring::{Entry, Ring};
use crate::clock::ClockReading;
use crate::event::{Event, parse_time};

pub use super::ring::{HistoryLimits, RangeRead, Retained};
pub use crate::event::Position;

/// The maximum by which an event's own Time may be ahead of this clock.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The maximum difference between the clocks of nodes and NATS servers.
const CLOCKS: SignedDuration = SignedDuration::from_secs(30);

/// How many retained events are searched for one that bears a requested Time.
const SEARCHED: usize = 256;

/// The age up to which other nodes' measurements cover a time: events of it may have been accepted that much earlier.
const MEASURED: SignedDuration = SignedDuration::from_secs(ahead::SPAN.as_secs().cast_signed() - SKEW.as_secs());

/// The point from which a client requests events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Events from this time on.
    Time(Timestamp),
    /// Events from this position on.
    Position(Position),
}

/// The reason why a starting point is invalid.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum SinceError {
    /// Neither of the two formats.
    #[error("since must be an RFC 3339 time, or EPOCH:SEQUENCE as in the header X-Hydrant-Sequence")]
    Malformed,
    /// The first requested event does not exist yet.
    #[error("since is in the future")]
    Future,
}

impl FromStr for Since {
    type Err = SinceError;

    fn from_str(text: &str) -> Result<Self, SinceError> {
        if let Some((epoch, sequence)) = text.split_once(':')
            && epoch.len() == 16
            && epoch.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            let epoch = u64::from_str_radix(epoch, 16).map_err(|_| SinceError::Malformed)?;
            let sequence = sequence.parse().map_err(|_| SinceError::Malformed)?;
            return Ok(Self::Position(Position { epoch, sequence }));
        }
        // A client resumes from the Time of an event, so every such Time is one: jiff's own parser lacks some.
        let time = parse_time(text).or_else(|| text.parse().ok());
        time.map(Self::Time).ok_or(SinceError::Malformed)
    }
}

/// The start of a replay.
#[derive(Debug, Clone)]
pub struct Start {
    /// The starting point as the client wrote it.
    pub requested: Box<str>,
    /// The number of the first event.
    pub sequence: u64,
    /// The requested time; `None` for a position, or for a Time far ahead of the clock.
    pub time: Option<Timestamp>,
    /// The events that are missing before it.
    pub gap: Option<Gap>,
    /// The archive that may contain the missing events.
    pub beyond: Option<Beyond>,
}

/// A starting point before the history.
#[derive(Debug, Clone)]
pub struct Beyond {
    /// The archive to read.
    pub archive: Arc<dyn Archive>,
    /// The time from which events are requested.
    pub time: Timestamp,
    /// No requested event was accepted before this time; `None` if unknown.
    pub begin: Option<Timestamp>,
}

/// Events that are no longer retained.
#[derive(Debug, Default)]
pub(super) struct Forgotten(#[expect(dead_code, reason = "held to be dropped")] Vec<Entry>);

/// The Times of events; parsed before the sequencer's lock is taken.
#[derive(Debug)]
pub(super) struct Times(Vec<Option<Timestamp>>);

impl Times {
    /// Retains only the Times of events that stay.
    pub(super) fn keep(&mut self, kept: impl Fn(usize) -> bool) {
        let mut indexes = 0..;
        self.0.retain(|_| indexes.next().is_some_and(&kept));
    }
}

/// A bounded in-memory ring of recent events, read by replays.
#[derive(Debug)]
pub struct History {
    epoch: u64,
    /// The time at which the process began to number events.
    began: Timestamp,
    limits: HistoryLimits,
    shelf: Mutex<Shelf>,
}

/// Retained events, and notes of the intake times of those that are no longer retained.
#[derive(Debug, Default)]
struct Shelf {
    ring: Ring,
    milestones: Milestones,
    /// How far producers' clocks are ahead, as measured here and as reported by other nodes.
    ahead: Ahead,
    told: Ahead,
}

impl History {
    /// Creates an empty history. `epoch` distinguishes this run of the process from others ([`milestones::epoch`]).
    pub fn new(limits: HistoryLimits, epoch: u64, now: Timestamp) -> Self {
        Self { epoch, began: now, limits, shelf: Mutex::default() }
    }

    /// Returns the epoch of this run of the process.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns the Times of events that [`History::append`] needs.
    pub(super) fn times(&self, events: &[Event]) -> Times {
        Times(if self.limits.events == 0 { Vec::new() } else { events.iter().map(Event::moment).collect() })
    }

    /// Appends sequenced events, with their traces if nodes share events. Must be called in sequence order. Returns the
    /// evicted events; drop them without holding a lock, because they may be the last references.
    pub(super) fn append(
        &self,
        events: &[Arc<Event>],
        times: &Times,
        traces: &[Option<Trace>],
        now: ClockReading,
    ) -> Forgotten {
        let mut kept = self.shelf.lock();
        let Shelf { ring, milestones, ahead, .. } = &mut *kept;
        milestones.note(ring.next(), now.wall, ring.horizon());
        if self.limits.events == 0 {
            ring.skip(events.len() as u64);
            return Forgotten::default();
        }
        let latest = now.wall.checked_add(SKEW).unwrap_or(now.wall);
        let traces = traces.iter().copied().chain(std::iter::repeat(None));
        for ((event, time), trace) in events.iter().zip(&times.0).zip(traces) {
            ring.push(event, *time, trace, now.wall, latest);
            ahead.note(time.filter(|time| *time <= latest).unwrap_or(now.wall), now);
        }
        Forgotten(ring.evict(self.limits))
    }

    /// Returns the position of the next event.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, sequence: self.shelf.lock().ring.next() }
    }

    /// Returns a time at or after which all events from a position on were accepted, by any NATS server's clock; `None`
    /// if unknown. For a position of another run of the process, this is the start of that run.
    pub(super) fn moment(&self, position: Position, now: Timestamp) -> Option<Timestamp> {
        let moment = if position.epoch == self.epoch {
            self.shelf.lock().milestones.before(position.sequence)
        } else {
            milestones::began(position.epoch).filter(|began| *began <= now)
        };
        moment.map(by_any_clock)
    }

    /// Returns a time at or after which all events of `time` or later were accepted, by any NATS server's clock; `None`
    /// if unknown.
    pub(super) fn moment_of(&self, time: Timestamp, now: ClockReading) -> Option<Timestamp> {
        let measured = self.shelf.lock().milestones.before_time(time).filter(|_| self.limits.events > 0);
        // Before this run others may have accepted events of any Time up to this one.
        let earliest = self.began.checked_add(SKEW + CLOCKS).unwrap_or(self.began);
        let measured = measured.filter(|measured| measured.is_of_an_event || time >= earliest);
        measured.map(|measured| by_any_clock(measured.taken)).or_else(|| self.told_moment_of(time, now))
    }

    /// Returns whether this may be the Time of an event that was accepted before this run, or by another node only, by
    /// a clock that was ahead: nothing that this run has accepted is then known to precede it.
    pub(super) fn may_precede(&self, since: Since) -> bool {
        matches!(since, Since::Time(time) if self.is_early(time, SKEW) && !self.bears(time))
    }

    /// Returns whether an event of `time` may have been accepted before this run, by a clock that was at most this far
    /// `ahead`.
    fn is_early(&self, time: Timestamp, ahead: SignedDuration) -> bool {
        self.began.checked_add(ahead).is_ok_and(|surely| time < surely)
    }

    /// Returns whether a retained event bears this Time, if it is among the first that are not older. Their Times are
    /// parsed without the lock.
    fn bears(&self, time: Timestamp) -> bool {
        let mut retained = Vec::new();
        let kept = self.shelf.lock();
        let first = kept.ring.find(time).unwrap_or(kept.ring.first());
        kept.ring.read(first..kept.ring.next(), u64::MAX, SEARCHED, &mut retained);
        drop(kept);
        retained.iter().any(|one| one.event.moment() == Some(time))
    }

    /// Returns how far producers' clocks were recently ahead, if measured long enough to be reported to other nodes.
    pub fn ahead(&self, now: Instant) -> Option<SignedDuration> {
        self.shelf.lock().ahead.of_a_span(now)
    }

    /// Records the measurement of another node.
    pub fn note_ahead(&self, ahead: SignedDuration, now: Instant) {
        self.shelf.lock().told.measure(ahead.min(SKEW), now);
    }

    /// Returns a time before which no node accepted an event of `time` or later, according to other nodes; `None` if
    /// none of them reports, or `time` is before their measurements.
    fn told_moment_of(&self, time: Timestamp, now: ClockReading) -> Option<Timestamp> {
        let ahead = self.shelf.lock().told.lately(now.instant)?;
        let is_measured = now.wall.duration_since(time) <= MEASURED;
        time.checked_sub(ahead + CLOCKS).ok().filter(|_| is_measured)
    }

    /// Returns the start of a replay.
    ///
    /// # Errors
    /// [`SinceError::Future`] for a sequence number that is not assigned yet, or for a time more than five minutes
    /// ahead that is not the Time of a retained event.
    pub fn resolve(&self, since: Since, requested: &str, now: Timestamp) -> Result<Start, SinceError> {
        self.resolve_if(since, requested, now, self.may_precede(since))
    }

    /// Like [`History::resolve`], for a caller that has already called [`History::may_precede`].
    pub(super) fn resolve_if(
        &self,
        since: Since,
        requested: &str,
        now: Timestamp,
        may_precede: bool,
    ) -> Result<Start, SinceError> {
        let kept = self.shelf.lock();
        let Shelf { ring, ahead: measured, told, .. } = &*kept;
        let to = ring.oldest().unwrap_or(now);
        let mut time = None;
        let (sequence, gap) = match since {
            Since::Time(asked) if asked > now.checked_add(SKEW).unwrap_or(now) => {
                (ring.find_ahead(asked).ok_or(SinceError::Future)?, None)
            }
            Since::Time(asked) => {
                time = Some(asked);
                let ahead = if asked > now { SKEW } else { measured.most().max(told.most()) };
                let in_doubt = may_precede && asked >= self.began && self.is_early(asked, ahead);
                let at = ring.find(asked).filter(|_| !in_doubt);
                // From the start of a ring that has evicted events, requested ones may be among those.
                let whole = at.is_some() || (ring.first() == 0 && asked >= self.began);
                let complete = !in_doubt && (whole || self.nothing_since(ring, asked));
                let from = Some(asked).filter(|asked| *asked <= to);
                let gap = (!complete).then_some(Gap { from, to, events: None });
                (at.unwrap_or(ring.first()).max(ring.first()), gap)
            }
            Since::Position(Position { epoch, sequence }) if epoch == self.epoch => {
                if sequence > ring.next() {
                    return Err(SinceError::Future);
                }
                let lost = ring.first().saturating_sub(sequence);
                let gap = (lost > 0).then_some(Gap { from: None, to, events: Some(lost) });
                (sequence.max(ring.first()), gap)
            }
            // A position of another run of the process: everything retained is newer.
            Since::Position(_) => (ring.first(), Some(Gap { from: None, to, events: None })),
        };
        Ok(Start { requested: requested.into(), sequence, time, gap, beyond: None })
    }

    /// Returns whether no event was accepted at this time or later, although the ring is empty.
    fn nothing_since(&self, ring: &Ring, time: Timestamp) -> bool {
        let quiet_since = if ring.first() == 0 { self.began } else { ring.horizon() };
        ring.is_empty() && self.limits.events > 0 && time > quiet_since
    }

    /// Reads up to `max` events of a range and returns what is missing. Counts missing connection events from
    /// `notified` on.
    pub fn read(&self, range: Range<u64>, notified: u64, max: usize, into: &mut Vec<Retained>) -> RangeRead {
        self.shelf.lock().ring.read(range, notified, max, into)
    }

    /// Returns the lowest retained number; that of the next event if there is none.
    pub fn first(&self) -> u64 {
        self.shelf.lock().ring.first()
    }

    /// Returns the intake time of the oldest retained event.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.shelf.lock().ring.oldest()
    }

    /// Returns a time at or after which all events from a number on, retained or not, were accepted; `None` before the
    /// first event.
    pub fn moment_before(&self, number: u64) -> Option<Timestamp> {
        self.shelf.lock().milestones.before(number)
    }
}

/// Returns the earliest time that another clock may show at this time of the own one: an archive is searched by the
/// times at which its server stored the events.
pub(crate) fn by_any_clock(time: Timestamp) -> Timestamp {
    time.checked_sub(CLOCKS).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::simulated;
    use crate::event::Draft;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn history(events: usize) -> History {
        History::new(HistoryLimits { events, bytes: 1 << 20 }, 7, at(1000))
    }

    /// Appends an event that is accepted at `taken` and whose own Time is `time`.
    fn add(history: &History, key: &str, taken: i64, time: i64) {
        let mut draft = Draft::new("a", "b", key);
        let time = at(time).to_string();
        draft.time = Some(time.as_str().into());
        let events = [draft.seal(at(taken))];
        let times = history.times(&events);
        let events = events.map(Arc::new);
        let now = ClockReading { wall: at(taken), instant: simulated::at(taken).instant };
        history.append(&events, &times, &[], now);
    }

    fn since(history: &History, text: &str) -> Result<(u64, Option<Gap>), SinceError> {
        history.resolve(text.parse()?, text, at(2000)).map(|start| (start.sequence, start.gap))
    }

    fn since_time(history: &History, seconds: i64) -> (u64, bool) {
        let (sequence, gap) = since(history, &at(seconds).to_string()).unwrap();
        (sequence, gap.is_some())
    }

    fn keys(history: &History, from: u64, until: u64, max: usize) -> (u64, Vec<String>) {
        let mut events = Vec::new();
        let lost = history.read(from..until, u64::MAX, max, &mut events).lost;
        (lost, events.iter().map(|one| format!("{}{}", one.number, one.event.key())).collect())
    }

    #[test]
    fn ranges_are_read_in_portions_and_losses_told() {
        let history = history(3);
        ["a", "b", "c", "d", "e"].iter().for_each(|key| add(&history, key, 1001, 1001));
        assert_eq!(history.position().sequence, 5);
        assert_eq!(keys(&history, 2, 5, 9), (0, vec!["2c".into(), "3d".into(), "4e".into()]));
        assert_eq!(keys(&history, 3, 5, 1), (0, vec!["3d".into()]));
        assert_eq!(keys(&history, 0, 5, 1), (2, vec!["2c".into()]));
        assert_eq!(keys(&history, 0, 1, 9), (1, vec![]));
        assert_eq!(keys(&history, 5, 5, 9), (0, vec![]));
    }

    #[test]
    fn bytes_bind_too() {
        let history = History::new(HistoryLimits { events: 100, bytes: 300 }, 7, at(1000));
        (0..10).for_each(|_| add(&history, "k", 1001, 1001));
        assert!((2..=3).contains(&keys(&history, 0, 10, 10).1.len()));
    }

    #[test]
    fn a_time_finds_the_event_that_has_it_and_all_behind_it() {
        let history = history(9);
        // The second producer's clock is behind, the third's is ahead.
        [("a", 1100, 1099), ("b", 1101, 1050), ("c", 1102, 1110), ("d", 1103, 1103)]
            .iter()
            .for_each(|(key, taken, time)| add(&history, key, *taken, *time));
        for (key, time, expected) in [("a", 1099, 0), ("b", 1050, 0), ("c", 1110, 2), ("d", 1103, 2)] {
            assert_eq!(since_time(&history, time), (expected, false), "{key}");
        }
        assert_eq!(since_time(&history, 1111), (4, false), "nothing since");
        assert_eq!(since_time(&history, 999), (0, true), "before the process began");
    }

    #[test]
    fn a_clock_far_ahead_does_not_count() {
        let history = history(9);
        add(&history, "a", 1100, 9_999_999);
        add(&history, "b", 1101, 1101);
        assert_eq!(since_time(&history, 1101), (1, false));
        assert_eq!(
            since(&history, &at(9_999_999).to_string()).unwrap(),
            (0, None),
            "the event that bears it, and all behind"
        );
        assert_eq!(since(&history, &at(9_999_998).to_string()), Err(SinceError::Future));
    }

    /// The one that has it may have been accepted by an earlier run, or by another node: what followed it may be
    /// anything that this run has accepted, and what that run had accepted is gone.
    #[test]
    fn a_time_ahead_of_the_clock_that_no_event_of_this_run_bears_is_not_taken_for_one_of_its_own() {
        let history = history(9);
        let since_at = |seconds, now| {
            let start = history.resolve(Since::Time(at(seconds)), "x", at(now)).unwrap();
            (start.sequence, start.gap.is_some())
        };
        assert_eq!((since_at(1004, 1003), since_at(1001, 1003)), ((0, true), (0, false)), "nothing has come");
        assert_eq!((since_at(1000, 1003), since_at(999, 1003)), ((0, false), (0, true)), "when it began, and before");
        add(&history, "a", 1001, 1001);
        add(&history, "b", 1002, 1002);
        assert_eq!((since_at(1004, 1003), since_at(1002, 1003)), ((0, true), (1, false)));
        // The producers' clocks are up to 90 s ahead: so they may have been before.
        add(&history, "c", 1010, 1100);
        add(&history, "d", 1020, 1020);
        assert_eq!(since_at(1050, 1060), (0, true), "it is no longer ahead, but it was");
        assert_eq!(since_at(1000, 1060), (0, true), "so may be that of the moment at which the run began");
        assert_eq!((since_at(1100, 1060), since_at(1020, 1060)), ((2, false), (2, false)), "they are here");
        assert_eq!((since_at(1095, 1200), since_at(1301, 1200)), ((2, false), (4, false)), "no clock is so far ahead");
    }

    #[test]
    fn what_this_run_has_measured_says_nothing_of_what_came_before_it() {
        let history = history(2);
        let moment_of = |seconds| history.moment_of(at(seconds), simulated::at(1400));
        add(&history, "a", 1001, 1001);
        assert_eq!(moment_of(1004), None, "others may have accepted events of then for minutes");
        add(&history, "b", 1003, 1200);
        ["c", "d", "e"].iter().for_each(|key| add(&history, key, 1005, 1005));
        assert_eq!(moment_of(1200), Some(at(1003) - CLOCKS), "the event itself has come, though it is gone");
        assert_eq!(moment_of(1199), None);
        add(&history, "f", 1340, 1340);
        assert_eq!(moment_of(1340), Some(at(1340) - CLOCKS), "no clock is so far ahead");
    }

    #[test]
    fn what_is_forgotten_is_told() {
        let history = history(2);
        ["a", "b", "c"].iter().zip(1100..).for_each(|(key, time)| add(&history, key, time, time));
        assert_eq!(
            since_time(&history, 1101),
            (1, true),
            "the oldest one that is left may not be the first of its time"
        );
        assert_eq!(since_time(&history, 1102), (2, false));
        let gap = since(&history, "0000000000000007:0").unwrap();
        assert_eq!(gap, (1, Some(Gap { from: None, to: at(1101), events: Some(1) })));
        assert_eq!(since(&history, "0000000000000007:3").unwrap(), (3, None));
        assert_eq!(since(&history, "0000000000000007:4"), Err(SinceError::Future));
        assert_eq!(since(&history, "0000000000000008:2").unwrap().0, 1);
        assert!(since(&history, "0000000000000008:2").unwrap().1.is_some(), "another run of the process");
    }

    #[test]
    fn a_history_that_keeps_nothing_says_so() {
        let history = history(0);
        assert_eq!(since_time(&history, 1500), (0, false), "no event came at all");
        add(&history, "a", 1100, 1100);
        assert_eq!(since_time(&history, 1500), (1, true));
        assert_eq!(since(&history, "0000000000000007:1").unwrap(), (1, None));
        assert!(since(&history, "0000000000000007:0").unwrap().1.is_some());
    }

    #[test]
    fn a_place_of_another_run_leads_to_when_that_run_began() {
        let history = history(9);
        let of_run = |seconds| Position { epoch: milestones::epoch(at(seconds), 1), sequence: 3 };
        for began in [900, 1500] {
            assert_eq!(history.moment(of_run(began), at(1500)), Some(at(began) - CLOCKS));
        }
        assert_eq!(history.moment(of_run(1501), at(1500)), None, "it has not begun yet");
        assert_eq!(history.moment(Position { epoch: 7, sequence: 3 }, at(1500)), None, "of this run nothing is noted");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn whatever_time_an_event_may_have_is_a_place(
            text in concat!(
                r"(000[01]|2026|9999)-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]",
                r"(\.[0-9]{1,9})?(Z|[+-][0-2][0-9]:[0-5][0-9])"
            )
        ) {
            if let Some(time) = parse_time(&text) {
                prop_assert_eq!(text.parse(), Ok(Since::Time(time)));
            }
        }
    }

    #[test]
    fn an_event_of_the_last_hours_of_9999_is_found_by_its_time() {
        let history = history(9);
        add(&history, "a", 1100, 1100);
        let now = ClockReading { wall: at(1101), instant: simulated::at(1101).instant };
        let last = "9999-12-31T23:59:59Z";
        let events = [Draft { time: Some(last.into()), ..Draft::new("a", "b", "late") }.seal(now.wall)];
        let times = history.times(&events);
        history.append(&events.map(Arc::new), &times, &[], now);
        add(&history, "c", 1102, 1102);
        assert_eq!(since(&history, last).unwrap(), (1, None));
    }

    #[test]
    fn places_are_read() {
        let position = Position { epoch: 0xab, sequence: 12 };
        assert_eq!(position.to_string().parse(), Ok(Since::Position(position)));
        assert_eq!("1970-01-01T00:16:40+00:00".parse(), Ok(Since::Time(at(1000))));
        for bad in ["", "12", "yesterday", "ab:1", "00000000000000ab:x", "00000000000000ab:"] {
            assert_eq!(bad.parse::<Since>(), Err(SinceError::Malformed), "{bad}");
        }
    }
}
