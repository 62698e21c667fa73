//! Reading a stream, a page at a time: "batched direct gets" of the NATS server (ADR-31 of NATS, servers from 2.11 on).
//!
//! A request names a place or a time and how much is wanted; the answers are the stored messages, with headers that tell where each stands,
//! and an end that tells how many more there are. The server keeps nothing between two pages. The client library does not know
//! these requests, so they are written here.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, StatusCode};
use futures_util::StreamExt;
use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;
use tokio::time::timeout;

/// Messages of a page.
const MESSAGES: usize = 256;

/// What the client library must be able to hold of one page, its end included.
pub(in crate::cluster) const ANSWERS: usize = 2 * MESSAGES;

/// Bytes of a page; one message always fits.
const BYTES: usize = 256 << 10;

/// For one answer to come.
const ANSWER: Duration = Duration::from_secs(3);

/// What the server says at the end of a page.
const END: u16 = 204;

/// Why a page cannot be read.
#[derive(Debug, Error)]
pub(super) enum PageError {
    /// The request did not leave.
    #[error("NATS is away: {0}")]
    Away(String),
    /// No answer.
    #[error("the NATS server does not answer")]
    Silent,
    /// The server says no.
    #[error("the NATS server refuses: {0} {1}")]
    Refused(StatusCode, String),
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
    batch: usize,
    max_bytes: usize,
}

/// Reads the messages from `begin` on.
///
/// # Errors
/// [`PageError`].
pub(super) async fn read(client: &Client, stream: &str, begin: Begin) -> Result<Read, PageError> {
    let (seq, start_time) = match begin {
        Begin::Time(time) => (None, Some(time.to_string())),
        Begin::Sequence(sequence) => (Some(sequence), None),
    };
    let request = Request { seq, start_time, next_by_subj: ">", batch: MESSAGES, max_bytes: BYTES };
    let request = serde_json::to_vec(&request).expect("numbers and texts are always written");
    let inbox = client.new_inbox();
    let away = |error: &dyn std::fmt::Display| PageError::Away(error.to_string());
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| away(&error))?;
    let subject = format!("$JS.API.DIRECT.GET.{stream}");
    let asking = timeout(ANSWER, client.publish_with_reply(subject, inbox, request.into())).await;
    asking.map_err(|_| PageError::Silent)?.map_err(|error| away(&error))?;
    let mut read = Read::default();
    loop {
        let answer = timeout(ANSWER, answers.next()).await.map_err(|_| PageError::Silent)?;
        let Some(message) = answer else { return Err(PageError::Silent) };
        match message.status {
            None => read.messages.push(stored(message)?),
            Some(StatusCode::NOT_FOUND) => return Ok(read),
            Some(status) if status.as_u16() == END => {
                read.pending = header(message.headers.as_ref(), "Nats-Num-Pending")?;
                return Ok(read);
            }
            Some(status) => return Err(PageError::Refused(status, message.description.unwrap_or_default())),
        }
    }
}

fn stored(message: Message) -> Result<Stored, PageError> {
    let sequence = header(message.headers.as_ref(), "Nats-Sequence")?;
    let time = header(message.headers.as_ref(), "Nats-Time-Stamp")?;
    Ok(Stored { sequence, time, message })
}

fn header<T: std::str::FromStr>(headers: Option<&HeaderMap>, name: &'static str) -> Result<T, PageError> {
    // The server's stands behind one that a publisher made up.
    let value = headers.and_then(|headers| headers.get_all(name).last());
    value.and_then(|value| value.as_str().parse().ok()).ok_or(PageError::Malformed(name))
}
