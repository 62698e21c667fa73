//! The view of an event that filters are evaluated on.

use super::table::Span;
use crate::event::Event;

/// The event or object that filters are evaluated on.
#[derive(Debug, Clone, Copy)]
pub struct View<'e> {
    pub(super) text: &'e [u8],
    pub(super) plain: bool,
}

impl<'e> View<'e> {
    /// Creates the view of an event. Costs nothing; its text is read only when a filter needs it.
    pub fn event(event: &'e Event) -> Self {
        // The payload of the frame, by the length of its header: getting it as a string would check 12 KB for UTF-8
        // again.
        let frame = event.frame();
        let header = match frame.get(1) {
            Some(126) => 4,
            Some(127) => 10,
            _ => 2,
        };
        Self { text: &frame[header..], plain: false }
    }

    /// Creates the view of a plain object (or any value) in place of an event, from compact valid JSON.
    pub fn object(json: &'e str) -> Self {
        Self { text: json.as_bytes(), plain: true }
    }

    /// Returns whether the view is of a plain object.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// Returns the bytes at `span`.
    pub(super) fn at(&self, span: Span) -> &'e [u8] {
        span.of(self.text)
    }
}

/// Returns whether two values cannot be equal by their first bytes: at least one is an array or object, and the other
/// is not of the same kind.
pub(super) fn differ_in_kind(a: &[u8], b: &[u8]) -> bool {
    let compound = |text: &[u8]| text.first().copied().filter(|b| matches!(b, b'{' | b'['));
    compound(a) != compound(b)
}
