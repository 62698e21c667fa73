//! Which events were delivered already, across connections. Pure.
//!
//! After a reconnect a server sends some events again. They are recognized by hashes of their texts, with their counts:
//! of a text that came twice before, the first two on a new connection are old, the third is new.
//!
//! Bounded to the newest [`KNOWN`] events, as many as a server keeps by default (`replay.events`).

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// Number of events that are remembered.
const KNOWN: usize = 1 << 16;

/// How often a text came.
#[derive(Debug, Default)]
struct Count {
    all: u32,
    /// Of those, how many on this connection or from before what it repeats; never more than `all`.
    here: u32,
}

/// The events that were delivered.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    hasher: RandomState,
    oldest_first: VecDeque<u64>,
    counts: HashMap<u64, Count>,
}

impl Delivered {
    /// Notes that a new connection begins, which may repeat everything.
    pub(super) fn reconnect(&mut self) {
        self.counts.values_mut().for_each(|count| count.here = 0);
    }

    /// Notes an event, and returns whether it is new; `is_surely_new` if the server has said so.
    pub(super) fn is_new(&mut self, event: &str, is_surely_new: bool) -> bool {
        let hash = self.hasher.hash_one(event);
        let count = self.counts.entry(hash).or_default();
        if !is_surely_new && count.here < count.all {
            count.here += 1;
            return false;
        }
        count.all += 1;
        count.here = count.all;
        self.oldest_first.push_back(hash);
        if self.oldest_first.len() > KNOWN {
            self.forget_oldest();
        }
        true
    }

    fn forget_oldest(&mut self) {
        let Some(hash) = self.oldest_first.pop_front() else { return };
        let Some(count) = self.counts.get_mut(&hash) else { return };
        count.all -= 1;
        count.here = count.here.min(count.all);
        if count.all == 0 {
            self.counts.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(delivered: &mut Delivered, events: &[&str]) -> Vec<bool> {
        events.iter().map(|event| delivered.is_new(event, false)).collect()
    }

    #[test]
    fn as_many_are_old_as_came_before_on_whichever_connection() {
        let mut delivered = Delivered::default();
        assert_eq!(news(&mut delivered, &["a", "b", "a"]), [true; 3]);
        delivered.reconnect();
        assert_eq!(news(&mut delivered, &["a"]), [false], "and lost again, before the rest was repeated");
        delivered.reconnect();
        assert_eq!(news(&mut delivered, &["a", "b", "a", "a", "c"]), [false, false, false, true, true]);
        delivered.reconnect();
        assert_eq!(news(&mut delivered, &["a", "a", "a", "a"]), [false, false, false, true]);
    }

    #[test]
    fn what_is_surely_new_is_new_and_counts() {
        let mut delivered = Delivered::default();
        assert!(delivered.is_new("a", false));
        delivered.reconnect();
        assert!(delivered.is_new("a", true));
        delivered.reconnect();
        assert_eq!(news(&mut delivered, &["a", "a", "a"]), [false, false, true]);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut delivered = Delivered::default();
        (0..=KNOWN).for_each(|n| assert!(delivered.is_new(&n.to_string(), false)));
        delivered.reconnect();
        assert_eq!(news(&mut delivered, &["0", "2"]), [true, false], "1 was forgotten for 0");
        assert!(delivered.counts.len() <= KNOWN && delivered.oldest_first.len() == KNOWN);
    }
}
