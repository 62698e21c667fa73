//! Remembers which event of a node has arrived with which number, so that a repetition is told from another event.
//!
//! A number alone cannot tell them apart: anybody who may publish can use a node's next number before the node does.
//!
//! Contract: pure. Numbers are remembered in chunks of [`CHUNK`]; the caller bounds the number of chunks, and those
//! farthest from the latest number are forgotten first. What is forgotten counts as not arrived.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

/// Numbers per chunk.
pub(super) const CHUNK: usize = 256;

type Chunk = [Option<NonZeroU64>; CHUNK];

/// The digests of a node's latest events, by number.
#[derive(Debug, Default)]
pub(super) struct Recalled {
    chunks: BTreeMap<u64, Box<Chunk>>,
}

impl Recalled {
    /// Records an event. Returns whether the same one was recorded with this number before.
    pub(super) fn record(&mut self, number: u64, digest: u64, most_chunks: usize) -> bool {
        let (at, within) = (number / CHUNK as u64, usize::try_from(number % CHUNK as u64).unwrap_or_default());
        let chunk = self.chunks.entry(at).or_insert_with(|| Box::new([None; CHUNK]));
        let digest = Some(NonZeroU64::new(digest).unwrap_or(NonZeroU64::MIN));
        let known = std::mem::replace(&mut chunk[within], digest);
        self.forget(at, most_chunks);
        known == digest
    }

    /// Forgets all but so many chunks, those nearest to this number.
    pub(super) fn shrink(&mut self, number: u64, most_chunks: usize) {
        self.forget(number / CHUNK as u64, most_chunks);
    }

    /// Forgets the chunks farthest from this one.
    fn forget(&mut self, latest: u64, most_chunks: usize) {
        while self.chunks.len() > most_chunks.max(1) {
            let (Some((first, _)), Some((last, _))) = (self.chunks.first_key_value(), self.chunks.last_key_value())
            else {
                return;
            };
            if latest.abs_diff(*first) > last.abs_diff(latest) {
                self.chunks.pop_first()
            } else {
                self.chunks.pop_last()
            };
        }
    }

    /// Returns the number of chunks.
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_event_with_the_same_number_has_come_before() {
        let mut recalled = Recalled::default();
        for digest in [0, 7, u64::MAX] {
            assert!(!recalled.record(5, digest, 9));
            assert!(recalled.record(5, digest, 9), "{digest}");
            assert!(!recalled.record(6, digest, 9), "{digest}");
        }
        assert!(!recalled.record(5, 7, 9), "another one has come with this number since");
    }

    #[test]
    fn what_is_farthest_from_the_latest_is_forgotten_first() {
        let chunk = CHUNK as u64;
        let mut recalled = Recalled::default();
        (0..100 * chunk).for_each(|number| assert!(!recalled.record(number, 9, 10)));
        (90 * chunk..100 * chunk).for_each(|number| assert!(recalled.record(number, 9, 10)));
        recalled.record(u64::MAX, 9, 10);
        assert!(recalled.record(99 * chunk, 9, 10), "a number far ahead makes nothing near forgotten for long");
        (0..1000).for_each(|number| assert!(!recalled.record(number << 50, 9, 10)));
        assert_eq!(recalled.chunks(), 10);
    }
}
