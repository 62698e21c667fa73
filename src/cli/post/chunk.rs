//! Groups events into requests. A request is kept in memory until it is answered, since it may have to be sent again,
//! so its size determines the memory that posting needs.
//!
//! Single events are sent as chunks of lines. An array is sent as a request of its own, so that the server accepts all
//! of it or nothing, as the author of an array expects.
//!
//! A recording contains notices of the recorded server (gaps, its end). They are not events of a fleet, and servers
//! refuse them, so they are skipped and counted.

use std::io::Read;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::pace::Pace;
use crate::cli::documents::{Document, Documents, Found, InputError};
use crate::cli::zstd;
use crate::json;

/// Maximum number of events in one request of lines.
pub(super) const MOST_EVENTS: usize = 1000;
/// Maximum number of bytes in one request of lines; a longer event is sent alone.
pub(super) const MOST_BYTES: usize = 4 << 20;

/// The Type of a server's own notices.
const NOTICE: &str = "hydrant";

/// The format of a request body.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// NDJSON.
    #[default]
    Lines,
    /// A JSON array.
    Array,
}

/// The body of one request, and the input lines of its events.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) form: Form,
    pub(super) body: Vec<u8>,
    /// For each event, its line in the input.
    pub(super) lines: Vec<u64>,
    /// The number of notices skipped before the end of this chunk.
    pub(super) notices: u64,
}

impl Chunk {
    fn array(text: String, events: &[Found]) -> Self {
        let lines = events.iter().map(|found| found.line).collect();
        Self { form: Form::Array, body: text.into_bytes(), lines, notices: 0 }
    }

    /// Splits a chunk of lines into pieces of at most `most` events, the last one first.
    pub(super) fn pieces(self, most: usize) -> Vec<Self> {
        if self.form == Form::Array || self.lines.len() <= most {
            return vec![self];
        }
        let mut events = self.body.split_inclusive(|&byte| byte == b'\n');
        let piece = |lines: &[u64]| {
            let body = events.by_ref().take(lines.len()).flatten().copied().collect();
            Self { form: Form::Lines, body, lines: lines.to_vec(), notices: 0 }
        };
        let mut pieces: Vec<Self> = self.lines.chunks(most).map(piece).collect();
        pieces.reverse();
        pieces
    }

    fn is_full(&self, next: usize) -> bool {
        self.lines.len() >= MOST_EVENTS || (!self.lines.is_empty() && self.body.len() + next > MOST_BYTES)
    }

    fn push(&mut self, found: &Found) {
        self.body.extend_from_slice(found.text.as_bytes());
        self.body.push(b'\n');
        self.lines.push(found.line);
    }
}

type Chunks = mpsc::Sender<Result<Chunk, InputError>>;

/// Reads the input, which may be compressed, to its end and sends chunks to the receiver, each event no earlier than
/// `pace` says. Blocks; returns early if the receiver is dropped.
///
/// If no more input is available and the sender is idle, events are sent at once instead of waiting for the chunk to
/// fill. So each event of a slow pipe is posted as it arrives, while a fast pipe fills chunks.
pub(super) fn send_all(input: Box<dyn Read + Send>, mut pace: Pace, chunks: &Chunks) {
    let mut documents = match zstd::plain(input) {
        Ok(input) => Documents::new(input),
        Err(error) => {
            let _ = chunks.blocking_send(Err(error.into()));
            return;
        }
    };
    let mut chunk = Chunk::default();
    loop {
        let going_on = match documents.next() {
            Ok(Some(Document::Object(found))) if is_notice(&found.text) => {
                chunk.notices += 1;
                true
            }
            Ok(Some(Document::Object(found))) => {
                wait(&found.text, &mut pace, &mut chunk, chunks)
                    && add(&found, &mut chunk, documents.is_waiting(), chunks)
            }
            Ok(Some(Document::Array { text, events, .. })) => {
                let first = events.first().map_or("", |found| &found.text);
                wait(first, &mut pace, &mut chunk, chunks)
                    && send(std::mem::take(&mut chunk), chunks)
                    && send(Chunk::array(text, &events), chunks)
            }
            Ok(None) => break,
            Err(e) => {
                // The events before the error are posted, so that posting can continue from the reported count.
                send(chunk, chunks);
                let _ = chunks.blocking_send(Err(e));
                return;
            }
        };
        if !going_on {
            return;
        }
    }
    send(chunk, chunks);
}

