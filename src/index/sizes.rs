//! Limits on the size of the filters of a subscriber, and of all subscribers of an owner together.

use super::accounts::NOBODY;
use super::filter::Filter;
use super::{Index, IndexError, Slot, Spec, Subscriber, small};

impl<S: Copy> Index<S> {
    /// Returns the size of the filter in bytes, or an error if it exceeds a limit.
    pub(super) fn check_filter(&mut self, slot: Slot, spec: &Spec) -> Result<usize, IndexError> {
        let more = spec.filter.as_ref().map_or(0, Filter::bytes);
        let Subscriber { owner, filter_bytes, .. } = *self.subscriber(slot);
        let (bytes, limit) = (filter_bytes as usize + more, self.limits.filter_bytes.min(u32::MAX as usize));
        if more > 0 && bytes > limit {
            return Err(IndexError::FilterBytes { bytes, limit });
        }
        let (bytes, limit) = (*self.owners.bytes(owner) + more, self.limits.owner_filter_bytes);
        if more > 0 && owner != NOBODY && bytes > limit {
            return Err(IndexError::OwnerFilterBytes { bytes, limit });
        }
        Ok(more)
    }

    /// Adds the size of a filter to the totals of its subscriber and its owner, or subtracts it.
    pub(super) fn count_filter(&mut self, slot: Slot, bytes: usize, change: fn(usize, usize) -> usize) {
        let subscriber = self.subscriber(slot);
        subscriber.filter_bytes = small(change(subscriber.filter_bytes as usize, bytes));
        let owner = subscriber.owner;
        let all = self.owners.bytes(owner);
        *all = change(*all, bytes);
    }

    /// Checks whether the text of another registration is within the limits.
    pub(super) fn check_text(&self, slot: Slot, text: &str) -> Result<(), IndexError> {
        let Some(Subscriber { owner, text_bytes, .. }) = &self.subscribers[slot.0 as usize] else { return Ok(()) };
        let (bytes, limit) = (*text_bytes as usize + text.len(), self.limits.text_bytes.min(u32::MAX as usize));
        if bytes > limit {
            return Err(IndexError::TextBytes { bytes, limit });
        }
        let (bytes, limit) = (self.owners.all_text_bytes(*owner) + text.len(), self.limits.owner_text_bytes);
        if *owner != NOBODY && bytes > limit {
            return Err(IndexError::OwnerTextBytes { bytes, limit });
        }
        Ok(())
    }

    /// Adds the size of a text to the totals of its subscriber and its owner, or subtracts it.
    pub(super) fn count_text(&mut self, slot: Slot, bytes: usize, change: fn(usize, usize) -> usize) {
        let subscriber = self.subscriber(slot);
        subscriber.text_bytes = small(change(subscriber.text_bytes as usize, bytes));
        let owner = subscriber.owner;
        let all = self.owners.text_bytes(owner);
        *all = change(*all, bytes);
    }
}
