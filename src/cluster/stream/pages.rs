//! Reads a stream page by page with "batched direct gets" of the NATS server (ADR-31 of NATS, servers from 2.11 on).
//!
//! A request names a position or a time and a maximum count; the answers are the stored messages, with headers that
//! give each one's position, and a final message with the number of remaining ones. The server keeps no state between
//! two pages.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;
use tokio::time::timeout;

use crate::cluster::nats::headers;
use crate::cluster::nats::op::Message;
use crate::cluster::nats::requests::{AwayError, Requests};

/// Maximum size of a page in bytes; one message always fits.
const BYTES: usize = 256 << 10;

/// Time limit for an answer.
const ANSWER: Duration = Duration::from_secs(3);

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
    let mut answers = timeout(ANSWER, asking).await.map_err(|_| PageError::Silent)??;
    let mut read = Read::default();
    loop {
        let answer = timeout(ANSWER, answers.recv()).await.map_err(|_| PageError::Silent)?;
        let Some(message) = answer else { return Err(PageError::Silent) };
        match headers::status(&message.headers) {
            None => read.messages.push(stored(message)?),
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
