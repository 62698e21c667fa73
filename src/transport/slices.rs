//! The body of an answer that is known as a whole, which is handed to hyper in slices.
//!
//! hyper copies what it is handed into its buffer, whether the client reads or not, and asks for more once there is
//! room in it. If a long body were one piece, it would be copied at once and be dropped while the client has read
//! nothing of it, so nobody could tell how much memory such answers take.
//!
//! Contract: until the client has accepted all but what hyper and the kernel buffer of a connection, the body and what
//! it holds ([`Slices::holding`]) are not dropped, unless the answer is abandoned.

use std::any::Any;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Maximum length of a slice in bytes; hyper buffers about as much again.
pub const SLICE: usize = 32 << 10;

/// A body that is handed over in slices.
#[derive(Debug, Default)]
pub struct Slices {
    rest: Bytes,
    /// What is dropped with the body.
    _held: Option<Box<dyn Any + Send + Sync>>,
}

impl From<Bytes> for Slices {
    fn from(body: Bytes) -> Self {
        Self { rest: body, _held: None }
    }
}

impl Slices {
    /// Returns the number of bytes that have not been handed over.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Keeps something until the body is handed over.
    #[must_use]
    pub fn holding(self, held: impl Any + Send + Sync) -> Self {
        Self { _held: Some(Box::new(held)), ..self }
    }
}

impl Body for Slices {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.rest.len().min(SLICE);
        let slice = self.rest.split_to(length);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn a_long_body_is_held_until_its_last_slice() {
        let text: Vec<u8> = (0..251).cycle().take(2 * SLICE + 5).collect();
        let held = Arc::new(());
        let mut body = Slices::from(Bytes::from(text.clone())).holding(Arc::clone(&held));
        assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
        let (mut lengths, mut all) = (Vec::new(), Vec::new());
        while !body.is_end_stream() {
            assert_eq!(Arc::strong_count(&held), 2);
            let slice = body.frame().now_or_never().unwrap().unwrap().unwrap().into_data().unwrap();
            lengths.push(slice.len());
            all.extend_from_slice(&slice);
        }
        assert_eq!((lengths, all), (vec![SLICE, SLICE, 5], text));
        assert!(body.frame().now_or_never().unwrap().is_none());
        drop(body);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
