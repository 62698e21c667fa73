//! Serves one replay: waits for its slot, sends what its [`Reader`] reads, and tells its end.
//!
//! Contract: a replay has its slot for as long as it has pages in memory: until the shard has handled the end, or the
//! connection is closed. The pages of a client that makes no progress for [`STALL`](super::progress::STALL) are
//! withdrawn; it gets a gap notice in their place, and continues in the history, which delivers what it holds of them.
//! A client that leaves while it waits is forgotten.

use std::sync::Arc;
use std::time::Duration;

use super::error::ReadError;
use super::progress::{in_time, reserve};
use super::reader::Reader;
use super::slots::ReplaySlots;
use crate::broker::archive::{Page, PageChannel};

/// How long a replay waits for its slot; longer than all replays before it take if they make progress.
const TURN: Duration = Duration::from_mins(10);

/// Serves a replay of a principal with this account until the shard has everything, or the client is gone.
pub(super) async fn serve(mut reader: Reader, page_channel: PageChannel, account: Box<str>, slots: Arc<ReplaySlots>) {
    let slot = tokio::select! {
        slot = slots.take(&account, TURN) => slot,
        () = page_channel.closed() => return,
    };
    let served = match slot {
        Some(_) => send_all(&mut reader, &page_channel).await,
        None => Err(ReadError::Busy),
    };
    if let Err(error) = served
        && let Ok(last) = in_place_of_the_rest(&mut reader, error).await
    {
        page_channel.withdraw(last);
    }
}

async fn send_all(reader: &mut Reader, page_channel: &PageChannel) -> Result<(), ReadError> {
    match reader.read_all(page_channel).await {
        Err(ReadError::Unreadable(error)) => {
            reader.failed(Some(&error))?;
            let permit = reserve(page_channel).await?;
            permit.put(reader.break_off(false).await?);
        }
        read => read?,
    }
    in_time(page_channel, page_channel.closed()).await
}

/// Returns the page for a client that gets no more of the stream.
async fn in_place_of_the_rest(reader: &mut Reader, error: ReadError) -> Result<Page, ReadError> {
    match error {
        ReadError::Stalled => reader.break_off(true).await,
        ReadError::Busy => {
            reader.failed(None)?;
            reader.break_off(false).await
        }
        ReadError::Gone | ReadError::Unreadable(_) => Err(error),
    }
}
