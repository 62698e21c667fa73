//! How many notices of gaps a node makes: whoever may publish can make up nodes and numbers, and each would be told.
//!
//! [`BURST`] notices may come at once, and one every [`EVERY`] from then on. What is beyond is joined to one notice,
//! which comes when the next may: its times span those of all, its events are their sum. So nothing is silent, and
//! nobody floods those who listen to gaps.
//!
//! Contract: pure; the caller brings the time.

use jiff::{SignedDuration, Timestamp};

use super::peers::NodeId;

/// Notices at once.
const BURST: i32 = 32;

/// Between two notices.
const EVERY: SignedDuration = SignedDuration::from_secs(1);

/// Why events are missing, as it is told.
pub(super) const SEVERAL: &str = "several";

/// A notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) reason: &'static str,
    /// Whose events are missing, if it is one node.
    pub(super) node: Option<NodeId>,
    /// How many, if that is known.
    pub(super) events: Option<u64>,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
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
    /// Until when the notices so far would take at one every [`EVERY`].
    spent: Option<Timestamp>,
    joined: Option<Notice>,
}

impl Notices {
    /// The notice that is to be told now, if any is.
    pub(super) fn add(&mut self, notice: Notice, now: Timestamp) -> Option<Notice> {
        self.joined = Some(match self.joined.take() {
            Some(joined) => joined.join(&notice),
            None => notice,
        });
        self.due(now)
    }

    /// The notice that was put off and may be told by now.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<Notice> {
        self.joined.as_ref()?;
        let spent = self.spent.unwrap_or(now).max(now).checked_add(EVERY).ok()?;
        if spent.duration_since(now) > EVERY.checked_mul(BURST)? {
            return None;
        }
        self.spent = Some(spent);
        self.joined.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn notice(node: NodeId, second: i64) -> Notice {
        Notice { reason: "events missing", node: Some(node), events: Some(2), from: at(second), to: at(second + 1) }
    }

    #[test]
    fn a_few_are_told_at_once_and_a_flood_as_one() {
        let mut notices = Notices::default();
        let told: Vec<_> = (0..1000).filter_map(|node| notices.add(notice(node, 0), at(10))).collect();
        assert_eq!(told.len(), usize::try_from(BURST).unwrap());
        assert_eq!(told[3], notice(3, 0));
        assert_eq!(notices.due(at(10)), None);
        let rest = notices.due(at(11)).unwrap();
        assert_eq!((rest.node, rest.events), (None, Some(2 * (1000 - 32))), "nothing is silent");
        assert_eq!((rest.from, rest.to, rest.reason), (at(0), at(1), "events missing"));
        assert_eq!(notices.due(at(100)), None);
    }

    #[test]
    fn what_is_joined_says_what_all_have_in_common() {
        let gone = Notice { reason: "node lost", events: None, ..notice(7, 5) };
        let joined = notice(7, 0).join(&gone);
        assert_eq!((joined.reason, joined.node, joined.events), (SEVERAL, Some(7), None));
    }
}
