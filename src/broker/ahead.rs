//! Measures how far producers' clocks are ahead of this one: by how much the Time of an event is later than its intake.
//!
//! A replay from an archive begins that much earlier than requested, because an event of the requested Time may have
//! been stored that much earlier. A node that has just started has measured nothing; the other nodes send it their
//! values.
//!
//! Contract: pure; the caller passes the time. The value covers the last one to two [`SPAN`]s.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::clock::ClockReading;

/// The minimum time for which a measurement counts.
pub(super) const SPAN: Duration = Duration::from_mins(10);

/// When measuring, and the current span of it, began.
#[derive(Debug, Clone, Copy)]
struct Begun {
    measuring: Instant,
    span: Instant,
}

/// Measures how far producers' clocks run ahead of this one.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// `None` before the first measurement.
    begun: Option<Begun>,
    /// The maxima of the current and of the previous span.
    most: [SignedDuration; 2],
}

impl Ahead {
    /// Measures an accepted event with its own `time`.
    pub(super) fn note(&mut self, time: Timestamp, now: ClockReading) {
        self.measure(time.duration_since(now.wall), now.instant);
    }

    /// Records a measurement.
    pub(super) fn measure(&mut self, ahead: SignedDuration, now: Instant) {
        let begun = self.begun.get_or_insert(Begun { measuring: now, span: now });
        if now.saturating_duration_since(begun.span) > SPAN {
            self.most = [SignedDuration::ZERO, self.most[0]];
            begun.span = now;
        }
        self.most[0] = self.most[0].max(ahead);
    }

    /// Returns the maximum if measuring began at least one span ago.
    pub(super) fn of_a_span(&self, now: Instant) -> Option<SignedDuration> {
        let begun = self.begun?.measuring;
        (now.saturating_duration_since(begun) >= SPAN).then(|| self.most())
    }

    /// Returns the maximum if anything was measured recently.
    pub(super) fn lately(&self, now: Instant) -> Option<SignedDuration> {
        let begun = self.begun?.span;
        (now.saturating_duration_since(begun) <= SPAN).then(|| self.most())
    }

    /// Returns the maximum of the last one to two spans with measurements.
    pub(super) fn most(&self) -> SignedDuration {
        self.most[0].max(self.most[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::simulated::at;

    #[test]
    fn the_most_of_the_last_minutes_counts_once_they_were_measured() {
        let seconds = SignedDuration::from_secs;
        let mut ahead = Ahead::default();
        assert_eq!((ahead.of_a_span(at(0).instant), ahead.lately(at(0).instant)), (None, None));
        ahead.note(at(1003).wall, at(1000));
        ahead.note(at(900).wall, at(1001));
        assert_eq!((ahead.of_a_span(at(1500).instant), ahead.lately(at(1500).instant)), (None, Some(seconds(3))));
        assert_eq!(ahead.of_a_span(at(1600).instant), Some(seconds(3)));
        ahead.note(at(1700).wall, at(1700));
        assert_eq!(ahead.of_a_span(at(1700).instant), Some(seconds(3)), "of the span before");
        ahead.note(at(2400).wall, at(2400));
        assert_eq!(ahead.of_a_span(at(2400).instant), Some(seconds(0)));
        assert_eq!(ahead.lately(at(9999).instant), None);
    }
}
