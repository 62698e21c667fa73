//! Remembers when sequence numbers were assigned, long after the events themselves are gone. Needed to find a position
//! (`EPOCH:SEQUENCE`) in an archive.
//!
//! An archive finds events by time. So the history notes from time to time which number comes next, and a position
//! maps to the last note before it: the replay may begin a few events too early, never too late. Of an earlier run of
//! the process only the epoch is known, which says when that run began.
//!
//! Contract: pure. At most [`MOST`] notes: beyond that every second one is dropped and the interval doubles.

use jiff::{SignedDuration, Timestamp};

/// The maximum number of notes.
const MOST: usize = 8192;

/// The initial interval between two notes.
const EVERY: SignedDuration = SignedDuration::from_secs(1);

/// The number of random bits in an epoch.
const CHANCE: u32 = 20;

/// Bounded notes of which sequence number was next at which time.
#[derive(Debug)]
pub(super) struct Milestones {
    every: SignedDuration,
    notes: Vec<Note>,
}

#[derive(Debug, Clone, Copy)]
struct Note {
    /// The number of the next event.
    number: u64,
    taken: Timestamp,
    /// The latest time of all events before it, of intake or their own.
    horizon: Timestamp,
}

/// When the first events of some Time were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measured {
    /// No noted event of that Time or later was accepted before.
    pub(super) taken: Timestamp,
    /// Whether one bore exactly that Time.
    pub(super) is_of_an_event: bool,
}

impl Default for Milestones {
    fn default() -> Self {
        Self { every: EVERY, notes: Vec::new() }
    }
}

impl Milestones {
    /// Notes that the event with this number is accepted now; `horizon` is the latest time of those before it.
    pub(super) fn note(&mut self, number: u64, now: Timestamp, horizon: Timestamp) {
        // After a step back of the clock the last note would be too late for the events that follow.
        let is_recent = |last: &Note| last.taken <= now && now.duration_since(last.taken) < self.every;
        if self.notes.last().is_some_and(is_recent) {
            return;
        }
        if self.notes.len() >= MOST {
            let mut even = false;
            self.notes.retain(|_| {
                even = !even;
                even
            });
            self.every = self.every.saturating_mul(2);
        }
        self.notes.push(Note { number, taken: now, horizon });
    }

    /// Returns a time at or after which the event with this number was accepted; `None` if no note reaches back to it.
    pub(super) fn before(&self, number: u64) -> Option<Timestamp> {
        let at = self.notes.partition_point(|note| note.number <= number);
        Some(self.notes.get(at.checked_sub(1)?)?.taken)
    }

    /// Returns a time at or after which every event of `time` or later was accepted, by its own Time or its intake;
    /// `None` if the notes do not reach back that far. That of an event whose clock was ahead is recognized.
    pub(super) fn before_time(&self, time: Timestamp) -> Option<Measured> {
        let at = self.notes.partition_point(|note| note.horizon < time);
        let is_of_an_event = self.notes.get(at).is_some_and(|note| note.horizon == time);
        Some(Measured { taken: self.notes.get(at.checked_sub(1)?)?.taken, is_of_an_event })
    }
}

/// Returns the epoch of a run that starts now: the Unix time in milliseconds, followed by bits of `chance` that make it
/// unique.
pub fn epoch(now: Timestamp, chance: u64) -> u64 {
    let milliseconds = u64::try_from(now.as_millisecond()).unwrap_or_default();
    (milliseconds << CHANCE) | (chance & ((1 << CHANCE) - 1))
}

/// Returns the time at which the run with this epoch began.
pub(super) fn began(epoch: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(epoch >> CHANCE).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_number_leads_to_a_time_before_it_however_many_there_were() {
        let mut milestones = Milestones::default();
        assert_eq!(milestones.before(7), None);
        // A thousand events per second, for a day.
        for second in 0..86_400_u64 {
            let now = at(1000 + second.cast_signed());
            milestones.note(second * 1000, now, now);
            assert!(milestones.notes.len() <= MOST, "after {second} s");
        }
        for number in [0, 1, 999, 1000, 50_000_123, 86_399_999] {
            let time = milestones.before(number).unwrap();
            let taken = at(1000 + (number / 1000).cast_signed());
            assert!(time <= taken && taken.duration_since(time) <= SignedDuration::from_secs(32), "{number}: {time}");
        }
    }

    #[test]
    fn a_clock_that_is_ahead_leads_to_when_its_event_was_taken_in() {
        let mut milestones = Milestones::default();
        assert_eq!(milestones.before_time(at(1000)), None);
        // Events accepted from 1,010 on have a Time of 1,200.
        (0..60).for_each(|n| milestones.note(n, at(1000 + 2 * n.cast_signed()), at(if n > 5 { 1200 } else { 999 })));
        assert_eq!(milestones.before_time(at(1200)), Some(Measured { taken: at(1010), is_of_an_event: true }));
        assert_eq!(milestones.before_time(at(1100)), Some(Measured { taken: at(1010), is_of_an_event: false }));
        assert_eq!(milestones.before_time(at(999)), None, "before all of them");
    }

    #[test]
    fn a_clock_that_is_set_back_leads_no_later_than_to_when_an_event_was_taken_in() {
        let mut milestones = Milestones::default();
        milestones.note(0, at(5000), at(5000));
        milestones.note(7, at(1400), at(5000));
        assert_eq!((milestones.before(6), milestones.before(7)), (Some(at(5000)), Some(at(1400))));
        milestones.note(8, at(1400), at(5000));
        assert_eq!(milestones.notes.len(), 2, "and once is enough");
    }

    #[test]
    fn an_epoch_says_when_it_began() {
        let now = at(1_800_000_000);
        assert_eq!(began(epoch(now, u64::MAX)), Some(now));
        assert_ne!(epoch(now, 1), epoch(now, 2));
    }
}
