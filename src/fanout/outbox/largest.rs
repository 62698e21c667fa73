//! Searches for the largest outboxes, some thousand per turn.
//!
//! Contract: pure. A search visits all outboxes once, closing ones too, and keeps the [`KEPT`] largest with the sizes
//! they had then. It leaves out those in which nothing can be dropped.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::queue::Outbox;
use super::{ConnId, Fanout};

/// Outboxes visited per turn: some ten microseconds.
const LOOKED_AT: usize = 4096;

/// Outboxes that one search finds, and that are shed together.
const KEPT: usize = 64;

/// A search in progress.
#[derive(Debug, Default)]
pub(super) struct Search {
    next: usize,
    waiting: usize,
    found: BinaryHeap<Reverse<(usize, ConnId)>>,
}

/// The result of a search.
#[derive(Debug, Default)]
pub struct Largest {
    /// Connections with their [footprints](Fanout::footprint), largest first.
    pub found: Vec<(usize, ConnId)>,
    /// The number of connections with queued frames.
    pub waiting: usize,
}

impl Outbox {
    /// Returns whether there is anything to drop. Of a connection that is closing, a partly written frame stays and,
    /// behind it, the close frame: if these were found again and again, nobody smaller would be shed.
    fn can_be_shed(&self) -> bool {
        !self.is_closing() || self.started().is_none() || self.depth().events > 2
    }
}

impl Fanout {
    /// Continues the search for the largest outboxes, or begins one. Returns the result when it has visited all.
    pub fn search_largest(&mut self) -> Option<Largest> {
        let (outboxes, search) = (&self.outboxes, &mut self.search);
        let end = outboxes.len().min(search.next + LOOKED_AT);
        for (at, outbox) in outboxes.iter().enumerate().take(end).skip(search.next) {
            let outbox = outbox.as_ref().filter(|outbox| outbox.can_be_shed());
            let Some(bytes) = outbox.map(Outbox::footprint).filter(|bytes| *bytes > 0) else { continue };
            search.waiting += 1;
            search.found.push(Reverse((bytes, ConnId(u32::try_from(at).expect("fewer than 4 billion connections")))));
            if search.found.len() > KEPT {
                search.found.pop();
            }
        }
        search.next = end;
        if end < outboxes.len() {
            return None;
        }
        let Search { waiting, found, .. } = std::mem::take(search);
        let found = found.into_sorted_vec().into_iter().map(|Reverse(one)| one).collect();
        Some(Largest { found, waiting })
    }

    /// Returns whether a search is in progress.
    pub fn is_searching(&self) -> bool {
        self.search.next > 0
    }

    /// Abandons the search in progress.
    pub fn end_search(&mut self) {
        self.search = Search::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Frame;
    use super::super::frames::SIZE;
    use super::*;
    use crate::overflow::Overflow;
    use crate::stats::OutboxLimits;

    #[test]
    fn the_largest_are_found_by_and_by() {
        let mut fanout = Fanout::new(OutboxLimits { bytes: 1 << 20, events: 1000 });
        let conns: Vec<ConnId> = (0..LOOKED_AT + 100).map(|_| fanout.open(Overflow::Disconnect)).collect();
        for (at, &conn) in conns.iter().enumerate().filter(|(at, _)| at % 2 == 0) {
            assert!(fanout.send(conn, Frame::Control(vec![0; at + 1].into())));
        }
        fanout.finish(conns[LOOKED_AT + 98], Frame::Constant(b"bye"), None);
        assert!(fanout.search_largest().is_none() && fanout.is_searching(), "not all in one turn");
        let Largest { found, waiting } = fanout.search_largest().unwrap();
        assert_eq!((found.len(), waiting), (KEPT, conns.len() / 2));
        assert_eq!(found[0], (LOOKED_AT + 99 + 3 + 2 * SIZE, conns[LOOKED_AT + 98]), "though it is closing");
        assert!(found.is_sorted_by(|one, other| one > other) && !fanout.is_searching());
    }

    #[test]
    fn a_closing_one_that_has_only_a_begun_frame_left_is_not_found() {
        for (queued, is_found) in [(1, false), (2, true)] {
            let mut fanout = Fanout::new(OutboxLimits { bytes: 1 << 20, events: 1000 });
            let conn = fanout.open(Overflow::Disconnect);
            (0..queued).for_each(|_| assert!(fanout.send(conn, Frame::Control(vec![0; 1000].into()))));
            fanout.advance(conn, 1, 0);
            assert_eq!(fanout.search_largest().unwrap().found.len(), 1, "while it is open it can be closed");
            fanout.finish(conn, Frame::Constant(b"bye"), None);
            assert_eq!(fanout.search_largest().unwrap().found.len(), usize::from(is_found));
        }
    }
}
