//! `hydrant watch SPEC...`: prints events on standard output as they happen.
//!
//! Events that arrive together are written together, then flushed: a pipe sees each event at once, and a burst does not
//! cost one system call per event. A [`View`] formats the events; the [`Feed`] receives them and reconnects. Everything
//! that is not an event goes to standard error.

mod changes;
mod pretty;
mod shown;
mod stats;
mod table;
mod view;

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use thiserror::Error;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::console::{Screen, is_reader_gone};
use super::endpoint::{self, EndpointError};
use super::feed::{Arrival, Feed, Wanted, Way, since};
use super::signals::asked_to_end;
use crate::auth::parse_ttl;
use crate::client::ClientError;
use crate::clock;
use shown::Shown;
use view::View;

/// Number of bytes after which a batch is written before more events are added.
const BATCH_BYTES: usize = 256 * 1024;
/// How long pending output may take to be written after Ctrl-C.
const LAST_FLUSH: Duration = Duration::from_secs(1);
/// Interval at which a quiet watch checks whether anybody still reads its output.
const CHECK: Duration = Duration::from_secs(1);
/// Interval between two lines of `--stats`.
const TICK: Duration = Duration::from_secs(1);

#[derive(Args)]
#[command(after_help = endpoint::HELP)]
pub(super) struct WatchArgs {
    /// Registrations: type.action.key or type.action.key.filter, such as 'machines.update.*'
    #[arg(required = true, value_name = "SPEC")]
    specs: Vec<String>,
    /// Start with past events from this point on: an age (10m, 2h), an RFC 3339 time, or EPOCH:SEQUENCE, a position as
    /// in the id of an event of a stream
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<String>,
    #[command(flatten)]
    shown: Shown,
    /// Exit after this many events; a notice that events are missing is not counted, unless it was registered for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Exit after this long: 30, 30s, 5m, 2h; with 1 if there was no connection or, with --count, if fewer events have
    /// arrived
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    timeout: Option<Duration>,
    /// Use a stream of Server-Sent Events instead of a websocket; after a lost connection it resumes exactly after the
    /// last event, if the same server answers
    #[arg(long)]
    sse: bool,
    /// Exit with 1 when there is no connection, instead of retrying
    #[arg(long)]
    no_retry: bool,
    #[command(flatten)]
    pub(super) endpoint: endpoint::EndpointArgs,
}

/// The reason why a watch ended before it was asked to.
#[derive(Debug, Error)]
pub(crate) enum WatchError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    #[error("only {} of {wanted} events arrived within {} s", wanted - left, after.as_secs())]
    Late { wanted: u64, left: u64, after: Duration },
    #[error("no connection within {} s", .0.as_secs())]
    Unconnected(Duration),
}

pub(super) fn run(args: &WatchArgs, err: &mut dyn Write) -> Result<(), WatchError> {
    let way = if args.sse { Way::Stream } else { Way::Websocket };
    let target = args.endpoint.target()?;
    let (specs, since) = (args.specs.clone(), args.since.clone());
    let mut feed = Feed::new(Wanted { target, specs, since, way, no_retry: args.no_retry });
    let runtime = endpoint::runtime()?;
    let result = runtime.block_on(async {
        let ended = asked_to_end()?;
        let view = View::of(&args.shown, &Screen::of(&io::stdout()), clock::instant());
        let mut watch = Watch { view, left: args.count, out: tokio::io::stdout(), stats: args.shown.stats };
        let result = tokio::select! {
            result = watch.until_done(&mut feed, err) => result,
            after = elapsed(args.timeout) => Err(WatchError::Late { wanted: 0, left: 0, after }),
            () = ended => Ok(()),
            () = reader_gone() => Err(WatchError::Output(io::ErrorKind::BrokenPipe.into())),
        };
        let has_connected = feed.has_connected();
        feed.close().await;
        watch.end().await;
        match result {
            Err(WatchError::Late { after, .. }) if !has_connected => Err(WatchError::Unconnected(after)),
            Err(WatchError::Late { after, .. }) => watch.late(args.count, after),
            result => result,
        }
    });
    // A write that the reader does not accept may still block in it.
    runtime.shutdown_background();
    result
}

/// Returns `limit` after that time has passed; never returns without one.
async fn elapsed(limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            sleep(limit).await;
            limit
        }
        None => std::future::pending().await,
    }
}

/// Returns when nobody reads the output any more, which a write would only find out with the next event.
async fn reader_gone() {
    while !is_reader_gone(&io::stdout()) {
        sleep(CHECK).await;
    }
}

struct Watch<W> {
    view: View,
    /// Number of events still to be shown; `None` means no limit.
    left: Option<u64>,
    out: W,
    /// Whether the view writes a line each second.
    stats: bool,
}

impl<W: AsyncWrite + Unpin> Watch<W> {
    /// Shows events until the wanted number is reached, or the feed ends.
    async fn until_done(&mut self, feed: &mut Feed, err: &mut dyn Write) -> Result<(), WatchError> {
        let mut ticks = interval_at(Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let first = if self.stats {
                feed.next_with_ticks(err, &mut ticks, async || self.tick().await).await?
            } else {
                feed.next(err).await?
            };
            let text = self.batch(first, feed, err);
            self.out.write_all(&text).await?;
            self.out.flush().await?;
            if self.left == Some(0) {
                return Ok(());
            }
        }
    }

    /// Formats an event, and the following events that have already arrived.
    fn batch(&mut self, first: Arrival, feed: &mut Feed, err: &mut dyn Write) -> Vec<u8> {
        let mut text = Vec::new();
        let mut next = Some(first);
        while let Some(arrival) = next {
            self.view.event(&arrival, &mut text);
            self.left = self.left.map(|left| left - u64::from(arrival.is_asked_for()));
            let full = self.left == Some(0) || text.len() >= BATCH_BYTES;
            next = if full { None } else { feed.next_ready(err) };
        }
        text
    }

    async fn tick(&mut self) -> Result<(), WatchError> {
        let mut text = Vec::new();
        self.view.tick(clock::both(), &mut text);
        self.out.write_all(&text).await?;
        Ok(self.out.flush().await?)
    }

    /// Ends at the timeout: successfully, unless more events were wanted.
    fn late(&self, wanted: Option<u64>, after: Duration) -> Result<(), WatchError> {
        match (wanted, self.left) {
            (Some(wanted), Some(left)) if left > 0 => Err(WatchError::Late { wanted, left, after }),
            _ => Ok(()),
        }
    }

    /// Writes the view's summary, and flushes pending output.
    async fn end(&mut self) {
        let mut text = Vec::new();
        self.view.end(clock::both(), &mut text);
        // The timeout keeps a stalled reader from blocking the end.
        let last = async {
            self.out.write_all(&text).await?;
            self.out.flush().await
        };
        let _ = timeout(LAST_FLUSH, last).await;
    }
}
