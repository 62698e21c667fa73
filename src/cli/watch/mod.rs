//! `hydrant watch SPEC...`: events on standard output as they happen.
//!
//! Events that are there together are written together, then flushed: a pipe sees each as soon as it is there, and a
//! storm does not cost a system call for each. When the connection is lost, the next is tried with full jitter. It asks
//! for what was missed, from the time of the last event on; where the server keeps nothing, standard error says that
//! events are missing. What trying again cannot mend (a refused registration, wrong credentials) ends the command; so
//! does everything with `--no-retry`. A server that says when to come back is obeyed. What is not an event goes to
//! standard error: connections, and what the server finds odd about registrations.

mod pretty;
mod resume;

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use thiserror::Error;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use super::console::report;
use super::endpoint::{self, EndpointError};
use crate::auth::{TtlError, parse_ttl};
use crate::client::{Backoff, Bounds, ClientError, Received, Registered, Session, Target, jitter};
use crate::{clock, json};
use resume::Resume;

/// So much is written at once before a look at what else has come.
const BATCH_BYTES: usize = 256 * 1024;
/// A connection that lived so long was a good one: the waiting starts anew.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// What was already handed to standard output when Ctrl-C came gets so long to leave.
const LAST_FLUSH: Duration = Duration::from_secs(1);

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
    /// Indent each event over several lines
    #[arg(long)]
    pretty: bool,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so long: 30, 30s, 5m, 2h. With --count it is a failure (1) if fewer events have come
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    timeout: Option<Duration>,
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
fn since(text: &str) -> Result<String, TtlError> {
    let text = text.trim();
    let is_span = text.strip_suffix(['s', 'm', 'h', 'd', 'w']).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    if !is_span {
        return Ok(text.to_owned());
    }
    let ago = parse_ttl(text)?;
    Ok(clock::now().checked_sub(ago).map_or_else(|_| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string()))
}

pub(super) fn run(args: &WatchArgs, err: &mut dyn Write) -> Result<(), WatchError> {
    let target = args.endpoint.target()?;
    let runtime = endpoint::runtime()?;
    let result = runtime.block_on(async {
        let mut watch = Watch {
            args,
            target,
            left: args.count,
            connected: false,
            session: None,
            resume: Resume::new(args.since.clone()),
            out: tokio::io::stdout(),
        };
        let mut hangup = signal(SignalKind::terminate())?;
        let result = tokio::select! {
            result = watch.until_done(err) => result,
            after = elapsed(args.timeout) => Err(WatchError::Late { wanted: 0, left: 0, after }),
            result = tokio::signal::ctrl_c() => Ok(result?),
            _ = hangup.recv() => Ok(()),
        };
        watch.end().await;
        match result {
            Err(WatchError::Late { after, .. }) => watch.late(after),
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

struct Watch<'a, W> {
    args: &'a WatchArgs,
    target: Target,
    /// Whether there has been a connection before.
    connected: bool,
    /// Events still to be printed; nothing means no limit.
    left: Option<u64>,
    session: Option<Session>,
    resume: Resume,
    out: W,
}

impl<W: AsyncWrite + Unpin> Watch<'_, W> {
    /// Watches over as many connections as it takes.
    async fn until_done(&mut self, err: &mut dyn Write) -> Result<(), WatchError> {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let error = match self.one_connection(err).await {
                Err(WatchError::Client(error)) if !self.args.no_retry && !error.is_final() => error,
                done => return done,
            };
            self.connected |= self.session.take().is_some();
            self.resume.reconnect();
            if started.elapsed() >= GOOD_AFTER {
                backoff.reset();
            }
            // Not everybody who was told the same time comes back at the same moment.
            let told = error.retry_after().map(|told| told + jitter(told / 10));
            let wait = backoff.next_wait().max(told.unwrap_or_default());
            report(err, format_args!("{error}; trying again in {:.1} s", wait.as_secs_f64()));
            sleep(wait).await;
        }
    }

    /// Watches until the connection ends, which is an error, or the count is reached.
    async fn one_connection(&mut self, err: &mut dyn Write) -> Result<(), WatchError> {
        let specs = &self.args.specs;
        let opened = Session::open_for(&self.target, Bounds::default(), self.resume.since(), specs).await?;
        let resumes = self.resume.opened(opened.header("X-Hydrant-Sequence"));
        self.session = Some(opened);
        let mut unanswered = self.args.specs.len();
        loop {
            let mut text = Vec::new();
            let mut next = Ok(Some(self.session()?.receive().await?));
            while let Ok(Some(received)) = next {
                match received {
                    Received::Event(event) if self.resume.is_known(&event) => {}
                    Received::Event(event) => self.append(&event, &mut text),
                    Received::Skipped { bytes } => {
                        report(err, format_args!("warning: an event of {bytes} bytes was left out: it is too long"));
                    }
                    Received::Registered(registered) => {
                        unanswered -= 1;
                        self.resume.answered(unanswered);
                        self.registered(&registered, unanswered, resumes, err);
                    }
                }
                let full = self.left == Some(0) || text.len() >= BATCH_BYTES;
                next = if full { Ok(None) } else { self.session()?.receive_ready() };
            }
            self.out.write_all(&text).await?;
            self.out.flush().await?;
            if self.left == Some(0) {
                return Ok(());
            }
            next?;
        }
    }

    /// Tells what the server finds odd, and that the connection is there when nothing is left to answer.
    fn registered(&self, registered: &Registered, unanswered: usize, resumes: bool, err: &mut dyn Write) {
        for warning in &registered.warnings {
            report(err, format_args!("warning: `{}`: {warning}", registered.spec));
        }
        if unanswered > 0 {
            return;
        }
        let (again, missing) = match (self.connected, resumes) {
            (false, _) => ("", ""),
            (true, true) => (" again", ""),
            (true, false) => (" again", "; events in between are missing"),
        };
        let count = self.args.specs.len();
        let registrations = if count == 1 { "registration" } else { "registrations" };
        report(err, format_args!("connected{again}, {count} {registrations}{missing}"));
    }

    /// The time is over: fine, unless more events were wanted.
    fn late(&self, after: Duration) -> Result<(), WatchError> {
        match (self.args.count, self.left) {
            (Some(wanted), Some(left)) if left > 0 => Err(WatchError::Late { wanted, left, after }),
            _ => Ok(()),
        }
    }

    fn session(&mut self) -> Result<&mut Session, ClientError> {
        let none = || ClientError::Closed { code: 1006, reason: String::new() };
        self.session.as_mut().ok_or_else(none)
    }

    fn append(&mut self, event: &str, text: &mut Vec<u8>) {
        if self.args.pretty {
            pretty::indent(event, text);
        } else {
            // Hydrant sends compact JSON, but any server may be watched.
            json::compact(event, text);
        }
        text.push(b'\n');
        self.left = self.left.map(|left| left - 1);
    }

    /// Takes leave of the server, and lets out what was already handed over.
    async fn end(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
        // A reader that does not read is not waited for.
        let _ = timeout(LAST_FLUSH, self.out.flush()).await;
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
