//! Decides which events are worth deflating, and deflates each at most once.

use crate::event::Event;
use crate::websocket::deflate::Deflater;
use crate::websocket::frame::Encoding;

use crate::stats::Counts;

/// When a frame is deflated for the connections that have agreed to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeflatePolicy {
    /// Of the deflater, from 1 (fastest) to 9.
    pub level: u32,
    /// Shorter events (bytes of JSON) go out plain.
    pub min_bytes: usize,
    /// Longer ones too: everybody else on the shard waits while an event is deflated.
    pub max_bytes: usize,
    /// Types whose events go out plain.
    pub skip_types: Vec<String>,
}

/// Decides which events to deflate, and deflates each at most once.
#[derive(Debug)]
pub(super) struct Encoder {
    policy: DeflatePolicy,
    /// Made when it is first needed: its tables are large.
    deflater: Option<Deflater>,
}

impl Encoder {
    pub(super) fn new(policy: DeflatePolicy) -> Self {
        Self { policy, deflater: None }
    }

    /// Sees to the event's deflated frame. Returns the encoding in which there is a frame.
    fn encode(&mut self, event: &Event, counts: &mut Counts) -> Encoding {
        if !self.pays(event) {
            return Encoding::Plain;
        }
        event.deflate_once(|json| {
            let deflater = self.deflater.get_or_insert_with(|| Deflater::new(self.policy.level));
            let frame = deflater.frame(json.as_bytes());
            counts.deflated += 1;
            counts.deflate_input += json.len() as u64;
            counts.deflate_output += frame.as_deref().unwrap_or(json.as_bytes()).len() as u64;
            frame
        })
    }

    fn pays(&self, event: &Event) -> bool {
        let DeflatePolicy { min_bytes, max_bytes, skip_types, .. } = &self.policy;
        (*min_bytes..=*max_bytes).contains(&event.json().len()) && !skip_types.iter().any(|kind| kind == event.kind())
    }
}

/// Sees to the frame that a connection wants. Returns the encoding in which there is one.
pub(super) fn encode(encoder: &mut Option<Encoder>, counts: &mut Counts, event: &Event, wanted: Encoding) -> Encoding {
    match (wanted, encoder) {
        (Encoding::Deflate, Some(encoder)) => encoder.encode(event, counts),
        (Encoding::Plain | Encoding::Deflate, _) => Encoding::Plain,
        (Encoding::EventStream | Encoding::Lines, _) => wanted,
    }
}
