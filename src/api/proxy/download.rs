//! An answer's body on its way to the client.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use crate::transport::listener::Body;
use crate::transport::relay::{Feed, relay};

/// Hands a body on while it comes. Either side may pause for `idle`; then the body ends in the middle, and the client sees
/// that. `held` is given back at the end.
pub(super) fn download(body: Incoming, idle: Duration, held: impl Send + 'static) -> Body {
    if body.is_end_stream() {
        return Either::Left(Full::new(Bytes::new()));
    }
    let (feed, relay) = relay();
    tokio::spawn(async move {
        let _held = held;
        tokio::select! {
            // The feed is dropped without an end unless it is said, so a body that is cut off looks so.
            () = fill(&feed, body, idle) => {}
            () = feed.gone() => {}
        }
    });
    Either::Right(relay)
}

/// Until the end is said, or a side is gone or does not come on.
async fn fill(feed: &Feed, mut body: Incoming, idle: Duration) {
    loop {
        let (taken, more) = match timeout(idle, body.frame()).await {
            Ok(Some(Ok(frame))) => (timeout(idle, feed.frame(frame)).await, true),
            Ok(None) => (timeout(idle, feed.end()).await, false),
            Ok(Some(Err(error))) => {
                tracing::debug!(%error, "the endpoint's answer was cut off");
                return;
            }
            Err(_) => {
                tracing::debug!("the endpoint's answer does not come on");
                return;
            }
        };
        if !more || !matches!(taken, Ok(Ok(()))) {
            return;
        }
    }
}
