//! Reads a stream page by page with "batched direct gets" of the NATS server (ADR-31 of NATS, servers from 2.11 on).
//!
//! A request names a position or a time and a maximum count; the answers are the stored messages, with headers that
//! give each one's position, and a final message with the number of remaining ones. The server keeps no state between
//! two pages.
//!
//! Contract: the limits of a page are enforced here too. Whoever may subscribe to requests can also answer them, and
//! would otherwise fill the memory with a page that never ends.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;
use tokio::time::{Instant, timeout, timeout_at};

use crate::cluster::nats::headers;
use crate::cluster::nats::op::Message;
use crate::cluster::nats::requests::{Answers, AwayError, Requests};

/// Maximum size of a page in bytes; one message always fits.
const BYTES: usize = 256 << 10;

/// Size of a page in bytes from which on a further message is an error: the server need not count the headers that it
/// adds.
const MOST_BYTES: usize = 2 * BYTES;

/// Time limit for the next message of an answer, and for all of it.
const ANSWER: Duration = Duration::from_secs(3);
const WHOLE: Duration = Duration::from_secs(30);

/// Status codes of the server: the end of a page, and no message found.
const END: u16 = 204;
const NOT_FOUND: u16 = 404;

/// Why a page cannot be read.
#[derive(Debug, Clone, Error)]
pub(super) enum PageError {
    /// The request was not sent.
    #[error(transparent)]
    Away(#[from] AwayError),
    /// The server did not answer.
    #[error("the NATS server did not answer in time")]
    Silent,
    /// The server refused the request.
    #[error("the NATS server refused: {0} {1}")]
    Refused(u16, String),
    /// The stream could not be queried.
    #[error("cannot read the state of the stream: {0}")]
    Stream(String),
    /// A header is missing or invalid.
    #[error("the NATS server's answer has no {0}")]
    Malformed(&'static str),
}

/// Where a page begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    /// At the first message that was stored at this time or later.
    Time(Timestamp),
    /// At the message with this sequence number or the next one after it.
    Sequence(u64),
}

/// A message of the stream.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its sequence number.
    pub(super) sequence: u64,
    /// When it was stored.
    pub(super) time: Timestamp,
    /// The message as published.
    pub(super) message: Message,
}

/// Consecutive messages of the stream.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) messages: Vec<Stored>,
    /// The number of messages after them.
    pub(super) pending: u64,
}

#[derive(Debug, Serialize)]
struct Request {
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    /// Makes the server skip deleted messages.
    next_by_subj: &'static str,
    batch: u64,
    max_bytes: usize,
}

/// Reads up to `most` messages from `begin` on.
///
/// # Errors
/// [`PageError`] if the server does not answer, refuses, or sends an unreadable answer.
pub(super) async fn read(client: &Requests, stream: &str, begin: Begin, most: u64) -> Result<Read, PageError> {
    let asking = client.ask(format!("$JS.API.DIRECT.GET.{stream}"), request(begin, most));
    collect(timeout(ANSWER, asking).await.map_err(|_| PageError::Silent)??, most).await
}

/// Collects the messages of a page up to its end.
async fn collect(mut answers: Answers, most: u64) -> Result<Read, PageError> {
    let (mut read, mut bytes, end) = (Read::default(), 0, Instant::now() + WHOLE);
    loop {
        let until = end.min(Instant::now() + ANSWER);
        let answer = timeout_at(until, answers.recv()).await.map_err(|_| PageError::Silent)?;
        let Some(message) = answer else { return Err(PageError::Silent) };
        match headers::status(&message.headers) {
            None if read.messages.len() as u64 >= most || bytes >= MOST_BYTES => {
                return Err(PageError::Malformed("end"));
            }
            None => {
                bytes += message.len();
                read.messages.push(stored(message)?);
            }
            Some((NOT_FOUND, _)) => return Ok(read),
            Some((END, _)) => {
                read.pending = header(&message, "Nats-Num-Pending")?;
                return Ok(read);
            }
            Some((status, description)) => return Err(PageError::Refused(status, description)),
        }
    }
}

fn request(begin: Begin, most: u64) -> Bytes {
    let (seq, start_time) = match begin {
        Begin::Time(time) => (None, Some(time.to_string())),
        Begin::Sequence(sequence) => (Some(sequence), None),
    };
    let request = Request { seq, start_time, next_by_subj: ">", batch: most, max_bytes: BYTES };
    serde_json::to_vec(&request).expect("numbers and texts are always written").into()
}

fn stored(message: Message) -> Result<Stored, PageError> {
    let sequence = header(&message, "Nats-Sequence")?;
    let time = header(&message, "Nats-Time-Stamp")?;
    Ok(Stored { sequence, time, message })
}

/// Parses a header of the server: its value stands after any that a publisher made up.
fn header<T: std::str::FromStr>(message: &Message, name: &'static str) -> Result<T, PageError> {
    headers::last(&message.headers, name).and_then(|text| text.parse().ok()).ok_or(PageError::Malformed(name))
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;
    use crate::cluster::nats::requests::answers;

    fn message(headers: &str, payload: usize) -> Message {
        let headers = Bytes::from(format!("NATS/1.0{headers}\r\n\r\n"));
        Message { sid: 1, subject: Bytes::new(), headers, payload: vec![b'x'; payload].into() }
    }

    /// A page of up to 256 messages that has so many of this length, one each `pause`, or all at once without one; then
    /// its end, if it has one.
    async fn page(number: u64, payload: usize, pause: Duration, ends: bool) -> Result<Read, PageError> {
        let (replies, answers) = answers();
        let sending = tokio::spawn(async move {
            let time = "2026-01-01T00:00:00Z";
            for n in 1..=number {
                let headers = format!("\r\nNats-Sequence: {n}\r\nNats-Time-Stamp: {time}");
                if !replies.push(message(&headers, payload)) {
                    return;
                }
                if !pause.is_zero() {
                    sleep(pause).await;
                }
            }
            if ends {
                assert!(replies.push(message(" 204 EOB\r\nNats-Num-Pending: 7", 0)));
            }
            std::future::pending::<()>().await;
        });
        let read = collect(answers, 256).await;
        sending.abort();
        read
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_never_ends_is_given_up() {
        let second = Duration::from_secs(1);
        for (number, payload) in [(257, 1), (1000, 1000), (3, 1 << 20)] {
            let read = page(number, payload, Duration::from_millis(1), false).await;
            assert!(matches!(read, Err(PageError::Malformed("end"))), "{number} of {payload} bytes: {read:?}");
        }
        let begun = Instant::now();
        let read = page(256, 1, second, false).await;
        assert!(matches!(read, Err(PageError::Silent)), "{read:?}");
        assert_eq!(begun.elapsed(), WHOLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_may_have_all_that_was_asked_for() {
        for (number, payload) in [(256, 1), (1, 16 << 20), (64, BYTES / 64), (256, BYTES / 256 + 100)] {
            for pause in [Duration::from_millis(50), Duration::ZERO] {
                let read = page(number, payload, pause, true).await.unwrap();
                assert_eq!((read.messages.len() as u64, read.pending), (number, 7));
            }
        }
    }
}
