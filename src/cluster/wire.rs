//! The messages between nodes: the payload is an event's JSON, and the headers give its position.
//!
//! | header | what |
//! |---|---|
//! | `Hydrant-Node` | the run of the node that took the event in: 16 hexadecimal digits |
//! | `Hydrant-Sequence` | the event's number among those that the node passed on; in a heartbeat, the next one's |
//! | `Hydrant-RepeatIndex` | for events of a DRP endpoint: how many times it has sent the same bytes |
//! | `Hydrant-After` | for such events: `NODE:NUMBER,...`; NODE's events before NUMBER come first ([`super::order`]) |
//! | `Hydrant-State` | only in heartbeats: `up`, or `down` for the last one |
//! | `Hydrant-Greets` | only in heartbeats: the number does not count, and an answer is wanted |
//! | `Hydrant-Idle` | only in heartbeats: milliseconds since the node's last event |
//! | `Hydrant-Ahead` | only in heartbeats: by how many milliseconds producers' clocks were ahead, once known |
//!
//! The payload is the wire form of the event, so Time, Principal and both objects arrive byte for byte. It is validated
//! as strictly as what an endpoint sends, since not everyone who may publish on the subject is a hydrant node; and not
//! more strictly, since a node passes on what its endpoints send.

use std::num::NonZero;
use std::time::Duration;

use jiff::Timestamp;
use smallvec::{SmallVec, smallvec};
use thiserror::Error;

use super::nats::headers::{block, first};
use super::nats::op::Message;
use super::order::After;
use super::peers::NodeId;
use crate::broker::dedup::RepeatIndex;
use crate::event::{Draft, ENDPOINT, Event, EventError};
use crate::json::{JsonError, Validator};

const NODE: &str = "Hydrant-Node";
const SEQUENCE: &str = "Hydrant-Sequence";
const OCCURRENCE: &str = "Hydrant-RepeatIndex";
const AFTER: &str = "Hydrant-After";
const STATE: &str = "Hydrant-State";
const GREETS: &str = "Hydrant-Greets";
const AHEAD: &str = "Hydrant-Ahead";
const IDLE: &str = "Hydrant-Idle";

/// Maximum number of nodes in a `Hydrant-After` header.
const FOLLOWERS: usize = 16;

/// Upper bound of numbers, so that the next one and small sums never overflow. No node counts that far: a larger number
/// was not sent by hydrant.
const NUMBERS: u64 = 1 << 62;

/// Why a message is not a valid message of a node.
#[derive(Debug, Error)]
pub(super) enum WireError {
    /// A header is missing or invalid.
    #[error("the header {0} is missing or not valid")]
    Header(&'static str),
    /// The payload is longer than an event may be, in bytes.
    #[error("an event of {0} bytes is too long")]
    TooLarge(usize),
    /// The payload is not JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The payload is not an event.
    #[error(transparent)]
    Event(#[from] EventError),
}

/// The state of a node in its heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The node is running.
    Up,
    /// The node is ending properly.
    Down,
}

/// A heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beat {
    pub(super) state: State,
    /// Whether the node has just connected: its number does not count, and it asks the others for heartbeats.
    pub(super) greets: bool,
    /// Time since the node's last event.
    pub(super) idle: Duration,
    /// How far producers' clocks were ahead recently, if known.
    pub(super) ahead: Option<Duration>,
}

/// The position of a message in the sequence of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodePosition {
    /// The run of the node.
    pub(super) node: NodeId,
    /// The number of the event; in a heartbeat, that of the next one.
    pub(super) number: u64,
}

/// The kind of a message.
#[derive(Debug)]
pub(super) enum Kind {
    /// An event.
    Event {
        /// Which repetition of an endpoint's event it is, if other nodes may accept the same event themselves.
        repeat_index: Option<RepeatIndex>,
        /// The events of other nodes that its node had before it.
        after: After,
    },
    /// A heartbeat.
    Heartbeat(Beat),
}

