//! Limits how many gap notices a node emits: anyone who may publish can invent nodes and numbers, and each would cause
//! a notice.
//!
//! Up to [`BURST`] notices may come at once, then one every [`EVERY`]. Excess notices are merged into one, which is
//! emitted when the next is allowed: its interval spans those of all, and its event count is their sum. So no loss goes
//! unreported, and clients that subscribe to gaps are not flooded.
//!
//! Contract: pure; the caller passes the time of the monotonic clock.

use std::time::{Duration, Instant};

use super::peers::NodeId;

/// Maximum number of notices at once.
const BURST: u32 = 32;

/// Minimum interval between notices after a burst.
const EVERY: Duration = Duration::from_secs(1);

/// The reason reported for merged notices with different reasons.
pub(super) const SEVERAL: &str = "several";

/// A gap notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) reason: &'static str,
    /// The node whose events are missing, if it is a single one.
    pub(super) node: Option<NodeId>,
    /// The number of missing events, if known.
    pub(super) events: Option<u64>,
    /// The interval, by the monotonic clock: the wall clock may be set before a postponed notice is emitted.
    pub(super) from: Instant,
    pub(super) to: Instant,
}

impl Notice {
    fn join(self, other: &Self) -> Self {
        let sum = |(a, b): (u64, u64)| a.saturating_add(b);
        Self {
            reason: if self.reason == other.reason { self.reason } else { SEVERAL },
            node: self.node.filter(|node| Some(*node) == other.node),
            events: self.events.zip(other.events).map(sum),
            from: self.from.min(other.from),
            to: self.to.max(other.to),
        }
    }
}

/// Limits gap notices; those over the limit are merged into the next one, so no loss goes unreported.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// The time at which the notices so far are used up at a rate of one every [`EVERY`].
    spent: Option<Instant>,
    joined: Option<Notice>,
}

impl Notices {
    /// Adds a notice. Returns the one to emit now, if any.
    pub(super) fn add(&mut self, notice: Notice, now: Instant) -> Option<Notice> {
        self.joined = Some(match self.joined.take() {
            Some(joined) => joined.join(&notice),
            None => notice,
        });
        self.due(now)
    }

    /// Returns the postponed notice if it may be emitted by now.
    pub(super) fn due(&mut self, now: Instant) -> Option<Notice> {
        self.joined.as_ref()?;
        let spent = self.spent.unwrap_or(now).max(now) + EVERY;
        if spent.saturating_duration_since(now) > EVERY * BURST {
            return None;
        }
        self.spent = Some(spent);
        self.joined.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::simulated;

    fn instant(seconds: i64) -> Instant {
        simulated::at(seconds).instant
    }

    fn notice(node: NodeId, second: i64) -> Notice {
        Notice {
            reason: "events missing",
            node: Some(node),
            events: Some(2),
            from: instant(second),
            to: instant(second + 1),
        }
    }

    #[test]
    fn a_few_are_told_at_once_and_a_flood_as_one() {
        let mut notices = Notices::default();
        let told: Vec<_> = (0..1000).filter_map(|node| notices.add(notice(node, 0), instant(10))).collect();
        assert_eq!(told.len(), usize::try_from(BURST).unwrap());
        assert_eq!(told[3], notice(3, 0));
        assert_eq!(notices.due(instant(10)), None);
        let rest = notices.due(instant(11)).unwrap();
        assert_eq!((rest.node, rest.events), (None, Some(2 * (1000 - 32))), "nothing is silent");
        assert_eq!((rest.from, rest.to, rest.reason), (instant(0), instant(1), "events missing"));
        assert_eq!(notices.due(instant(100)), None);
    }

    #[test]
    fn what_is_joined_says_what_all_have_in_common() {
        let gone = Notice { reason: "node lost", events: None, ..notice(7, 5) };
        let joined = notice(7, 0).join(&gone);
        assert_eq!((joined.reason, joined.node, joined.events), (SEVERAL, Some(7), None));
    }
}
