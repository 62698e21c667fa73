//! The body of an answer that reports when hyper is done with it.
//!
//! Contract: once it is dropped, all of it is in hyper's buffer, or it was abandoned. This is how a [`Socket`] knows
//! which bytes are the response of a handler and which are hyper's own, to a request it could not parse.
//!
//! [`Socket`]: super::socket::Socket

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::signs::Signs;

/// The body of a response in progress.
#[derive(Debug)]
pub(super) struct Tracked<B> {
    body: B,
    _end: Option<End>,
}

#[derive(Debug)]
struct End(Arc<Signs>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.written();
    }
}

impl<B> Tracked<B> {
    /// Wraps a body, and reports its end to `signs` if given.
    pub(super) fn new(body: B, signs: Option<Arc<Signs>>) -> Self {
        Self { body, _end: signs.map(End) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