/// Returns the headers of an event.
pub(super) fn event_headers(
    position: NodePosition,
    repeat_index: Option<RepeatIndex>,
    after: &[(NodeId, u64)],
) -> String {
    let (node, number) = texts(position);
    let repeat_index = repeat_index.map(|repeat_index| repeat_index.to_string());
    let after: Vec<String> = after.iter().map(|(node, number)| format!("{node:016x}:{number}")).collect();
    let after = after.join(",");
    let mut fields: SmallVec<[(&str, &str); 4]> = smallvec![(NODE, node.as_str()), (SEQUENCE, number.as_str())];
    fields.extend(repeat_index.as_deref().map(|repeat_index| (OCCURRENCE, repeat_index)));
    fields.extend((!after.is_empty()).then_some((AFTER, after.as_str())));
    block(&fields)
}

/// Returns the headers of a heartbeat.
pub(super) fn heartbeat_headers(position: NodePosition, beat: Beat) -> String {
    let (node, number) = texts(position);
    let idle = beat.idle.as_millis().to_string();
    let state = if beat.state == State::Up { "up" } else { "down" };
    let ahead = beat.ahead.map(|ahead| ahead.as_millis().to_string());
    let fields = [(NODE, node.as_str()), (SEQUENCE, number.as_str()), (STATE, state), (IDLE, idle.as_str())];
    let mut fields: SmallVec<[(&str, &str); 6]> = fields.into_iter().collect();
    fields.extend(ahead.as_deref().map(|ahead| (AHEAD, ahead)));
    fields.extend(beat.greets.then_some((GREETS, "1")));
    block(&fields)
}

fn texts(position: NodePosition) -> (String, String) {
    (format!("{:016x}", position.node), position.number.to_string())
}

/// Parses the headers of a message.
///
/// # Errors
/// [`WireError::Header`] if a header is missing or invalid.
pub(super) fn read(message: &Message) -> Result<(NodePosition, Kind), WireError> {
    let header = |name| first(&message.headers, name);
    let node = header(NODE).and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or(WireError::Header(NODE))?;
    let number = header(SEQUENCE).and_then(|text| text.parse().ok()).filter(|number| *number < NUMBERS);
    let number = number.ok_or(WireError::Header(SEQUENCE))?;
    let beat = |state| Kind::Heartbeat(read_beat(message, state));
    let kind = match header(STATE) {
        None => {
            // Repeat indexes count from one.
            let read = |text: &str| text.parse::<NonZero<RepeatIndex>>().map_err(|_| WireError::Header(OCCURRENCE));
            let repeat_index = header(OCCURRENCE).map(read).transpose()?.map(NonZero::get);
            let after = header(AFTER).map(read_after).transpose()?.unwrap_or_default();
            Kind::Event { repeat_index, after }
        }
        Some("up") => beat(State::Up),
        Some("down") => beat(State::Down),
        Some(_) => return Err(WireError::Header(STATE)),
    };
    Ok((NodePosition { node, number }, kind))
}

fn read_beat(message: &Message, state: State) -> Beat {
    let header = |name| first(&message.headers, name);
    let span = |name| header(name).and_then(|text| text.parse().ok()).map(Duration::from_millis);
    Beat { state, greets: header(GREETS).is_some(), idle: span(IDLE).unwrap_or_default(), ahead: span(AHEAD) }
}

fn read_after(text: &str) -> Result<After, WireError> {
    let one = |text: &str| {
        let (node, number) = text.split_once(':')?;
        Some((NodeId::from_str_radix(node, 16).ok()?, number.parse().ok().filter(|number| *number < NUMBERS)?))
    };
    let all = text.split(',').take(FOLLOWERS).map(one);
    all.collect::<Option<After>>().ok_or(WireError::Header(AFTER))
}

/// Parses the event in a message.
///
/// # Errors
/// [`WireError`] if the payload is not an event of at most `longest` bytes.
pub(super) fn read_event(message: &Message, longest: usize, now: Timestamp) -> Result<Event, WireError> {
    read_draft(message, longest, |draft| draft.seal(now))
}

