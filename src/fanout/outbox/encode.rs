//! Decides which events are worth deflating, and deflates each at most once.

use crate::event::Event;
use crate::websocket::deflate::Deflater;
use crate::websocket::frame::Encoding;

use crate::stats::Counts;

/// Decides which events are deflated for connections that negotiated compression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeflatePolicy {
    /// The compression level, from 1 (fastest) to 9.
    pub level: u32,
    /// Events with fewer bytes of JSON are sent plain.
    pub min_bytes: usize,
    /// Events with more bytes of JSON are sent plain too: the whole shard waits while an event is deflated.
    pub max_bytes: usize,
    /// Types whose events are sent plain.
    pub skip_types: Vec<String>,
}

/// Decides which events to deflate, and deflates each at most once.
#[derive(Debug)]
pub(super) struct Encoder {
    policy: DeflatePolicy,
    /// Created when it is first needed: its tables are large.
    deflater: Option<Deflater>,
}

impl Encoder {
    pub(super) fn new(policy: DeflatePolicy) -> Self {
        Self { policy, deflater: None }
    }

    /// Deflates the event if that pays and was not done before. Returns the encoding of the frame to send.
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

/// Returns whether events like this one are deflated.
pub(super) fn pays(encoder: Option<&Encoder>, event: &Event) -> bool {
    encoder.is_some_and(|encoder| encoder.pays(event))
}

/// Prepares the event's frame in the `wanted` encoding. Returns the encoding that is available.
pub(super) fn encode(encoder: &mut Option<Encoder>, counts: &mut Counts, event: &Event, wanted: Encoding) -> Encoding {
    match (wanted, encoder) {
        (Encoding::Deflate, Some(encoder)) => encoder.encode(event, counts),
        (Encoding::Plain | Encoding::Deflate, _) => Encoding::Plain,
        (Encoding::EventStream | Encoding::Lines, _) => wanted,
    }
}
