//! What the last pages of a replay contained, in case the client does not handle them.
//!
//! Contract: pages that are not the last two to be sent have been handled: one was begun when the next was sent, and no
//! more than one waits behind it. So no more is remembered than may be withdrawn.

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};

use super::dedup::{Digest, Keys, RepeatIndex};
use super::origin::{NodeId, Origin, Trace};
use crate::event::Event;

/// The number of pages that may be withdrawn.
const PAGES: usize = 2;

/// What an event of an endpoint has in common with its copies, which come under other nodes' numbers.
pub(super) type CopyKey = (Digest, RepeatIndex);

/// An event of a page.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) origin: Origin,
    pub(super) copy_key: Option<CopyKey>,
    /// The length of the event in bytes.
    pub(super) length: usize,
    /// Its position in the archive.
    pub(super) position: u64,
}

/// The events of the last pages, and of the one that is being made.
#[derive(Debug, Default)]
pub(super) struct LastPages {
    sent: VecDeque<Vec<Sent>>,
    next: Vec<Sent>,
}

impl LastPages {
    /// Adds an event to the page that is being made.
    pub(super) fn add(&mut self, sent: Sent) {
        self.next.push(sent);
    }

    /// Notes that the page was sent.
    pub(super) fn send(&mut self) {
        self.sent.push_back(std::mem::take(&mut self.next));
        if self.sent.len() > PAGES {
            self.sent.pop_front();
        }
    }

    /// Returns the positions of the events of these pages, also of the one that is being made. `keys` are those of the
    /// digests.
    pub(super) fn positions<'k>(&self, keys: &'k Keys) -> Positions<'k> {
        let mut positions =
            Positions { by_origin: HashMap::new(), by_copy: HashMap::new(), lengths: HashSet::new(), keys };
        for sent in self.sent.iter().flatten().chain(&self.next) {
            positions.by_origin.insert((sent.origin.node, sent.origin.number), sent.position);
            if let Some(copy_key) = sent.copy_key {
                positions.by_copy.insert(copy_key, sent.position);
                positions.lengths.insert(sent.length);
            }
        }
        positions
    }
}

/// The positions of the events of the last pages.
#[derive(Debug)]
pub struct Positions<'k> {
    by_origin: HashMap<(NodeId, u64), u64>,
    by_copy: HashMap<CopyKey, u64>,
    /// The lengths of the events that may have copies.
    lengths: HashSet<usize>,
    keys: &'k Keys,
}

impl Positions<'_> {
    /// Returns the position of an event of these pages. A copy counts as the event. Digests are computed only for
    /// events of the same length as one of those: the history is long.
    pub fn position(&self, trace: Trace, event: &Event) -> Option<u64> {
        let Trace { origin: Origin { node, number }, repeat_index } = trace;
        self.by_origin.get(&(node, number)).copied().or_else(|| {
            let repeat_index = repeat_index.filter(|_| self.lengths.contains(&event.json().len()))?;
            self.by_copy.get(&(self.keys.digest(event), repeat_index)).copied()
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::broker::dedup::counted::digests;
    use crate::event::Draft;

    fn event(key: &str) -> Event {
        Draft::new("machines", "update", key).seal(Timestamp::UNIX_EPOCH)
    }

    fn trace(node: u64, number: u64) -> Trace {
        Trace { origin: Origin { node, number }, repeat_index: Some(1) }
    }

    fn add(pages: &mut LastPages, keys: &Keys, number: u64, event: &Event) {
        let Trace { origin, repeat_index } = trace(1, number);
        let copy_key = repeat_index.map(|repeat_index| (keys.digest(event), repeat_index));
        pages.add(Sent { origin, copy_key, length: event.json().len(), position: 10 * number });
    }

    #[test]
    fn what_may_be_withdrawn_is_known_by_its_number_and_by_its_copies() {
        let (mut pages, keys) = (LastPages::default(), Keys::default());
        for number in 0..4 {
            add(&mut pages, &keys, number, &event(&number.to_string()));
            if number < 3 {
                pages.send();
            }
        }
        let positions = pages.positions(&keys);
        let position = |node, number| positions.position(trace(node, number), &event(&number.to_string()));
        assert_eq!([0, 1, 2, 3].map(|number| position(1, number)), [None, Some(10), Some(20), Some(30)]);
        assert_eq!([0, 1, 2, 3].map(|number| position(2, number)), [None, Some(10), Some(20), Some(30)]);
        assert_eq!(positions.position(Trace { repeat_index: Some(2), ..trace(2, 1) }, &event("1")), None);
    }

    /// Posts have no repeat index, and a copy of an endpoint's event may have come without one.
    #[test]
    fn what_has_no_copies_is_known_by_its_number_alone() {
        let (mut pages, keys) = (LastPages::default(), Keys::default());
        let origin = Origin { node: 1, number: 5 };
        pages.add(Sent { origin, copy_key: None, length: event("k").json().len(), position: 50 });
        let (positions, before) = (pages.positions(&keys), digests());
        for repeat_index in [None, Some(1)] {
            assert_eq!(positions.position(Trace { origin, repeat_index }, &event("k")), Some(50));
            assert_eq!(positions.position(Trace { repeat_index, ..trace(1, 6) }, &event("k")), None);
            assert_eq!(positions.position(Trace { repeat_index, ..trace(2, 5) }, &event("k")), None);
        }
        assert_eq!(digests(), before);
    }

    #[test]
    fn events_that_are_shorter_or_longer_than_all_of_these_are_not_digested() {
        let (mut pages, keys) = (LastPages::default(), Keys::default());
        (0..3).for_each(|number| add(&mut pages, &keys, number, &event("four")));
        let positions = pages.positions(&keys);
        let before = digests();
        for key in ["two", "eleven"] {
            assert_eq!(positions.position(trace(2, 0), &event(key)), None);
        }
        assert_eq!(digests(), before);
        assert!(positions.position(trace(2, 0), &event("four")).is_some() && digests() == before + 1);
    }
}
