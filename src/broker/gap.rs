//! A gap in a replay: events that a client asked for and that are no longer retained.
//!
//! Pure. The history and an archive find gaps; a replay writes them down as the notice `hydrant.gap.replay`.

use jiff::Timestamp;

use crate::event::{Draft, Event};
use crate::protocol::gap::{GAP, HYDRANT, REPLAY};

/// Events that a client asked for and that are not retained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The start of the gap, if known.
    pub from: Option<Timestamp>,
    /// The end of the gap: the intake time of the first retained event, or now.
    pub to: Timestamp,
    /// The number of missing events, if known.
    pub events: Option<u64>,
}

impl Gap {
    /// Returns the notice that reports it to a client. The client can resume from its Time (`fanout::replay`).
    pub fn notice(&self, requested: &str, time: Timestamp) -> Event {
        let from = self.from.map(|time| time.to_string());
        let object = serde_json::json!({
            "Requested": requested, "From": from, "To": self.to.to_string(), "Events": self.events,
        });
        let object = object.to_string();
        let mut draft = Draft::new(HYDRANT, GAP, REPLAY);
        draft.object = &object;
        draft.seal_for_one(time)
    }
}
