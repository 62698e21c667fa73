//! Messages between nodes: an event's JSON as the payload, its place in the headers.
//!
//! | header | what |
//! |---|---|
//! | `Hydrant-Node` | the run of the node that took the event in: 16 hexadecimal digits |
//! | `Hydrant-Sequence` | the event's number among those that the node passed on; in a heartbeat, the next one's |
//! | `Hydrant-RepeatIndex` | for events of a DRP endpoint that other nodes may follow too: the how many-th time it sent these bytes |
//! | `Hydrant-State` | only in heartbeats: `up`, or `down` for the last one |
//!
//! The payload is the wire form of the event, so Time, Principal and both objects arrive byte for byte. It is read as
//! strictly as a post: whoever may publish on the subject is not necessarily a hydrant.

use std::num::NonZero;

use async_nats::{HeaderMap, HeaderValue, Message};
use jiff::Timestamp;
use thiserror::Error;

use super::peers::NodeId;
use crate::broker::dedup::RepeatIndex;
use crate::event::{Draft, Event, EventError};
use crate::json::{JsonError, Validator};

const NODE: &str = "Hydrant-Node";
const SEQUENCE: &str = "Hydrant-Sequence";
const OCCURRENCE: &str = "Hydrant-RepeatIndex";
const STATE: &str = "Hydrant-State";

/// Numbers stay below this, so that the next one and sums of a few always exist. Nobody counts so far; who writes a larger one is no
/// hydrant.
const NUMBERS: u64 = 1 << 62;

/// Why a message is not one of ours.
#[derive(Debug, Error)]
pub(super) enum WireError {
    /// A header is missing or not what it should be.
    #[error("no usable header {0}")]
    Header(&'static str),
    /// The payload is larger than an event may be.
    #[error("an event of {0} bytes")]
    TooLarge(usize),
    /// The payload is not JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The payload is not an event.
    #[error(transparent)]
    Event(#[from] EventError),
}

/// What a heartbeat says of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It goes on.
    Up,
    /// It ends in good order.
    Down,
}

/// Where a message comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodePosition {
    /// The run of a node.
    pub(super) node: NodeId,
    /// The event's number there, or the next one's.
    pub(super) number: u64,
}

/// What a message is.
#[derive(Debug)]
pub(super) enum Kind {
    /// An event.
    Event {
        /// Which one it is, if others may take it in themselves.
        repeat_index: Option<RepeatIndex>,
    },
    /// A sign of life.
    Heartbeat(State),
}

/// The headers of an event.
pub(super) fn event_headers(position: NodePosition, repeat_index: Option<RepeatIndex>) -> HeaderMap {
    let mut headers = headers(position);
    if let Some(repeat_index) = repeat_index {
        headers.insert(OCCURRENCE, repeat_index.to_string().as_str());
    }
    headers
}

/// The headers of a heartbeat.
pub(super) fn heartbeat_headers(position: NodePosition, state: State) -> HeaderMap {
    let mut headers = headers(position);
    headers.insert(STATE, if state == State::Up { "up" } else { "down" });
    headers
}

fn headers(position: NodePosition) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NODE, format!("{:016x}", position.node).as_str());
    headers.insert(SEQUENCE, position.number.to_string().as_str());
    headers
}

/// Reads the headers of a message.
///
/// # Errors
/// [`WireError::Header`].
pub(super) fn read(message: &Message) -> Result<(NodePosition, Kind), WireError> {
    let header = |name| message.headers.as_ref().and_then(|headers| headers.get(name)).map(HeaderValue::as_str);
    let node = header(NODE).and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or(WireError::Header(NODE))?;
    let number = header(SEQUENCE).and_then(|text| text.parse().ok()).filter(|number| *number < NUMBERS);
    let number = number.ok_or(WireError::Header(SEQUENCE))?;
    let kind = match header(STATE) {
        None => {
            // They count from one.
            let read = |text: &str| text.parse::<NonZero<RepeatIndex>>().map_err(|_| WireError::Header(OCCURRENCE));
            Kind::Event { repeat_index: header(OCCURRENCE).map(read).transpose()?.map(NonZero::get) }
        }
        Some("up") => Kind::Heartbeat(State::Up),
        Some("down") => Kind::Heartbeat(State::Down),
        Some(_) => return Err(WireError::Header(STATE)),
    };
    Ok((NodePosition { node, number }, kind))
}

/// Reads the event of a message.
///
/// # Errors
/// [`WireError`] if the payload is not an event of at most `longest` bytes.
pub(super) fn read_event(message: &Message, longest: usize, now: Timestamp) -> Result<Event, WireError> {
    read_draft(message, longest, |draft| draft.seal(now))
}

/// Reads the event of a message for one client that comes back; it was counted when it was taken in.
///
/// # Errors
/// As [`read_event`].
pub(super) fn read_replayed(message: &Message, longest: usize, now: Timestamp) -> Result<Event, WireError> {
    read_draft(message, longest, |draft| draft.seal_for_one(now))
}

fn read_draft(message: &Message, longest: usize, seal: impl Fn(&Draft<'_>) -> Event) -> Result<Event, WireError> {
    if message.payload.len() > longest {
        return Err(WireError::TooLarge(message.payload.len()));
    }
    Validator::lend(|validator| Ok(seal(&Draft::of(&validator.read(&message.payload)?)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: HeaderMap) -> Message {
        Message {
            subject: "a".into(),
            reply: None,
            payload: bytes::Bytes::new(),
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        }
    }

    fn read_back(number: u64, repeat_index: Option<RepeatIndex>) -> Option<(NodePosition, Option<RepeatIndex>)> {
        match read(&message(event_headers(NodePosition { node: 7, number }, repeat_index))) {
            Ok((position, Kind::Event { repeat_index })) => Some((position, repeat_index)),
            _ => None,
        }
    }

    #[test]
    fn headers_come_back() {
        assert_eq!(read_back(3, Some(2)), Some((NodePosition { node: 7, number: 3 }, Some(2))));
        assert_eq!(read_back(NUMBERS - 1, None), Some((NodePosition { node: 7, number: NUMBERS - 1 }, None)));
    }

    #[test]
    fn numbers_that_nobody_counts_to_are_refused() {
        for number in [NUMBERS, u64::MAX - 1, u64::MAX] {
            assert_eq!(read_back(number, None), None);
            assert!(read(&message(heartbeat_headers(NodePosition { node: 7, number }, State::Up))).is_err());
        }
        assert_eq!(read_back(3, Some(0)), None, "repeat_indexes count from one");
    }
}
