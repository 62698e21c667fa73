//! `hydrant record FILE [SPEC...]`: writes events to a file, for `hydrant post` to play back.
//!
//! Events are written byte for byte as the server sends them, one per line. After a lost connection the recording
//! resumes right after the last event: by a stream, whose events have positions, if the server supports streams;
//! otherwise by websocket, from the time of the last event ([`Feed`]). Events that a server no longer has are reported
//! by its gap notice, which is recorded too.
//!
//! Contract: when the command is ended (Ctrl-C, SIGTERM, SIGHUP), events already received are in the file. [`sink`]
//! documents what a crash leaves.

mod error;
mod sink;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::sink::{Existing, Sink};
use super::console::{can_draw, report};
use super::endpoint;
use super::feed::{Arrival, Feed, Wanted, Way, since};
use super::signals::asked_to_end;
use super::text::number_of;
use crate::auth::parse_ttl;
use crate::json;

pub(crate) use self::error::RecordError;

/// Number of bytes after which a batch is written before more events are added.
const BATCH_BYTES: usize = 256 * 1024;
/// How often the progress is drawn, and queued events are checked.
const TICK: Duration = Duration::from_millis(250);

#[derive(Args)]
#[command(after_help = endpoint::HELP)]
pub(super) struct RecordArgs {
    /// Output file: NDJSON, one event per line; compressed if the name ends in .zst. `hydrant post` plays it back
    file: PathBuf,
    /// Registrations: type.action.key or type.action.key.filter
    #[arg(default_value = "*.*.*", value_name = "SPEC")]
    specs: Vec<String>,
    /// Start with past events from this point on: an age (10m, 2h), an RFC 3339 time, or EPOCH:SEQUENCE, a position as
    /// in the id of an event of a stream
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<String>,
    /// Append to an existing file; a partial event at its end is removed
    #[arg(long)]
    append: bool,
    /// Replace the file if it exists, as soon as the first event arrives
    #[arg(long, conflicts_with = "append")]
    force: bool,
    /// Exit after this many events; a notice that events are missing is recorded but not counted, unless it was
    /// registered for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Exit after this long: 30, 30s, 5m, 2h; with 1 if there was no connection or, with --count, if fewer events have
    /// arrived
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    timeout: Option<Duration>,
    /// Exit with 1 when there is no connection, instead of retrying
    #[arg(long)]
    no_retry: bool,
    #[command(flatten)]
    pub(super) endpoint: endpoint::EndpointArgs,
}

impl RecordArgs {
    fn existing(&self) -> Existing {
        match (self.append, self.force) {
            (true, _) => Existing::Append,
            (_, true) => Existing::Replace,
            _ => Existing::Refuse,
        }
    }
}

pub(super) fn run(args: &RecordArgs, err: &mut dyn Write) -> Result<(), RecordError> {
    let target = args.endpoint.target()?;
    let sink = open(args, err)?;
    let (specs, since) = (args.specs.clone(), args.since.clone());
    let wanted = Wanted { target, specs, since, way: Way::StreamIfThere, no_retry: args.no_retry };
    let runtime = endpoint::runtime()?;
    let bar = bar();
    let begun = Instant::now();
    let mut recording = Recording { sink, bar: bar.clone(), recorded: 0, wanted: args.count };
    let mut aside = Aside { bar: &bar, err };
    let result = runtime.block_on(recording.whole(Feed::new(wanted), args.timeout, &mut aside));
    bar.finish_and_clear();
    runtime.shutdown_background();
    result?;
    let (events, bytes) = (recording.recorded, HumanBytes(recording.sink.length()));
    let seconds = begun.elapsed().as_secs_f64();
    let file = args.file.display();
    if recording.sink.has_old() {
        report(err, format_args!("recorded nothing; {file} is as it was"));
        return Ok(());
    }
    let events = number_of(events, "event");
    report(err, format_args!("recorded {events} in {seconds:.1} s; the size of {file} is {bytes}"));
    Ok(())
}

fn open(args: &RecordArgs, err: &mut dyn Write) -> Result<Sink, RecordError> {
    let (sink, removed) = Sink::open(&args.file, args.existing())?;
    if removed > 0 {
        report(
            err,
            format_args!("{}: removed {removed} bytes of an incomplete event from its end", args.file.display()),
        );
    }
    Ok(sink)
}

struct Recording {
    sink: Sink,
    bar: ProgressBar,
    recorded: u64,
    /// The number of events after which the recording ends.
    wanted: Option<u64>,
}

impl Recording {
    /// Records until it is asked to end, or the number of events is reached.
    async fn whole(&mut self, mut feed: Feed, limit: Option<Duration>, err: &mut dyn Write) -> Result<(), RecordError> {
        let ended = asked_to_end().map_err(RecordError::Signals)?;
        let limited = async {
            match limit {
                Some(limit) => timeout(limit, self.until_done(&mut feed, err)).await.ok(),
                None => Some(self.until_done(&mut feed, err).await),
            }
        };
        let result = tokio::select! {
            result = limited => result,
            () = ended => Some(Ok(())),
        };
        let (has_connected, has_registered) = (feed.has_connected(), feed.has_registered());
        feed.close().await;
        if has_registered {
            self.sink.replace()?;
        }
        self.sink.finish()?;
        match (result, self.wanted, limit) {
            (None, _, Some(limit)) if !has_connected => Err(RecordError::Unconnected { seconds: limit.as_secs() }),
            (None, Some(wanted), Some(limit)) => {
                Err(RecordError::Late { wanted, recorded: self.recorded, seconds: limit.as_secs() })
            }
            (result, ..) => result.unwrap_or(Ok(())),
        }
    }

    async fn until_done(&mut self, feed: &mut Feed, err: &mut dyn Write) -> Result<(), RecordError> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let first = feed.next_with_ticks(err, &mut ticks, async || self.tick()).await?;
            let text = self.batch(first, feed, err);
            self.sink.replace()?;
            self.sink.write(&text, Instant::now())?;
            if self.is_enough() {
                return Ok(());
            }
        }
    }

    /// Formats an event as a line, and the following events that have already arrived.
    fn batch(&mut self, first: Arrival, feed: &mut Feed, err: &mut dyn Write) -> Vec<u8> {
        let mut text = Vec::new();
        let mut next = Some(first);
        while let Some(arrival) = next {
            json::compact(&arrival.event, &mut text);
            text.push(b'\n');
            self.recorded += u64::from(arrival.is_asked_for());
            let full = self.is_enough() || text.len() >= BATCH_BYTES;
            next = if full { None } else { feed.next_ready(err) };
        }
        text
    }

    fn is_enough(&self) -> bool {
        self.wanted.is_some_and(|wanted| self.recorded >= wanted)
    }

    fn tick(&mut self) -> Result<(), RecordError> {
        let bytes = HumanBytes(self.sink.length());
        self.bar.set_message(format!("{} events, {bytes}", self.recorded));
        self.bar.tick();
        self.sink.tick(Instant::now())
    }
}

/// Returns a progress bar on standard error, hidden if that is no terminal.
fn bar() -> ProgressBar {
    if !can_draw() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::no_length();
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.with_style(ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("the template is a literal"))
}

/// Writes messages, and keeps the progress bar out of their way.
struct Aside<'a> {
    bar: &'a ProgressBar,
    err: &'a mut dyn Write,
}

impl Write for Aside<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { bar, err } = self;
        bar.suspend(|| err.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.err.flush()
    }
}
