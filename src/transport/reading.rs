//! Records whether the body of a request has been read to its end.
//!
//! Contract: a request with a body carries a [`Reading`] among its extensions. The reader of the body reports when it
//! waits for more and when the body has ended. A response to a request that was not read ends the connection. The
//! listener announces that (`Connection: close`) and makes sure that the response is not lost: it reads and discards
//! for a moment what the client still sends. A client that has closed its side while more of the body is expected
//! counts as gone ([`super::socket`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use hyper::Request;
use hyper::body::Body;

/// The state of the reading.
#[repr(u8)]
enum State {
    /// The reader does not wait for more at present.
    Open,
    /// The reader waits for more.
    Waits,
    /// The body was read to its end.
    Finished,
}

/// A request extension that records whether the body has been read to its end.
#[derive(Debug, Clone, Default)]
pub struct Reading(Arc<AtomicU8>);

impl Reading {
    /// Adds a `Reading` to a request, if it has a body.
    pub fn begin<B: Body>(request: &mut Request<B>) -> Option<Self> {
        if request.body().is_end_stream() {
            return None;
        }
        let reading = Self::default();
        request.extensions_mut().insert(reading.clone());
        Some(reading)
    }

    /// Returns the `Reading` of a request.
    pub fn of<B>(request: &Request<B>) -> Option<Self> {
        request.extensions().get().cloned()
    }

    /// Records whether the reader waits for more of the body.
    pub fn set_waits(&self, waits: bool) {
        self.0.store(if waits { State::Waits } else { State::Open } as u8, Ordering::Release);
    }

    /// Records that the body has ended.
    pub fn finish(&self) {
        self.0.store(State::Finished as u8, Ordering::Release);
    }

    /// Returns whether the body has ended.
    pub fn is_finished(&self) -> bool {
        self.0.load(Ordering::Acquire) == State::Finished as u8
    }

    /// Returns whether the reader waits for more.
    pub fn waits(&self) -> bool {
        self.0.load(Ordering::Acquire) == State::Waits as u8
    }
}
