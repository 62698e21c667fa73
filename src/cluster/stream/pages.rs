//! Reading a stream, a page at a time: "batched direct gets" of the NATS server (ADR-31 of NATS, servers from 2.11 on).
//!
//! A request names a place or a time and how much is wanted; the answers are the stored messages, with headers that
//! tell where each stands, and an end that tells how many more there are. The server keeps nothing between two pages.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;
use tokio::time::timeout;

use crate::cluster::nats::headers;
use crate::cluster::nats::op::Message;
use crate::cluster::nats::requests::{AwayError, Requests};

/// Bytes of a page; one message always fits.
const BYTES: usize = 256 << 10;

/// For one answer to come.
const ANSWER: Duration = Duration::from_secs(3);

/// What the server says at the end of a page, and where nothing is.
const END: u16 = 204;
const NOT_FOUND: u16 = 404;

/// Why a page cannot be read.
#[derive(Debug, Clone, Error)]
pub(super) enum PageError {
    /// The request did not leave.
    #[error(transparent)]
    Away(#[from] AwayError),
    /// No answer.
    #[error("the NATS server does not answer")]
    Silent,
    /// The server says no.
    #[error("the NATS server refuses: {0} {1}")]
    Refused(u16, String),
    /// How the stream is.
    #[error("the stream cannot be looked at: {0}")]
    Stream(String),
    /// Not what was asked for.
    #[error("the NATS server answers without {0}")]
    Malformed(&'static str),
}

/// Where a page begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    /// With the first message that was stored then or later.
    Time(Timestamp),
    /// With this message or the first one behind it.
    Sequence(u64),
}

/// A message of the stream.
#[derive(Debug)]
pub(super) struct Stored {
    /// Where it stands.
    pub(super) sequence: u64,
    /// When it was stored.
    pub(super) time: Timestamp,
    /// What was published.
    pub(super) message: Message,
}

/// Messages that stand behind each other.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) messages: Vec<Stored>,
    /// How many more there were behind them.
    pub(super) pending: u64,
}

#[derive(Debug, Serialize)]
struct Request {
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    /// Makes the server go on to the next message where one was deleted.
    next_by_subj: &'static str,
    batch: u64,
    max_bytes: usize,
}

/// Reads up to `most` messages from `begin` on.
///
/// # Errors
/// [`PageError`].
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

/// The server's stands behind one that a publisher made up.
fn header<T: std::str::FromStr>(message: &Message, name: &'static str) -> Result<T, PageError> {
    headers::last(&message.headers, name).and_then(|text| text.parse().ok()).ok_or(PageError::Malformed(name))
}
