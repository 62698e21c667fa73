//! Who holds an event: so that its bytes are accounted for once in the process, whatever the number of shards.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::websocket::frame::Encoding;

/// Counts of holders: of the event, whose plain frame is always there, and of its deflated frame.
#[derive(Debug, Default)]
pub(super) struct Holders {
    plain: AtomicU32,
    deflated: AtomicU32,
}

impl Holders {
    /// One more holder of a frame in this encoding. Returns whether it is the first of the plain and of the deflated one.
    pub(super) fn add(&self, encoding: Encoding) -> (bool, bool) {
        let first = |holders: &AtomicU32| holders.fetch_add(1, Ordering::Relaxed) == 0;
        (first(&self.plain), encoding == Encoding::Deflate && first(&self.deflated))
    }

    /// One holder less. Returns whether it was the last of the plain and of the deflated one.
    pub(super) fn remove(&self, encoding: Encoding) -> (bool, bool) {
        let last = |holders: &AtomicU32| holders.fetch_sub(1, Ordering::Relaxed) == 1;
        (last(&self.plain), encoding == Encoding::Deflate && last(&self.deflated))
    }
}
