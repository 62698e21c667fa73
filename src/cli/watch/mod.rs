//! `hydrant watch SPEC...`: events on standard output as they happen.
//!
//! Events that are there together are written together, then flushed: a pipe sees each as soon as it is there, and a
//! storm does not cost a system call for each. When the connection is lost, the next is tried with full jitter. It asks for
//! what was missed, from the time of the last event on; where the server keeps nothing, standard error says that events are
//! missing. What trying again cannot mend (a refused
//! registration, wrong credentials) ends the command.

mod pretty;
mod resume;

use std::io::Write;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use super::{CliError, endpoint, runtime, tell};
use crate::client::{Backoff, Bounds, ClientError, Received, Session, Target};
use crate::json;
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
    /// Begin with the events of the past from here on: an RFC 3339 time, or EPOCH:SEQUENCE as in `hydrant`'s info
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Indent each event over several lines
    #[arg(long)]
    pretty: bool,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    endpoint: endpoint::EndpointArgs,
}

pub(super) fn run(args: &WatchArgs, err: &mut dyn Write) -> Result<(), CliError> {
    let target = args.endpoint.target()?;
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let mut watch = Watch {
            args,
            target,
            left: args.count,
            session: None,
            resume: Resume::new(args.since.clone()),
            out: tokio::io::stdout(),
        };
        let mut hangup = signal(SignalKind::terminate())?;
        let result = tokio::select! {
            result = watch.until_done(err) => result,
            result = tokio::signal::ctrl_c() => Ok(result?),
            _ = hangup.recv() => Ok(()),
        };
        watch.end().await;
        result
    });
    // A write that nobody takes may still hang in it.
    runtime.shutdown_background();
    result
}

struct Watch<'a, W> {
    args: &'a WatchArgs,
    target: Target,
    /// Events still to be printed; nothing means no limit.
    left: Option<u64>,
    session: Option<Session>,
    resume: Resume,
    out: W,
}

impl<W: AsyncWrite + Unpin> Watch<'_, W> {
    /// Watches over as many connections as it takes.
    async fn until_done(&mut self, err: &mut dyn Write) -> Result<(), CliError> {
        let mut backoff = Backoff::default();
        let mut again = false;
        loop {
            let started = Instant::now();
            let error = match self.one_connection(again, err).await {
                Err(CliError::Client(error)) if !error.is_final() => error,
                done => return done,
            };
            again |= self.session.take().is_some();
            self.resume.reconnect();
            if started.elapsed() >= GOOD_AFTER {
                backoff.reset();
            }
            let wait = backoff.next_wait();
            tell(err, format_args!("{error}; trying again in {:.1} s", wait.as_secs_f64()));
            sleep(wait).await;
        }
    }

    /// Watches until the connection ends, which is an error, or the count is reached.
    async fn one_connection(&mut self, again: bool, err: &mut dyn Write) -> Result<(), CliError> {
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
                    Received::Registered(_) => {
                        unanswered -= 1;
                        self.resume.answered(unanswered);
                        if again && unanswered == 0 {
                            let missing = if resumes { "" } else { "; events in between are missing" };
                            tell(err, format_args!("connected again{missing}"));
                        }
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
