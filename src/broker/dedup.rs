//! Recognizes duplicates: the same event that arrives by several nodes following the same DRP endpoint.
//!
//! An event is identified by a digest of its complete wire form, including all digits of its Time, and by its *repeat
//! index*: the k-th time the endpoint sends these bytes is the same event at every node that follows it. So when an
//! endpoint really sends the same bytes twice, clients receive two events, not four. Nodes send the repeat index along.
//!
//! Contract: pure and bounded. A fixed number of digests is remembered; a duplicate that arrives after more events than
//! that counts as new. At most [`AHEAD`] repeat indexes of one digest are remembered beyond a missing one.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::event::Event;

/// The number of times that the endpoint has sent the same bytes, counted from one.
pub type RepeatIndex = u32;

/// The maximum number of repeat indexes remembered beyond a missing one. With more, the missing one is given up: it was
/// lost, or the others were forged.
const AHEAD: usize = 64;

/// Two hashes with secret keys, so that neither chance nor malice makes two events equal.
pub type Digest = (u64, u64);

/// The secret keys of digests.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys(RandomState, RandomState);

impl Keys {
    pub(super) fn digest(&self, event: &Event) -> Digest {
        #[cfg(test)]
        counted::note();
        (self.0.hash_one(event.json()), self.1.hash_one(event.json()))
    }
}

/// How many digests the current thread has computed.
#[cfg(test)]
pub(crate) mod counted {
    use std::cell::Cell;

