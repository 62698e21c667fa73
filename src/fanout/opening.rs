//! Decides when the replay of a connection with `?since=` starts.
//!
//! Once events have been sent, a later registration first has to catch up with the events that the others have already
//! received; and a client that disconnects before its answer has received events of one registration and none of
//! another. So the replay waits until the client has sent its registrations: with `?register=` until those are
//! answered, without it until none has arrived for [`PAUSE_US`], or until [`LONGEST_US`] after the first.
//!
//! Contract: pure; the caller passes the time in microseconds of a monotonic clock.

/// The replay starts when no registration has arrived for this long (microseconds).
pub(super) const PAUSE_US: u64 = 100_000;

/// The replay starts this long after the first registration (microseconds), even if others still arrive.
const LONGEST_US: u64 = 1_000_000;

/// Decides when the replay of a new connection may start. Pure; times in microseconds.
#[derive(Debug)]
pub(super) struct Opening {
    /// Registrations of the query that are not yet answered.
    expected: usize,
    /// Whether a registration has arrived since the last call of [`Opening::open_at`].
    touched: bool,
    latest: Option<u64>,
    /// When the replay starts.
    due: Option<u64>,
    open: bool,
}

impl Opening {
    /// Creates the state for a connection with `expected` registrations in its query.
    pub(super) fn new(expected: usize) -> Self {
        Self { expected, touched: false, latest: None, due: None, open: false }
    }

    /// Notes that a registration has arrived.
    pub(super) fn registered(&mut self) {
        self.touched = true;
    }

    /// Notes that a command was answered.
    pub(super) fn answered(&mut self) {
        if self.expected > 0 {
            self.expected -= 1;
            self.open |= self.expected == 0;
        }
    }

    /// Returns whether the replay may run at this time.
    pub(super) fn open_at(&mut self, now_us: u64) -> bool {
        if self.open || self.expected > 0 {
            return self.open;
        }
        if std::mem::take(&mut self.touched) {
            let latest = *self.latest.get_or_insert(now_us + LONGEST_US);
            self.due = Some(latest.min(now_us + PAUSE_US));
        }
        self.open = self.due.is_some_and(|due| due <= now_us);
        self.open
    }

    /// Returns the time until [`Opening::open_at`] should be called again, or `None` if that is not known yet.
    pub(super) fn wait_us(&self, now_us: u64) -> Option<u64> {
        match self.due {
            _ if self.open => Some(0),
            _ if self.expected > 0 => None,
            _ if self.touched => Some(0),
            due => due.map(|due| due.saturating_sub(now_us)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_a_pause_but_not_for_ever() {
        let mut opening = Opening::new(0);
        assert_eq!((opening.open_at(0), opening.wait_us(0)), (false, None), "nothing is registered");
        opening.registered();
        assert_eq!(opening.wait_us(5), Some(0), "to note the time");
        assert_eq!((opening.open_at(5), opening.wait_us(5)), (false, Some(PAUSE_US)));
        opening.registered();
        assert!(!opening.open_at(PAUSE_US), "another one came");
        assert!(opening.open_at(2 * PAUSE_US));
        let mut opening = Opening::new(0);
        let opened = (0..100).map(|n| n * PAUSE_US / 2).find(|now| {
            opening.registered();
            opening.open_at(*now)
        });
        assert_eq!(opened, Some(LONGEST_US));
    }

    #[test]
    fn those_of_the_query_are_all_it_waits_for() {
        let mut opening = Opening::new(2);
        opening.registered();
        opening.answered();
        assert_eq!((opening.open_at(10 * LONGEST_US), opening.wait_us(0)), (false, None));
        opening.answered();
        assert!(opening.open_at(0));
    }
}
