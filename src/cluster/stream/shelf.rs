//! A stream in memory, for tests of what reads it.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;

use super::api::{ApiError, Info};
use super::pages::{Begin, PageError, Read, Stored};
use super::source::Source;
use crate::broker::origin::{Origin, Trace};
use crate::clock;
use crate::cluster::nats::op::Message;
use crate::cluster::nats::requests::AwayError;
use crate::cluster::wire::{NodePosition, event_headers};

#[derive(Debug)]
struct Held {
    messages: VecDeque<(u64, Timestamp, Message)>,
    /// The sequence number of the next message.
    next: u64,
    created: Timestamp,
    is_away: bool,
}

impl Held {
    fn new() -> Self {
        Self { messages: VecDeque::new(), next: 1, created: clock::now(), is_away: false }
    }
}

/// A stream that answers at once.
#[derive(Debug)]
pub(super) struct Shelf(Mutex<Held>);

impl Shelf {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Held::new()))
    }

    /// Stores an event of a node.
    pub(super) fn put(&self, trace: Trace, json: &str, stored: Timestamp) {
        let Trace { origin: Origin { node, number }, repeat_index } = trace;
        let headers = event_headers(NodePosition { node, number }, repeat_index, &[]);
        let payload = Bytes::from(json.to_owned());
        let mut held = self.0.lock();
        let message = Message { sid: 1, subject: Bytes::new(), headers: headers.into(), payload };
        let sequence = held.next;
        held.messages.push_back((sequence, stored, message));
        held.next += 1;
    }

    /// Drops the oldest messages.
    pub(super) fn drop_oldest(&self, count: usize) {
        let messages = &mut self.0.lock().messages;
        let count = count.min(messages.len());
        messages.drain(..count);
    }

    /// Is deleted and made anew.
    pub(super) fn make_anew(&self) {
        *self.0.lock() = Held::new();
    }

    /// Cannot be reached any more.
    pub(super) fn go_away(&self) {
        self.0.lock().is_away = true;
    }

    /// The number of messages.
    pub(super) fn len(&self) -> usize {
        self.0.lock().messages.len()
    }
}

impl Source for Shelf {
    fn is_connected(&self) -> bool {
        !self.0.lock().is_away
    }

    fn read(&self, begin: Begin, most: u64) -> BoxFuture<'_, Result<Read, PageError>> {
        let held = self.0.lock();
        if held.is_away {
            return std::future::ready(Err(AwayError.into())).boxed();
        }
        let is_before = |(sequence, time, _): &&(u64, Timestamp, Message)| match begin {
            Begin::Time(begin) => *time < begin,
            Begin::Sequence(begin) => *sequence < begin,
        };
        let rest = held.messages.iter().skip_while(is_before);
        let all: Vec<Stored> = rest
            .map(|(sequence, time, message)| Stored { sequence: *sequence, time: *time, message: message.clone() })
            .collect();
        let pending = (all.len() as u64).saturating_sub(most);
        let messages = all.into_iter().take(usize::try_from(most).unwrap()).collect();
        std::future::ready(Ok(Read { messages, pending })).boxed()
    }

    fn info(&self) -> BoxFuture<'_, Result<Info, ApiError>> {
        let held = self.0.lock();
        let time = |message: Option<&(u64, Timestamp, Message)>| message.map_or(Timestamp::MIN, |(_, time, _)| *time);
        let (first, last) = (held.messages.front(), held.messages.back());
        let state = json!({
            "first_seq": first.map_or(held.next, |(sequence, ..)| *sequence), "last_seq": held.next - 1,
            "first_ts": time(first).to_string(), "last_ts": time(last).to_string(),
        });
        let config = json!({ "name": "EVENTS", "retention": "limits" });
        let info = json!({ "config": config, "created": held.created.to_string(), "state": state });
        std::future::ready(Ok(serde_json::from_value(info).unwrap())).boxed()
    }
}
