//! `hydrant post [FILE|-]`: sends events to an endpoint.
//!
//! A thread reads and checks the input, while a task posts chunk after chunk on one connection. Events keep their
//! order. An array is accepted or refused as a whole. A chunk is posted again only if the server did not accept it: it
//! said so (429, 503), or, after it had accepted earlier chunks, no connection could be made. After a connection that
//! broke the outcome is unknown, and posting again could duplicate events. The message then says which lines are in
//! doubt. So does the message when the user ends the command.
//!
//! A recording is played back at its own pace ([`pace`]), compressed or not ([`crate::cli::zstd`]). A truncated
//! recording is posted up to the point where it ends.

mod chunk;
mod error;
mod pace;

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use self::chunk::{Chunk, Form, MOST_EVENTS};
use self::error::TransferError;
use self::pace::{Pace, Speed};
use super::console::{can_draw, hint_if_typed, report};
use super::endpoint::{self, EndpointError};
use super::signals::asked_to_end;
use super::text::number_of;
use crate::client::{Backoff, ClientError, Http, RefusedError, Target};
use crate::tasks;

/// The route to which events are posted.
const PATH: &str = "/api/v3/events";
/// Number of chunks that are read ahead.
const READ_AHEAD: usize = 2;
/// Wait before a retry if the server does not say how long, and the longest wait.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// A server that has had no room, or was away, for this long is given up.
const TIMEOUT: Duration = Duration::from_mins(10);

#[derive(Args)]
#[command(after_help = endpoint::HELP)]
pub(super) struct PostArgs {
    /// Events: one JSON object per line, one or more JSON documents, or an array, optionally compressed with zstd; -
    /// reads standard input
    #[arg(default_value = "-", value_name = "FILE")]
    file: PathBuf,
    /// How fast to play a recording: 1x at the pace of the events' Time, 10x ten times as fast, max as fast as the
    /// server accepts events
    #[arg(long, value_name = "SPEED", default_value = "max")]
    speed: Speed,
    #[command(flatten)]
    pub(super) endpoint: endpoint::EndpointArgs,
}

/// The reason why not all events were posted.
#[derive(Debug, Error)]
pub(crate) enum PostError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Input(Box<TransferError>),
    #[error("{problem}; {posted}")]
    Stopped { problem: Box<TransferError>, posted: Posted },
}

impl PostError {
    /// Returns the server's refusal, if it is one.
    pub(super) fn refusal(&self) -> Option<&RefusedError> {
        let Self::Stopped { problem, .. } = self else { return None };
        match &**problem {
            TransferError::NotTaken { source: ClientError::Refused(refusal), .. }
            | TransferError::Unknown { source: ClientError::Refused(refusal), .. } => Some(refusal),
            _ => None,
        }
    }
}

/// What the server has accepted so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Posted {
    events: u64,
    /// The input line of the last accepted event.
    line: u64,
    /// The number of skipped notices of a server.
    notices: u64,
}

impl fmt::Display for Posted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { events: 0, .. } => f.write_str("no events were posted before it"),
            Self { events: 1, line, .. } => write!(f, "1 event was posted before it, up to line {line}"),
            Self { events, line, .. } => write!(f, "{events} events were posted before it, up to line {line}"),
        }
    }
}

pub(super) fn run(args: &PostArgs, err: &mut dyn Write) -> Result<(), PostError> {
    let target = args.endpoint.target()?;
    let stopped = |posted| move |problem| PostError::Stopped { problem: Box::new(problem), posted };
    let input = Input::open(&args.file).map_err(|problem| PostError::Input(Box::new(problem)))?;
    if input.is_standard {
        hint_if_typed(err);
    }
    let runtime = endpoint::runtime()?;
    let (name, bar) = (input.name.clone(), input.bar());
    let mut post = Post { target, http: None, name, bar, posted: Posted::default(), most: MOST_EVENTS, asking: None };
    let started = Instant::now();
    let result = runtime.block_on(post.until_asked_to_end(input, Pace::new(args.speed), err));
    post.bar.finish_and_clear();
    // The reading thread may be blocked on a terminal that sends nothing more.
    runtime.shutdown_background();
    result.map_err(stopped(post.posted))?;
    report_all(&post.posted, started, err);
    Ok(())
}

fn report_all(posted: &Posted, started: Instant, err: &mut dyn Write) {
    let events = number_of(posted.events, "event");
    report(err, format_args!("posted {events} in {:.1} s", started.elapsed().as_secs_f64()));
    if posted.notices > 0 {
        let notices = number_of(posted.notices, "notice");
        report(err, format_args!("skipped {notices} of a server (Type hydrant), which cannot be posted"));
    }
}

struct Input {
    name: String,
    is_standard: bool,
    bytes: Option<u64>,
    reader: Box<dyn Read + Send>,
}

