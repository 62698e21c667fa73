//! Waits for the clients of replays.
//!
//! Contract: a client that makes progress is waited for, however slow it is; one that makes none for [`STALL`] is not.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

use super::error::ReadError;
use crate::broker::archive::{PageChannel, PagePermit};

/// How long a client may accept nothing before its replay is aborted in favour of others.
pub(super) const STALL: Duration = Duration::from_mins(1);

/// Interval at which a client's progress is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Waits until the client has accepted the previous page.
pub(super) async fn reserve(page_channel: &PageChannel) -> Result<PagePermit<'_>, ReadError> {
    in_time(page_channel, page_channel.reserve()).await?.ok_or(ReadError::Gone)
}

/// Waits for something that the client has to do, for as long as it makes progress, or its shard waits for a page (of
/// another read for the same client).
pub(super) async fn in_time<T>(page_channel: &PageChannel, done: impl Future<Output = T>) -> Result<T, ReadError> {
    let mut done = pin!(done);
    let (mut idle, mut before) = (Duration::ZERO, page_channel.progress());
    while idle < STALL {
        if let Ok(done) = timeout(CHECK_INTERVAL, &mut done).await {
            return Ok(done);
        }
        let now = page_channel.progress();
        idle = if now.is_some() && now == before { idle + CHECK_INTERVAL } else { Duration::ZERO };
        before = now;
    }
    Err(ReadError::Stalled)
}
