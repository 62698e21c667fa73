//! Forwards the body of an answer to the client.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body as _, Incoming};
use prometheus::IntCounter;
use tokio::time::timeout;

use super::Held;
use crate::metrics::ProxySide;
use crate::tasks;
use crate::transport::listener::Body;
use crate::transport::relay::{Feed, relay};

/// Forwards a body as it arrives. If either side pauses for `idle`, the body is truncated, which the client notices.
/// `held` is released at the end, when the last part has been accepted.
pub(super) fn download(body: Incoming, idle: Duration, held: Held) -> Body {
    if body.is_end_stream() {
        return Either::Left(Full::new(Bytes::new()));
    }
    let (feed, relay) = relay();
    tasks::spawn(async move {
        let bytes = held.exchange().down();
        let filled = tokio::select! {
            // Dropping the feed without an explicit end truncates the client's body.
            filled = fill(&feed, body, idle, &bytes) => filled,
            () = feed.gone() => Err(ProxySide::Client),
        };
        if let Err(side) = filled {
            held.exchange().cut_off(side);
        }
    });
    Either::Right(relay)
}

/// Fills the feed up to the end of the body. Returns the side that disconnected or stalled, if one did.
async fn fill(feed: &Feed, mut body: Incoming, idle: Duration, bytes: &IntCounter) -> Result<(), ProxySide> {
    loop {
        let taken = match timeout(idle, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                bytes.inc_by(frame.data_ref().map_or(0, Bytes::len) as u64);
                timeout(idle, feed.frame(frame)).await
            }
            Ok(None) => {
                return timeout(idle, feed.end()).await.ok().and_then(Result::ok).ok_or(ProxySide::Client);
            }
            Ok(Some(Err(error))) => {
                tracing::debug!(%error, "the endpoint's answer was truncated");
                return Err(ProxySide::Endpoint);
            }
            Err(_) => {
                tracing::debug!("the endpoint stopped sending its answer");
                return Err(ProxySide::Endpoint);
            }
        };
        if !matches!(taken, Ok(Ok(()))) {
            return Err(ProxySide::Client);
        }
    }
}
