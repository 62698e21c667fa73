//! Forwards the body of an answer to the client.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either};
use hyper::body::{Body as _, Frame, Incoming};
use prometheus::IntCounter;
use tokio::time::{Instant, timeout, timeout_at};

use super::Held;
use crate::metrics::ProxySide;
use crate::tasks;
use crate::transport::listener::Body;
use crate::transport::relay::{Feed, Gone, relay};
use crate::transport::signs::Accepting;
use crate::transport::slices::Slices;

/// Length of a part of a body that is there as a whole, in bytes.
const PART: usize = 16 << 10;

/// Forwards a body as it arrives. If either side makes no progress for `idle`, the body is truncated, which the client
/// notices. `held` is released at the end, when the last part has been accepted.
pub(super) fn download(body: Incoming, idle: Duration, held: Held, client: Accepting) -> Body {
    if body.is_end_stream() {
        return Either::Left(Slices::default());
    }
    let (feed, relay) = relay();
    tasks::spawn(async move {
        let bytes = held.exchange().down();
        let filled = tokio::select! {
            // Dropping the feed without an explicit end truncates the client's body.
            filled = fill(&feed, body, idle, &bytes, &client) => filled,
            () = feed.gone() => Err(ProxySide::Client),
        };
        if let Err(side) = filled {
            held.exchange().cut_off(side);
        }
    });
    Either::Right(relay)
}

/// Sends a body that is there as a whole, in parts, so that `held` is released when the last one has been accepted.
pub(super) fn send(body: Bytes, idle: Duration, held: Held, client: Accepting) -> Body {
    let (feed, relay) = relay();
    tasks::spawn(async move {
        // Also after a HEAD request.
        if fill_with(&feed, body, idle, &client).await.is_err() {
            tracing::debug!("a client did not accept the whole answer");
        }
        drop(held);
    });
    Either::Right(relay)
}

async fn fill_with(feed: &Feed, mut body: Bytes, idle: Duration, client: &Accepting) -> Result<(), ProxySide> {
    while !body.is_empty() {
        let part = Frame::data(body.split_to(body.len().min(PART)));
        while_accepting(client, idle, feed.frame(part)).await?;
    }
    while_accepting(client, idle, feed.end()).await
}

/// Fills the feed up to the end of the body. Returns the side that disconnected or stalled, if one did.
async fn fill(
    feed: &Feed,
    mut body: Incoming,
    idle: Duration,
    bytes: &IntCounter,
    client: &Accepting,
) -> Result<(), ProxySide> {
    loop {
        match timeout(idle, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                bytes.inc_by(frame.data_ref().map_or(0, Bytes::len) as u64);
                while_accepting(client, idle, feed.frame(frame)).await?;
            }
            Ok(None) => return while_accepting(client, idle, feed.end()).await,
            Ok(Some(Err(error))) => {
                tracing::debug!(%error, "the endpoint's answer was truncated");
                return Err(ProxySide::Endpoint);
            }
            Err(_) => {
                tracing::debug!("the endpoint stopped sending its answer");
                return Err(ProxySide::Endpoint);
            }
        }
    }
}

/// Waits until the client has room for a part, as long as it accepts anything within `idle`: a part is so long that a
/// slow client may take longer for it.
async fn while_accepting(
    client: &Accepting,
    idle: Duration,
    room: impl Future<Output = Result<(), Gone>>,
) -> Result<(), ProxySide> {
    let mut room = pin!(room);
    let mut since = Instant::now();
    loop {
        if let Ok(done) = timeout_at(since + idle, &mut room).await {
            return done.map_err(|Gone| ProxySide::Client);
        }
        let last = Instant::from_std(client.last());
        if last <= since {
            return Err(ProxySide::Client);
        }
        since = last;
    }
}