/// Like [`read_event`], for a replay to one client: the event was counted when it was first received.
///
/// # Errors
/// As for [`read_event`].
pub(super) fn read_replayed(message: &Message, longest: usize, now: Timestamp) -> Result<Event, WireError> {
    read_draft(message, longest, |draft| draft.seal_for_one(now))
}

fn read_draft(message: &Message, longest: usize, seal: impl Fn(&Draft<'_>) -> Event) -> Result<Event, WireError> {
    if message.payload.len() > longest {
        return Err(WireError::TooLarge(message.payload.len()));
    }
    let store = if first(&message.headers, OCCURRENCE).is_some() { ENDPOINT } else { "" };
    Validator::lend(|validator| {
        let draft = Draft::of(&validator.read(&message.payload)?)?;
        Ok(seal(&Draft { store, ..draft }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Beat = Beat {
        state: State::Up,
        greets: false,
        idle: Duration::from_millis(1500),
        ahead: Some(Duration::from_secs(3)),
    };

    fn message(headers: impl Into<bytes::Bytes>) -> Message {
        Message { sid: 1, subject: "a".into(), headers: headers.into(), payload: bytes::Bytes::new() }
    }

    fn read_back(number: u64, repeat_index: Option<RepeatIndex>) -> Option<(NodePosition, Option<RepeatIndex>)> {
        let after = vec![(8, number), (9, 0)];
        match read(&message(event_headers(NodePosition { node: 7, number }, repeat_index, &after))) {
            Ok((position, Kind::Event { repeat_index, after: read })) if read == after => {
                Some((position, repeat_index))
            }
            _ => None,
        }
    }

    /// As another node has received it from an endpoint.
    #[test]
    fn an_event_comes_back_whatever_its_names_are() {
        for (kind, action, key) in [("machines", "update", "k"), ("alarm", "", "k"), ("", "b", ""), ("", "", "")] {
            let sent = Draft::new(kind, action, key).seal(Timestamp::UNIX_EPOCH);
            let headers = event_headers(NodePosition { node: 7, number: 3 }, Some(1), &[]);
            let payload = bytes::Bytes::copy_from_slice(sent.json().as_bytes());
            let message = Message { payload, ..message(headers) };
            for read in [read_event, read_replayed] {
                assert_eq!(read(&message, 1000, Timestamp::UNIX_EPOCH).unwrap().json(), sent.json());
            }
        }
    }

    #[test]
    fn headers_come_back() {
        assert_eq!(read_back(3, Some(2)), Some((NodePosition { node: 7, number: 3 }, Some(2))));
        assert_eq!(read_back(NUMBERS - 1, None), Some((NodePosition { node: 7, number: NUMBERS - 1 }, None)));
        for beat in [UP, Beat { state: State::Down, greets: true, ahead: None, ..UP }] {
            let read = read(&message(heartbeat_headers(NodePosition { node: 7, number: 3 }, beat))).unwrap();
            assert!(matches!(read.1, Kind::Heartbeat(other) if other == beat), "{read:?}");
        }
    }

    #[test]
    fn numbers_that_nobody_counts_to_are_refused() {
        for number in [NUMBERS, u64::MAX - 1, u64::MAX] {
            assert_eq!(read_back(number, None), None);
            assert!(read(&message(heartbeat_headers(NodePosition { node: 7, number }, UP))).is_err());
        }
        assert_eq!(read_back(3, Some(0)), None, "repeat_indexes count from one");
    }

    #[test]
    fn a_header_that_is_no_text_costs_a_message_only_if_it_is_one_of_ours() {
        let good = "NATS/1.0\r\nHydrant-Node: 07\r\nHydrant-Sequence: 3\r\n";
        let with = |more: &[u8]| message([good.as_bytes(), more, b"\r\n"].concat());
        assert!(read(&with(b"X-Trace: \xff\xfe\r\n")).is_ok());
        assert!(read(&with(b"Hydrant-State: \xff\r\n")).is_ok(), "as if it had none");
        assert!(read(&message(&b"NATS/1.0\r\nHydrant-Node: \xff\r\nHydrant-Sequence: 3\r\n\r\n"[..])).is_err());
    }
}
