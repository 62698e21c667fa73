//! Counts the holders of an event, so that its bytes count once in the process, regardless of the number of shards.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::websocket::frame::Encoding;

/// Counts the holders of an event (whose plain frame always exists), of its deflated frame, and of its text for
/// streams.
#[derive(Debug, Default)]
pub(super) struct Holders {
    plain: AtomicU32,
    deflated: AtomicU32,
    streamed: AtomicU32,
}

/// The encodings whose first holder was added, or whose last holder was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turned {
    pub(super) plain: bool,
    pub(super) deflated: bool,
    pub(super) streamed: bool,
}

impl Holders {
    /// Adds a holder of a frame in this encoding.
    pub(super) fn add(&self, encoding: Encoding) -> Turned {
        self.turn(encoding, |holders| holders.fetch_add(1, Ordering::Relaxed) == 0)
    }

    /// Removes a holder of a frame in this encoding.
    pub(super) fn remove(&self, encoding: Encoding) -> Turned {
        self.turn(encoding, |holders| holders.fetch_sub(1, Ordering::Relaxed) == 1)
    }

    fn turn(&self, encoding: Encoding, turn: impl Fn(&AtomicU32) -> bool) -> Turned {
        Turned {
            plain: turn(&self.plain),
            deflated: encoding == Encoding::Deflate && turn(&self.deflated),
            streamed: !encoding.is_websocket() && turn(&self.streamed),
        }
    }
}
