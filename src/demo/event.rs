//! The event that one step of the fleet returns.

use std::borrow::Cow;

use crate::event::Draft;
use crate::json;

/// An event of the simulated fleet as DRP would publish it, except for the time, which the reader adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoEvent {
    /// The event's Type, such as `machines`.
    pub kind: &'static str,
    /// The event's Action, such as `update`.
    pub action: &'static str,
    /// Key of the object.
    pub key: String,
    /// The principal that caused the event: `user:NAME` or `runner:UUID`.
    pub principal: String,
    /// The object after the change (before it, for `delete`), as compact JSON.
    pub object: String,
    /// The object before an `update` or `save` as compact JSON, otherwise `null`.
    pub original: String,
}

impl DemoEvent {
    /// Returns the event in the form that the broker accepts.
    pub fn draft(&self) -> Draft<'_> {
        Draft {
            principal: Cow::Borrowed(&self.principal),
            object: &self.object,
            original: &self.original,
            ..Draft::new(self.kind, self.action, &self.key)
        }
    }

    /// Appends the event as one line of JSON without a line break: the body of a `POST /api/v3/events`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let texts = [("Type", self.kind), ("Action", self.action), ("Key", &self.key), ("Principal", &self.principal)];
        out.push(b'{');
        for (name, text) in texts {
            json::quote(name, out);
            out.push(b':');
            json::quote(text, out);
            out.push(b',');
        }
        out.extend_from_slice(b"\"Object\":");
        out.extend_from_slice(self.object.as_bytes());
        out.extend_from_slice(b",\"Original\":");
        out.extend_from_slice(self.original.as_bytes());
        out.push(b'}');
    }
}
