//! Serves one replay: waits for its place, sends what its [`Reader`] reads, and tells its end.
//!
//! Contract: a replay has its place for as long as it has pages in memory: until the shard has handled the end, or the
//! connection is closed. The pages of a client that handles none for [`STALL`] are withdrawn; it gets a gap notice in
//! their place, and continues in the history. A client that leaves while it waits is forgotten.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::places::Places;
use super::reader::{ReadError, Reader, STALL, reserve};
use crate::broker::archive::{Chunk, Page, PageChannel};
use crate::broker::gap::Gap;

/// How long a replay waits for its place; longer than all replays before it take if they make progress.
const TURN: Duration = Duration::from_mins(10);

/// Serves a replay of a principal with this account until the shard has everything, or the client is gone.
pub(super) async fn serve(mut reader: Reader, page_channel: PageChannel, account: Box<str>, places: Arc<Places>) {
    let place = tokio::select! {
        place = places.take(&account, TURN) => place,
        () = page_channel.closed() => return,
    };
    let served = match place {
        Some(_) => send_all(&mut reader, &page_channel).await,
        None => Err(ReadError::Busy),
    };
    if let Err(error) = served
        && let Ok(last) = in_place_of_the_rest(&reader, error).await
    {
        page_channel.withdraw(last);
    }
}

async fn send_all(reader: &mut Reader, page_channel: &PageChannel) -> Result<(), ReadError> {
    let missing = match reader.read_all(page_channel).await {
        Err(ReadError::Unreadable(error)) => Some(reader.failed(&error)?),
        missing => missing?,
    };
    let permit = reserve(page_channel).await?;
    permit.put(last_page(reader, missing).await?);
    timeout(STALL, page_channel.closed()).await.map_err(|_| ReadError::Stalled)
}

/// Returns the page for a client that gets no more of the stream.
async fn in_place_of_the_rest(reader: &Reader, error: ReadError) -> Result<Page, ReadError> {
    let broker = reader.broker()?;
    let gap = match error {
        ReadError::Stalled => reader.unhandled(&broker),
        ReadError::Busy => {
            broker.metrics().nats.replay_failures.inc();
            reader.rest(&broker)
        }
        ReadError::Gone | ReadError::Unreadable(_) => return Err(error),
    };
    last_page(reader, Some(gap)).await
}

async fn last_page(reader: &Reader, missing: Option<Gap>) -> Result<Page, ReadError> {
    let broker = reader.broker()?;
    let splice = if reader.is_again() { None } else { Some(reader.join(&broker).await) };
    Ok(missing.map(Chunk::Gap).into_iter().chain([Chunk::End(splice)]).collect())
}
