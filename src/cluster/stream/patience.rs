//! How long a replay waits for its client.
//!
//! Contract: a client that makes progress is waited for, however slow it is; one that makes none for [`STALL`] is not.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

use super::pages::PageError;
use crate::broker::archive::{PageChannel, PagePermit};

/// How long a client may accept nothing before its replay is aborted in favour of others.
pub(super) const STALL: Duration = Duration::from_mins(1);

/// Interval between two looks at a client's progress.
const LOOK: Duration = Duration::from_secs(5);

/// Why a replay ends early.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The client or the broker is gone.
    Gone,
    /// The stream cannot be read.
    Unreadable(PageError),
    /// The client does not read.
    Stalled,
    /// Too many other replays are in progress.
    Busy,
}

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
        if let Ok(done) = timeout(LOOK, &mut done).await {
            return Ok(done);
        }
        let now = page_channel.progress();
        idle = if now.is_some() && now == before { idle + LOOK } else { Duration::ZERO };
        before = now;
    }
    Err(ReadError::Stalled)
}