impl Input {
    fn open(path: &Path) -> Result<Self, TransferError> {
        if path == Path::new("-") {
            let reader = Box::new(io::stdin());
            return Ok(Self { name: "standard input".to_owned(), is_standard: true, bytes: None, reader });
        }
        let refuse = |source| TransferError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(refuse)?;
        let about = file.metadata().map_err(refuse)?;
        if about.is_dir() {
            return Err(refuse(io::ErrorKind::IsADirectory.into()));
        }
        // A pipe has a name too, but no size.
        let bytes = about.is_file().then_some(about.len());
        Ok(Self { name: path.display().to_string(), is_standard: false, bytes, reader: Box::new(file) })
    }

    /// Returns a bar with the file's size, a spinner if the size is unknown, or nothing if standard error cannot show
    /// one.
    fn bar(&self) -> ProgressBar {
        if !can_draw() {
            return ProgressBar::hidden();
        }
        let (bar, template) = match self.bytes {
            Some(bytes) => (ProgressBar::new(bytes), "{bar:40} {bytes}/{total_bytes} {msg} {eta}"),
            None => (ProgressBar::no_length(), "{spinner} {bytes} {msg} {elapsed}"),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.with_style(ProgressStyle::with_template(template).expect("the templates are literals"))
    }
}

/// The server's answer to a request.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Taken,
    /// It has accepted none of several events: there are too many of them, or too many bytes.
    TooLarge,
}

struct Post {
    target: Target,
    http: Option<Http>,
    name: String,
    bar: ProgressBar,
    posted: Posted,
    /// The most events of one request of lines.
    most: usize,
    /// The first and the last line of a request that is not answered yet.
    asking: Option<(u64, u64)>,
}

impl Post {
    /// Posts everything, unless Ctrl-C or SIGTERM ends it before: then it says how far it has come.
    async fn until_asked_to_end(&mut self, input: Input, pace: Pace, err: &mut dyn Write) -> Result<(), TransferError> {
        let ended = asked_to_end().map_err(TransferError::Signals)?;
        tokio::select! {
            result = self.all(input, pace, err) => result,
            () = ended => Err(match self.asking {
                Some((first, last)) => TransferError::InterruptedWhile { name: self.name.clone(), first, last },
                None => TransferError::Interrupted,
            }),
        }
    }

    async fn all(&mut self, input: Input, pace: Pace, err: &mut dyn Write) -> Result<(), TransferError> {
        let (sender, mut chunks) = mpsc::channel(READ_AHEAD);
        let reader = self.bar.wrap_read(input.reader);
        tasks::spawn_blocking(move || chunk::send_all(Box::new(reader), pace, &sender));
        let started = Instant::now();
        while let Some(chunk) = chunks.recv().await {
            let chunk = chunk.map_err(|e| TransferError::Input(self.name.clone(), e))?;
            self.posted.notices += chunk.notices;
            if chunk.lines.is_empty() {
                continue;
            }
            self.in_pieces(chunk, err).await?;
            let events = self.posted.events;
            let rate = f64::from(u32::try_from(events).unwrap_or(u32::MAX)) / started.elapsed().as_secs_f64();
            self.bar.set_message(format!("{events} events, {rate:.0}/s"));
        }
        Ok(())
    }

    /// Posts a chunk, in pieces if the server accepts no more in one request: one that is too large is halved, and
    /// later chunks are split into pieces of that size from the beginning.
    async fn in_pieces(&mut self, chunk: Chunk, err: &mut dyn Write) -> Result<(), TransferError> {
        let mut pieces = vec![chunk];
        while let Some(piece) = pieces.pop() {
            // Each time, because the most that a request may have can have become less.
            pieces.extend(piece.pieces(self.most));
            let Some(Chunk { form, body, lines, .. }) = pieces.pop() else { break };
            let body = Bytes::from(body);
            if self.one(form, body.clone(), &lines, err).await? == Outcome::TooLarge {
                self.most = lines.len() / 2;
                pieces.push(Chunk { form, body: body.into(), lines, notices: 0 });
            } else {
                (self.posted.events, self.posted.line) = (self.posted.events + lines.len() as u64, ends(&lines).1);
            }
        }
        Ok(())
    }

    /// Posts a chunk or a part of one, and retries while the server has no room or is away.
    async fn one(
        &mut self,
        form: Form,
        body: Bytes,
        lines: &[u64],
        err: &mut dyn Write,
    ) -> Result<Outcome, TransferError> {
        let started = Instant::now();
        let mut backoff = Backoff::default();
        let mut told = false;
        while let Err(error) = self.once(form, body.clone(), lines).await {
            let is_divisible = form == Form::Lines && lines.len() > 1;
            if is_divisible && matches!(&error, ClientError::Refused(refusal) if refusal.status == 413) {
                return Ok(Outcome::TooLarge);
            }
            let wait = self.wait(&error, &mut backoff).filter(|_| started.elapsed() < TIMEOUT);
            let Some(wait) = wait else { return Err(self.stopped(error, form, lines)) };
            if !told {
                let shown = wait.as_secs_f64().ceil();
                self.bar.suspend(|| report(err, format_args!("{error}; retrying in {shown:.0} s")));
                told = true;
            }
            sleep(wait).await;
        }
        Ok(Outcome::Taken)
    }