    thread_local! {
        static DIGESTS: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn note() {
        DIGESTS.set(DIGESTS.get() + 1);
    }

    pub(crate) fn digests() -> u64 {
        DIGESTS.get()
    }
}

#[derive(Debug, Default)]
struct Known {
    /// The number of times this node received it from the endpoint itself.
    own: RepeatIndex,
    /// All repeat indexes up to this one were delivered.
    below: RepeatIndex,
    /// Further repeat indexes that were delivered.
    above: SmallVec<[RepeatIndex; 2]>,
}

impl Known {
    /// Records a delivery. Returns whether it is new.
    fn deliver(&mut self, repeat_index: RepeatIndex) -> bool {
        if repeat_index <= self.below || self.above.contains(&repeat_index) {
            return false;
        }
        self.above.push(repeat_index);
        if self.above.len() > AHEAD {
            self.below = self.above.iter().min().map_or(self.below, |lowest| lowest - 1);
        }
        while let Some(at) = self.above.iter().position(|other| Some(*other) == self.below.checked_add(1)) {
            self.above.swap_remove(at);
            self.below += 1;
        }
        true
    }
}

/// A bounded table of digests that recognizes duplicates of one endpoint's events.
#[derive(Debug)]
pub(super) struct Duplicates {
    capacity: usize,
    known: HashMap<Digest, Known>,
    /// The digests in the order in which they were added.
    order: VecDeque<Digest>,
}

impl Duplicates {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), known: HashMap::new(), order: VecDeque::new() }
    }

    /// Records an event that this node received from its endpoint. Returns its repeat index if it is new.
    pub(super) fn own(&mut self, digest: Digest) -> Option<RepeatIndex> {
        let known = self.known(digest);
        known.own += 1;
        let repeat_index = known.own;
        known.deliver(repeat_index).then_some(repeat_index)
    }

    /// Records an event that another node received from an endpoint. Returns whether it was not delivered before.
    pub(super) fn foreign(&mut self, digest: Digest, repeat_index: RepeatIndex) -> bool {
        self.known(digest).deliver(repeat_index)
    }

    /// Returns whether the event that this node is about to receive from its endpoint has already arrived another way.
    pub(super) fn has_next(&self, digest: Digest) -> bool {
        self.known.get(&digest).is_some_and(|known| self.has(digest, known.own + 1))
    }

    /// Returns whether this repetition of an event was delivered.
    pub(super) fn has(&self, digest: Digest, repeat_index: RepeatIndex) -> bool {
        self.known.get(&digest).is_some_and(|known| repeat_index <= known.below || known.above.contains(&repeat_index))
    }

    fn known(&mut self, digest: Digest) -> &mut Known {
        if !self.known.contains_key(&digest) {
            while self.order.len() >= self.capacity {
                if let Some(oldest) = self.order.pop_front() {
                    self.known.remove(&oldest);
                }
            }
            self.order.push_back(digest);
        }
        self.known.entry(digest).or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_copy_is_dropped_and_a_repetition_is_not() {
        let mut duplicates = Duplicates::new(10);
        assert_eq!(duplicates.own((1, 1)), Some(1));
        assert!(!duplicates.foreign((1, 1), 1));
        assert!(duplicates.foreign((1, 1), 2), "the other node has it a second time");
        assert_eq!(duplicates.own((1, 1)), None, "and now this one, too");
        assert_eq!(duplicates.own((1, 1)), Some(3));
        assert!(duplicates.foreign((1, 2), 1));
    }

    #[test]
    fn the_window_is_bounded() {
        let mut duplicates = Duplicates::new(3);
        (0..10).for_each(|n| assert_eq!(duplicates.own((n, 0)), Some(1)));
        assert_eq!((duplicates.known.len(), duplicates.order.len()), (3, 3));
        assert!(duplicates.foreign((0, 0), 1), "too late to be known");
        assert!(!duplicates.foreign((9, 0), 1));
    }

    #[test]
    fn a_thousand_repetitions_cost_no_more_than_one() {
        let mut duplicates = Duplicates::new(3);
        (1..1000).for_each(|n| assert_eq!(duplicates.own((1, 1)), Some(n)));
        assert!(duplicates.known[&(1, 1)].above.is_empty());
    }

    #[test]
    fn occurrences_that_somebody_made_up_cost_no_more_than_a_few() {
        let mut duplicates = Duplicates::new(3);
        assert!((1..=10_000).all(|n| duplicates.foreign((1, 1), n * 2)));
        assert!(duplicates.known[&(1, 1)].above.len() <= AHEAD);
        assert!(!duplicates.foreign((1, 1), 20_000) && !duplicates.foreign((1, 1), 1), "had, and given up");
        assert!(duplicates.foreign((1, 1), 19_999), "still waited for");
        assert!(duplicates.foreign((1, 1), RepeatIndex::MAX));
    }

    proptest! {
        /// Two nodes follow one endpoint and publish what is new to them; a third receives both.
        #[test]
        fn every_node_delivers_as_often_as_the_endpoint_sent(
            sent in prop::collection::vec(0..4_u64, 0..40), picks in prop::collection::vec(0..6_usize, 200),
        ) {
            let mut duplicates: Vec<Duplicates> = (0..3).map(|_| Duplicates::new(100)).collect();
            let mut delivered = vec![Vec::new(); 3];
            let mut read = [0; 2];
            // What each of the two published, and how much of it each of the three has received.
            let mut passed: [Vec<(u64, RepeatIndex)>; 2] = Default::default();
            let mut heard = [[0; 3]; 2];
            let regular = (0..6).flat_map(|step| std::iter::repeat_n(step, 60)).cycle().take(720);
            for step in picks.into_iter().chain(regular) {
                if step < 2 {
                    let Some(&event) = sent.get(read[step]) else { continue };
                    read[step] += 1;
                    if let Some(repeat_index) = duplicates[step].own((event, 0)) {
                        delivered[step].push(event);
                        passed[step].push((event, repeat_index));
                    }
                    continue;
                }
                let (from, to) = [(0, 1), (1, 0), (0, 2), (1, 2)][step - 2];
                let Some(&(event, repeat_index)) = passed[from].get(heard[from][to]) else { continue };
                heard[from][to] += 1;
                if duplicates[to].foreign((event, 0), repeat_index) {
                    delivered[to].push(event);
                }
            }
            let mut sent = sent;
            sent.sort_unstable();
            for mut delivered in delivered {
                delivered.sort_unstable();
                prop_assert_eq!(&delivered, &sent);
            }
        }
    }
}
