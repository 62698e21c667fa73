//! `hydrant watch SPEC...`: events on standard output as they happen.
//!
//! Events that are there together are written together, then flushed: a pipe sees each as soon as it is there, and a
//! storm does not cost a system call for each. How an event is shown is the [`View`]'s; where they come from, and what
//! happens when the connection is lost, the [`Feed`]'s. What is not an event goes to standard error.

mod changes;
mod pretty;
mod shown;
mod stats;
mod table;
mod view;

use std::io::{self, Write};
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use thiserror::Error;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::console::Screen;
use super::endpoint::{self, EndpointError};
use super::feed::{Feed, Wanted, Way};
use crate::auth::{TtlError, parse_ttl};
use crate::client::ClientError;
use crate::clock;
use shown::Shown;
use view::View;

/// So much is written at once before a look at what else has come.
const BATCH_BYTES: usize = 256 * 1024;
/// What was already handed to standard output when Ctrl-C came gets so long to leave.
const LAST_FLUSH: Duration = Duration::from_secs(1);
/// Between two lines of `--stats`.
const TICK: Duration = Duration::from_secs(1);

#[derive(Args)]
#[command(after_help = endpoint::HELP)]
pub(super) struct WatchArgs {
    /// Registrations: type.action.key or type.action.key.filter, such as 'machines.update.*'
    #[arg(required = true, value_name = "SPEC")]
    specs: Vec<String>,
    /// Begin with the events of the past from here on: so long ago (10m, 2h), an RFC 3339 time, or EPOCH:SEQUENCE as in
    /// `hydrant`'s info
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<String>,
    #[command(flatten)]
    shown: Shown,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so long: 30, 30s, 5m, 2h. With --count it is a failure (1) if fewer events have come
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    timeout: Option<Duration>,
    /// Use a stream of Server-Sent Events instead of a websocket; after a lost connection it goes on right behind the
    /// last event
    #[arg(long)]
    sse: bool,
    /// End with 1 when there is no connection, instead of trying again
    #[arg(long)]
    no_retry: bool,
    #[command(flatten)]
    endpoint: endpoint::EndpointArgs,
}

/// Why a watch ended without being asked to.
#[derive(Debug, Error)]
pub(crate) enum WatchError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    #[error("{} of {wanted} events came within {} s", wanted - left, after.as_secs())]
    Late { wanted: u64, left: u64, after: Duration },
}

/// A time so long ago as the server takes it; anything else is for the server to read.
pub(super) fn since(text: &str) -> Result<String, TtlError> {
    let text = text.trim();
    let is_span = text.strip_suffix(['s', 'm', 'h', 'd', 'w']).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    if !is_span {
        return Ok(text.to_owned());
    }
    let ago = parse_ttl(text)?;
    Ok(clock::now().checked_sub(ago).map_or_else(|_| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string()))
}

/// Returns when the user wants to end it: by Ctrl-C, or as a service manager says it. A closed terminal ends it the
/// hard way, unless `nohup` says otherwise.
///
/// # Errors
/// When the system refuses to report signals.
pub(super) async fn asked_to_end() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

pub(super) fn run(args: &WatchArgs, err: &mut dyn Write) -> Result<(), WatchError> {
    let way = if args.sse { Way::Stream } else { Way::Websocket };
    let target = args.endpoint.target()?;
    let (specs, since) = (args.specs.clone(), args.since.clone());
    let mut feed = Feed::new(Wanted { target, specs, since, way, no_retry: args.no_retry });
    let runtime = endpoint::runtime()?;
    let result = runtime.block_on(async {
        let view = View::of(&args.shown, &Screen::of(&io::stdout()), clock::now());
        let mut watch = Watch { view, left: args.count, out: tokio::io::stdout(), stats: args.shown.stats };
        let result = tokio::select! {
            result = watch.until_done(&mut feed, err) => result,
            after = elapsed(args.timeout) => Err(WatchError::Late { wanted: 0, left: 0, after }),
            result = asked_to_end() => Ok(result?),
        };
        feed.close().await;
        watch.end().await;
        match result {
            Err(WatchError::Late { after, .. }) => watch.late(args.count, after),
            result => result,
        }
    });
    // A write that nobody takes may still hang in it.
    runtime.shutdown_background();
    result
}

/// Returns `limit` after so long; never without one.
async fn elapsed(limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            sleep(limit).await;
            limit
        }
        None => std::future::pending().await,
    }
}

struct Watch<W> {
    view: View,
    /// Events still to be shown; nothing means no limit.
    left: Option<u64>,
    out: W,
    /// Whether the view has something to say each second.
    stats: bool,
}

impl<W: AsyncWrite + Unpin> Watch<W> {
    /// Shows events until there were enough, or until the feed ends.
    async fn until_done(&mut self, feed: &mut Feed, err: &mut dyn Write) -> Result<(), WatchError> {
        let mut ticks = interval_at(Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let event = {
                let mut next = pin!(feed.next(err));
                loop {
                    tokio::select! {
                        event = &mut next => break event?,
                        _ = ticks.tick(), if self.stats => self.tick().await?,
                    }
                }
            };
            let text = self.batch(event, feed, err);
            self.out.write_all(&text).await?;
            self.out.flush().await?;
            if self.left == Some(0) {
                return Ok(());
            }
        }
    }

    /// What an event looks like, and those behind it that are there already.
    fn batch(&mut self, first: String, feed: &mut Feed, err: &mut dyn Write) -> Vec<u8> {
        let mut text = Vec::new();
        let mut next = Some(first);
        while let Some(event) = next {
            self.view.event(&event, &mut text);
            self.left = self.left.map(|left| left - 1);
            let full = self.left == Some(0) || text.len() >= BATCH_BYTES;
            next = if full { None } else { feed.next_ready(err) };
        }
        text
    }

    async fn tick(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        self.view.tick(clock::now(), &mut text);
        self.out.write_all(&text).await?;
        self.out.flush().await
    }

    /// The time is over: fine, unless more events were wanted.
    fn late(&self, wanted: Option<u64>, after: Duration) -> Result<(), WatchError> {
        match (wanted, self.left) {
            (Some(wanted), Some(left)) if left > 0 => Err(WatchError::Late { wanted, left, after }),
            _ => Ok(()),
        }
    }

    /// Writes what the view has to say in the end, and lets out what was already handed over.
    async fn end(&mut self) {
        let mut text = Vec::new();
        self.view.end(clock::now(), &mut text);
        // A reader that does not read is not waited for.
        let last = async {
            self.out.write_all(&text).await?;
            self.out.flush().await
        };
        let _ = timeout(LAST_FLUSH, last).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_so_long_ago_and_all_else_is_the_servers() {
        let ago = |text: &str| {
            let then = since(text).unwrap().parse().unwrap();
            clock::now().duration_since(then).as_secs()
        };
        assert!((600..660).contains(&ago("10m")));
        assert!((7200..7260).contains(&ago(" 2h ")));
        for text in ["2026-01-01T00:00:00Z", "1a2b:77", "yesterday", "600"] {
            assert_eq!(since(text).unwrap(), text);
        }
        assert_eq!(since("99999999999999d").unwrap(), "0001-01-01T00:00:00Z");
        assert!(since("0s").is_err());
    }
}
