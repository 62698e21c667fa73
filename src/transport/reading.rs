//! Records whether the body of a request has been read to its end.
//!
//! Contract: a request with a body carries a [`Reading`] among its extensions. Whoever reads the body reports its end,
//! and when it waits for more. An answer to a request that was not read ends the connection. The listener announces
//! that (`Connection: close`) and makes sure that the answer is not lost: what the client still sends is read and
//! discarded for a moment. A client that has ended its side while more is waited for is gone ([`super::socket`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use hyper::Request;
use hyper::body::Body;

/// How far the reading is.
#[repr(u8)]
enum State {
    /// Nobody waits for more at present.
    Open,
    /// More is waited for.
    Waits,
    /// All of it has come.
    Finished,
}

/// A request extension that records whether the body has been read to its end.
#[derive(Debug, Clone, Default)]
pub struct Reading(Arc<AtomicU8>);

impl Reading {
    /// Puts one into a request, if it has a body.
    pub fn begin<B: Body>(request: &mut Request<B>) -> Option<Self> {
        if request.body().is_end_stream() {
            return None;
        }
        let reading = Self::default();
        request.extensions_mut().insert(reading.clone());
        Some(reading)
    }

    /// The one of a request.
    pub fn of<B>(request: &Request<B>) -> Option<Self> {
        request.extensions().get().cloned()
    }

    /// More is waited for, or has come.
    pub fn set_waits(&self, waits: bool) {
        self.0.store(if waits { State::Waits } else { State::Open } as u8, Ordering::Release);
    }

    /// The body has ended.
    pub fn finish(&self) {
        self.0.store(State::Finished as u8, Ordering::Release);
    }

    /// Whether it has.
    pub fn is_finished(&self) -> bool {
        self.0.load(Ordering::Acquire) == State::Finished as u8
    }

    /// Whether more is waited for.
    pub fn waits(&self) -> bool {
        self.0.load(Ordering::Acquire) == State::Waits as u8
    }
}