/// Waits until an event is due, after sending the events before it. Returns false if the receiver is gone.
fn wait(event: &str, pace: &mut Pace, chunk: &mut Chunk, chunks: &Chunks) -> bool {
    let Some(wait) = pace.wait(event, Instant::now()) else { return true };
    let going_on = send(std::mem::take(chunk), chunks);
    if going_on {
        std::thread::sleep(wait);
    }
    going_on
}

fn is_notice(event: &str) -> bool {
    let kind = json::members(event).find(|member| member.name() == "Type");
    kind.is_some_and(|kind| json::unquote(kind.value) == NOTICE)
}

/// Adds an event. Returns false if the receiver is gone.
fn add(found: &Found, chunk: &mut Chunk, is_waiting: bool, chunks: &Chunks) -> bool {
    if chunk.is_full(found.text.len()) && !send(std::mem::take(chunk), chunks) {
        return false;
    }
    chunk.push(found);
    if !is_waiting {
        return true;
    }
    match chunks.try_send(Ok(std::mem::take(chunk))) {
        Ok(()) => true,
        Err(TrySendError::Full(Ok(kept))) => {
            *chunk = kept;
            true
        }
        Err(_) => false,
    }
}

/// Sends a chunk unless it is empty. Returns false if the receiver is gone.
fn send(chunk: Chunk, chunks: &Chunks) -> bool {
    (chunk.lines.is_empty() && chunk.notices == 0) || chunks.blocking_send(Ok(chunk)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::pace::Speed;
    use super::*;

    fn chunks(text: String) -> Vec<Result<Chunk, InputError>> {
        let (sender, mut receiver) = mpsc::channel(1);
        let reader = std::thread::spawn(move || {
            send_all(Box::new(std::io::Cursor::new(text)), Pace::new(Speed::Max), &sender);
        });
        let all = std::iter::from_fn(|| receiver.blocking_recv()).collect();
        reader.join().unwrap();
        all
    }

    #[test]
    fn chunks_are_bounded_by_events_and_keep_their_lines() {
        let all = chunks("{}\n\n".repeat(2 * MOST_EVENTS + 1));
        let chunks: Vec<Chunk> = all.into_iter().map(Result::unwrap).collect();
        assert!(chunks.iter().all(|chunk| chunk.lines.len() <= MOST_EVENTS));
        let lines: Vec<u64> = chunks.iter().flat_map(|chunk| chunk.lines.clone()).collect();
        let expected: Vec<u64> = (0..=2 * MOST_EVENTS as u64).map(|n| 2 * n + 1).collect();
        assert_eq!(lines, expected);
        assert_eq!(chunks.iter().map(|chunk| chunk.body.len()).sum::<usize>(), 3 * lines.len());
    }

    #[test]
    fn chunks_are_bounded_by_bytes() {
        let long = format!("{{\"a\":\"{}\"}}\n", "x".repeat(MOST_BYTES / 2));
        let longer = format!("{{\"a\":\"{}\"}}\n", "x".repeat(MOST_BYTES));
        let sizes: Vec<usize> =
            chunks(format!("{long}{longer}{long}{long}")).into_iter().map(|chunk| chunk.unwrap().lines.len()).collect();
        assert_eq!(sizes, [1, 1, 1, 1]);
    }

    #[test]
    fn an_array_is_a_chunk_of_its_own() {
        let array = format!("[{}{{}}\n]", "{},\n".repeat(3 * MOST_EVENTS));
        let all: Vec<Chunk> = chunks(format!("{{}}\n{array}\n{{}}")).into_iter().map(Result::unwrap).collect();
        let forms: Vec<(Form, usize)> = all.iter().map(|chunk| (chunk.form, chunk.lines.len())).collect();
        assert_eq!(forms, [(Form::Lines, 1), (Form::Array, 3 * MOST_EVENTS + 1), (Form::Lines, 1)]);
        assert_eq!((all[1].body.as_slice(), &all[1].lines[..3]), (array.as_bytes(), &[2, 3, 4][..]));
    }

    #[test]
    fn what_is_in_front_of_a_mistake_is_handed_over() {
        let all = chunks("{}\n{}\nx\n{}\n".to_owned());
        let events: usize = all.iter().flatten().map(|chunk| chunk.lines.len()).sum();
        assert_eq!(events, 2);
        assert!(matches!(all.last(), Some(Err(InputError::Json { line: 3, .. }))));
    }
}
