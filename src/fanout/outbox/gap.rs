//! The notice `hydrant.gap.queue`, sent in place of events that were dropped.
//!
//! It contains their number and the times of the first and the last. While it is queued it may absorb more; its text is
//! generated when the connection is written to.

use jiff::Timestamp;
use smallvec::SmallVec;

use crate::event::{Draft, Event};
use crate::protocol::gap::{GAP, HYDRANT, QUEUE};
use crate::websocket::frame::Encoding;

/// The time of an event as its producer wrote it.
pub(super) type Time = SmallVec<[u8; 36]>;

/// Events dropped in sequence.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) events: u64,
    pub(super) first: Time,
    pub(super) last: Time,
}

impl Lost {
    /// A single event of this time.
    pub(super) fn one(time: Time) -> Self {
        Self { events: 1, first: time.clone(), last: time }
    }
}

/// A number of events dropped in sequence.
#[derive(Debug)]
pub struct Gap {
    count: u64,
    first: Time,
    last: Time,
    encoding: Encoding,
    /// The notice as last written; `None` if it has to be written again.
    written: Option<Event>,
}

impl Gap {
    /// Creates a gap for a connection of this encoding.
    pub(super) fn new(lost: Lost, encoding: Encoding) -> Self {
        let Lost { events, first, last } = lost;
        Self { count: events, first, last, encoding, written: None }
    }

    /// Adds the next events.
    pub(super) fn add(&mut self, lost: Lost) {
        self.count += lost.events;
        self.last = lost.last;
        self.written = None;
    }

    /// Writes the notice, unless it is up to date.
    pub(super) fn write(&mut self) {
        if self.written.is_some() {
            return;
        }
        let text = |time: &Time| String::from_utf8_lossy(time).into_owned();
        let (count, first, last) = (self.count, text(&self.first), text(&self.last));
        // Times are RFC 3339, so nothing in them needs an escape.
        let object = format!(r#"{{"From":"{first}","To":"{last}","Events":{count}}}"#);
        let mut draft = Draft::new(HYDRANT, GAP, QUEUE);
        draft.time = Some(last.into());
        draft.object = &object;
        self.written = Some(draft.seal_for_one(Timestamp::UNIX_EPOCH));
    }

    /// Returns the bytes of the frame; empty until the notice is written.
    pub(super) fn bytes(&self) -> &[u8] {
        self.written.as_ref().map_or(&[], |event| event.frame_in(self.encoding))
    }
}
