//! Measures how far producers' clocks are ahead of this one: by how much the Time of an event is later than its intake.
//!
//! A replay from an archive begins that much earlier than requested, because an event of the requested Time may have
//! been stored that much earlier. A node that has just started has measured nothing; the other nodes send it their
//! values.
//!
//! Contract: pure; the caller passes the time. The value covers the last one to two [`SPAN`]s.

use jiff::{SignedDuration, Timestamp};

/// The minimum time for which a measurement counts.
pub(super) const SPAN: SignedDuration = SignedDuration::from_mins(10);

/// Measures how far producers' clocks run ahead of this one.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The time of the first measurement.
    began: Option<Timestamp>,
    /// The start of the current span.
    since: Timestamp,
    /// The maxima of the current and of the previous span.
    most: [SignedDuration; 2],
}

impl Ahead {
    /// Measures an accepted event with its own `time`.
    pub(super) fn note(&mut self, time: Timestamp, now: Timestamp) {
        self.measure(time.duration_since(now), now);
    }

    /// Records a measurement.
    pub(super) fn measure(&mut self, ahead: SignedDuration, now: Timestamp) {
        if self.began.is_none() || now.duration_since(self.since) > SPAN {
            self.most = [SignedDuration::ZERO, self.most[0]];
            self.since = now;
        }
        self.began.get_or_insert(now);
        self.most[0] = self.most[0].max(ahead);
    }

    /// Returns the maximum if measuring began at least one span ago.
    pub(super) fn of_a_span(&self, now: Timestamp) -> Option<SignedDuration> {
        let began = self.began?;
        (now.duration_since(began) >= SPAN).then(|| self.most())
    }

    /// Returns the maximum if anything was measured recently.
    pub(super) fn lately(&self, now: Timestamp) -> Option<SignedDuration> {
        self.began?;
        (now.duration_since(self.since) <= SPAN).then(|| self.most())
    }

    fn most(&self) -> SignedDuration {
        self.most[0].max(self.most[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn the_most_of_the_last_minutes_counts_once_they_were_measured() {
        let seconds = SignedDuration::from_secs;
        let mut ahead = Ahead::default();
        assert_eq!((ahead.of_a_span(at(0)), ahead.lately(at(0))), (None, None));
        ahead.note(at(1003), at(1000));
        ahead.note(at(900), at(1001));
        assert_eq!((ahead.of_a_span(at(1500)), ahead.lately(at(1500))), (None, Some(seconds(3))));
        assert_eq!(ahead.of_a_span(at(1600)), Some(seconds(3)));
        ahead.note(at(1700), at(1700));
        assert_eq!(ahead.of_a_span(at(1700)), Some(seconds(3)), "of the span before");
        ahead.note(at(2400), at(2400));
        assert_eq!(ahead.of_a_span(at(2400)), Some(seconds(0)));
        assert_eq!(ahead.lately(at(9999)), None);
    }
}
