//! A body whose frames come from a task: a proxy forwards it while it is still being read.
//!
//! Contract: at most [`WAITING`] frames are held, so memory does not grow with the body. The end must be reported
//! ([`Feed::end`]): if the feed is dropped before, the body ends with an error, so the client does not take a part for
//! the whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

/// Frames queued between the two sides.
const WAITING: usize = 2;

/// The body that is sent to the client.
#[derive(Debug)]
pub struct Relay {
    frames: mpsc::Receiver<Option<Frame<Bytes>>>,
    ended: bool,
}

/// The sending side that provides the frames.
#[derive(Debug)]
pub struct Feed(mpsc::Sender<Option<Frame<Bytes>>>);

/// The client is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Creates both sides of a body.
pub fn relay() -> (Feed, Relay) {
    let (sender, frames) = mpsc::channel(WAITING);
    (Feed(sender), Relay { frames, ended: false })
}

impl Feed {
    /// Queues a frame; waits for room.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn frame(&self, frame: Frame<Bytes>) -> Result<(), Gone> {
        self.0.send(Some(frame)).await.map_err(|_| Gone)
    }

    /// Reports the end of the body.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn end(&self) -> Result<(), Gone> {
        self.0.send(None).await.map_err(|_| Gone)
    }

    /// Waits until the client is gone.
    pub async fn gone(&self) {
        self.0.closed().await;
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.frames.poll_recv(cx).map(|received| match received {
            Some(Some(frame)) => Some(Ok(frame)),
            Some(None) => {
                self.ended = true;
                None
            }
            None => {
                self.ended = true;
                Some(Err(io::ErrorKind::UnexpectedEof.into()))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn an_end_that_nobody_said_is_an_error() {
        for said in [true, false] {
            let (feed, relay) = relay();
            feed.frame(Frame::data(Bytes::from_static(b"half"))).await.unwrap();
            if said {
                feed.end().await.unwrap();
            } else {
                drop(feed);
            }
            assert_eq!(relay.collect().await.is_ok(), said);
        }
    }

    #[tokio::test]
    async fn a_client_that_goes_is_noticed() {
        let (feed, relay) = relay();
        drop(relay);
        feed.gone().await;
        assert_eq!(feed.frame(Frame::data(Bytes::new())).await, Err(Gone));
    }
}
