//! Counts the holders of an event, so that its bytes count once in the process, regardless of the number of shards.

use std::sync::atomic::{AtomicU32, Ordering};

use super::Event;
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
struct Turned {
    plain: bool,
    deflated: bool,
    streamed: bool,
}

impl Event {
    /// Records that a shard holds a frame of the event. Returns the number of bytes that had no holder before.
    pub fn hold(&self, encoding: Encoding) -> usize {
        self.bytes_of(self.holders.add(encoding))
    }

    /// Records that a shard no longer holds that frame. Returns the number of bytes that now have no holder.
    pub fn let_go(&self, encoding: Encoding) -> usize {
        self.bytes_of(self.holders.remove(encoding))
    }

    /// Returns the number of bytes that the only holder of a frame in this encoding would hold: those of the plain
    /// frame too, which the event never loses.
    pub fn memory_in(&self, encoding: Encoding) -> usize {
        let (deflated, streamed) = (encoding == Encoding::Deflate, !encoding.is_websocket());
        self.bytes_of(Turned { plain: true, deflated, streamed })
    }

    fn bytes_of(&self, turned: Turned) -> usize {
        let bytes = |is: bool, encoding| if is { self.frame_in(encoding).len() } else { 0 };
        bytes(turned.plain, Encoding::Plain)
            + bytes(turned.deflated, Encoding::Deflate)
            + bytes(turned.streamed, Encoding::EventStream)
    }
}

impl Holders {
    /// Adds a holder of a frame in this encoding.
    fn add(&self, encoding: Encoding) -> Turned {
        self.turn(encoding, |holders| holders.fetch_add(1, Ordering::Relaxed) == 0)
    }

    /// Removes a holder of a frame in this encoding.
    fn remove(&self, encoding: Encoding) -> Turned {
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