    /// Returns how long to wait before a retry, if the server did not accept the chunk and one may help. A server that
    /// has accepted nothing yet may be the wrong one.
    fn wait(&self, error: &ClientError, backoff: &mut Backoff) -> Option<Duration> {
        if let ClientError::Refused(refusal) = error {
            let has_no_room = matches!(refusal.status, 429 | 503);
            return has_no_room.then(|| refusal.retry_after.unwrap_or(DEFAULT_WAIT).min(LONGEST_WAIT));
        }
        let may_help = self.posted.events > 0 && !error.is_final() && !self.is_in_doubt(error);
        may_help.then(|| backoff.next_wait())
    }

    async fn once(&mut self, form: Form, body: Bytes, lines: &[u64]) -> Result<(), ClientError> {
        let kind = match form {
            Form::Lines => "application/x-ndjson",
            Form::Array => "application/json",
        };
        let http = Http::kept(&mut self.http, &self.target).await?;
        self.asking = Some(ends(lines));
        let result = http.post(PATH, kind, body).await;
        self.asking = None;
        result
    }

    /// Returns whether the server may have accepted the chunk.
    fn is_in_doubt(&self, error: &ClientError) -> bool {
        match error {
            ClientError::Broken { .. } | ClientError::Timeout { .. } => self.http.is_some(),
            // An error of the server, or of a proxy in between, does not tell whether the events were accepted.
            ClientError::Refused(refusal) => refusal.status >= 500 && refusal.status != 503,
            _ => false,
        }
    }

    fn stopped(&self, error: ClientError, form: Form, lines: &[u64]) -> TransferError {
        match error {
            ClientError::Refused(refusal) => self.refused(refusal, form, lines),
            error => self.failed(error, lines),
        }
    }

    fn failed(&self, source: ClientError, lines: &[u64]) -> TransferError {
        let (name, (first, last)) = (self.name.clone(), ends(lines));
        if self.is_in_doubt(&source) {
            TransferError::Unknown { name, first, last, source }
        } else {
            TransferError::NotTaken { name, first, last, source }
        }
    }

    /// Converts a refusal into an error. A batch is accepted or refused as a whole, so nothing of a refused chunk was
    /// posted. If the server names a line of the chunk, the error names that line of the input; for an array it names
    /// the element.
    fn refused(&self, refusal: RefusedError, form: Form, lines: &[u64]) -> TransferError {
        let name = &self.name;
        let named = match form {
            Form::Lines => refusal.messages.iter().find_map(|message| input_line(message, lines)),
            Form::Array => {
                let message = refusal.messages.iter().find(|message| message.contains("element "));
                message.map(|message| (ends(lines).0, format!("nothing of the array was posted: {message}")))
            }
        };
        match named {
            Some((line, message)) => {
                // The message may begin with the line, too.
                let message = message.strip_prefix(&format!("line {line}: ")).unwrap_or(&message);
                TransferError::Event(format!("{name}:{line}: {message}"))
            }
            None => self.failed(ClientError::Refused(refusal), lines),
        }
    }
}

fn ends(lines: &[u64]) -> (u64, u64) {
    (lines.first().copied().unwrap_or_default(), lines.last().copied().unwrap_or_default())
}

/// Finds `line N` of a chunk in a message. Returns the line of the input, and the message with that line instead.
fn input_line(message: &str, lines: &[u64]) -> Option<(u64, String)> {
    for (at, word) in message.match_indices("line ") {
        let number = at + word.len();
        let digits = message[number..].bytes().take_while(u8::is_ascii_digit).count();
        let inside_a_word = message[..at].ends_with(|c: char| c.is_alphanumeric());
        let (before, rest) = (&message[..number], &message[number + digits..]);
        let index = message[number..number + digits].parse::<usize>().ok().and_then(|n| n.checked_sub(1));
        if let (false, Some(line)) = (inside_a_word, index.and_then(|index| lines.get(index))) {
            return Some((*line, format!("{before}{line}{rest}")));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_chunk_become_lines_of_the_file() {
        let lines = [10, 12, 40];
        for (message, expected) in [
            ("line 2: Type is missing", Some((12, "line 12: Type is missing"))),
            ("bad event at line 3", Some((40, "bad event at line 40"))),
            ("baseline 1 is off, line 1: x", Some((10, "baseline 1 is off, line 10: x"))),
            ("line 4", None),
            ("line 0", None),
            ("line x", None),
            ("line", None),
            ("line 99999999999999999999999", None),
        ] {
            let found = input_line(message, &lines);
            assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())), "{message}");
        }
    }
}
