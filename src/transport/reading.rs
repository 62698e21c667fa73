//! Records whether the body of a request has been read to its end.
//!
//! Contract: a request with a body carries a [`Reading`] among its extensions. Whoever reads the body reports its end.
//! An answer to a request that was not read ends the connection. The listener announces that (`Connection: close`) and
//! makes sure that the answer is not lost: what the client still sends is read and discarded for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::Request;
use hyper::body::Body;

/// A request extension that records whether the body has been read to its end.
#[derive(Debug, Clone, Default)]
pub struct Reading(Arc<AtomicBool>);

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

    /// The body has ended.
    pub fn finish(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it has.
    pub fn is_finished(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
