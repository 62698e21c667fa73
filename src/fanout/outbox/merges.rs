//! Finds the updates that a conflation pass merges.
//!
//! Contract: pure. Every chain of updates of one object may be left as it is ([`Merges::leave`]), so a pass may end
//! wherever its time does: nothing is lost, and the order stays.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::barriers::{Barriers, Object};
use super::frames::{FrameId, Frames};

/// What a pass makes of the frames of an outbox.
#[derive(Debug)]
pub(super) struct Merges {
    /// For each frame the first of those that it stands for: itself, an earlier update of its object, or `None` if a
    /// later one stands for it.
    pub(super) firsts: Vec<Option<FrameId>>,
    /// For each frame the place of the update before it that it stands for too; its own if there is none.
    before: Vec<usize>,
}

impl Merges {
    /// Finds all of them. The first `begun` frames stay unchanged.
    pub(super) fn find(frames: &Frames, barriers: &Barriers, waiting: &[FrameId], begun: usize) -> Self {
        let mut firsts: Vec<Option<FrameId>> = waiting.iter().copied().map(Some).collect();
        let mut before: Vec<usize> = (0..waiting.len()).collect();
        let mut latest: HashTable<usize> = HashTable::new();
        let rehash = |&at: &usize| frames.object(waiting[at]).map_or(0, Object::hash);
        for (at, &frame) in waiting.iter().enumerate().skip(begun) {
            let Some(object) = frames.object(frame) else { continue };
            let is_it = |&earlier: &usize| frames.are_of_one_object(waiting[earlier], frame);
            match latest.entry(object.hash(), is_it, rehash) {
                Entry::Occupied(entry) if !object.is_update() => {
                    entry.remove();
                }
                Entry::Occupied(mut entry) => {
                    let earlier = std::mem::replace(entry.get_mut(), at);
                    let last = frames.event(waiting[earlier]).map(|(_, span)| span.last);
                    if last.is_some_and(|last| !barriers.any_since(last, object)) {
                        firsts[at] = firsts[earlier].take();
                        before[at] = earlier;
                    }
                }
                Entry::Vacant(entry) => {
                    if object.is_update() {
                        entry.insert(at);
                    }
                }
            }
        }
        Self { firsts, before }
    }

    /// Leaves the updates as they are that the frame at this place stands for.
    pub(super) fn leave(&mut self, waiting: &[FrameId], mut at: usize) {
        loop {
            self.firsts[at] = Some(waiting[at]);
            if self.before[at] == at {
                return;
            }
            at = self.before[at];
        }
    }
}
