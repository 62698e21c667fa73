//! The view of an event that filters are evaluated on.

use super::table::Span;
use crate::event::Event;

/// What a filter is asked about.
#[derive(Debug, Clone, Copy)]
pub struct View<'e> {
    pub(super) text: &'e [u8],
    pub(super) plain: bool,
}

impl<'e> View<'e> {
    /// An event. Costs nothing; its text is looked at when a filter needs it.
    pub fn event(event: &'e Event) -> Self {
        // The payload of the frame, by the length of its header: asking for the text would check 12 KB for UTF-8 again.
        let frame = event.frame();
        let header = match frame.get(1) {
            Some(126) => 4,
            Some(127) => 10,
            _ => 2,
        };
        Self { text: &frame[header..], plain: false }
    }

    /// A plain object (or any value) in place of an event: compact valid JSON.
    pub fn object(json: &'e str) -> Self {
        Self { text: json.as_bytes(), plain: true }
    }

    /// Whether it is a plain object.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// The bytes at `span`.
    pub(super) fn at(&self, span: Span) -> &'e [u8] {
        span.of(self.text)
    }
}

/// Whether two values cannot be equal, by their first bytes: one is an array or object and the other is not.
pub(super) fn differ_in_kind(a: &[u8], b: &[u8]) -> bool {
    let compound = |text: &[u8]| text.first().copied().filter(|b| matches!(b, b'{' | b'['));
    compound(a) != compound(b)
}
