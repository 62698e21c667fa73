//! Gap notices of a server, in plain words.
//!
//! Contract: pure. A notice (Type `hydrant`, Action `gap`) is an event that reports missing ones. A view that shows a
//! few fields of each event would hide the loss, so notices are recognized here, as `docs/protocol.md`, "Events",
//! describes them. The words contain no character that a terminal interprets.

use std::borrow::Cow;
use std::fmt;

use crate::cli::text::{number_of, printable};
use crate::json;
use crate::protocol::gap::{GAP, HYDRANT, NATS, QUEUE, REPLAY};

/// What a gap notice reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Loss {
    /// What is missing, from when to when, and why.
    words: String,
    is_registered_for: bool,
}

impl Loss {
    /// Returns what an event reports as missing; `None` if it is not a gap notice.
    pub(super) fn of(event: &str) -> Option<Self> {
        let is = |name, text: &str| member(event, name).and_then(json::as_string).is_some_and(|found| found == text);
        if !is("Type", HYDRANT) || !is("Action", GAP) {
            return None;
        }
        let key = text(event, "Key").unwrap_or_default();
        let object = member(event, "Object").unwrap_or_default();
        let events = member(object, "Events").and_then(|count| count.parse().ok());
        let missing = match events {
            Some(1) => "1 event is missing".to_owned(),
            Some(count) => format!("{} are missing", number_of(count, "event")),
            None => "events are missing".to_owned(),
        };
        let span = span(object);
        let words = match &*key {
            QUEUE => format!("{missing}{span}: this client reads too slowly"),
            REPLAY => {
                let of_any_type = events.map(|count| format!(" ({} of any type)", number_of(count, "event")));
                let of_any_type = of_any_type.unwrap_or_default();
                format!("events are missing{span}: the server no longer has them{of_any_type}")
            }
            NATS => format!("{missing}{span}: they were lost between nodes"),
            endpoint => {
                let endpoint = text(object, "Endpoint").unwrap_or(endpoint.into());
                format!("{missing}{span}: they did not arrive from {endpoint}")
            }
        };
        Some(Self { words, is_registered_for: !matches!(&*key, QUEUE | REPLAY) })
    }

    /// Returns whether only clients get the notice that have registered for it.
    pub(in crate::cli) fn is_registered_for(&self) -> bool {
        self.is_registered_for
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// Says from when to when events are missing, as far as it is known.
fn span(object: &str) -> String {
    match (text(object, "From"), text(object, "To")) {
        (Some(from), Some(to)) => format!(" from {from} to {to}"),
        (Some(from), None) => format!(" from {from} on"),
        (None, Some(to)) => format!(" before {to}"),
        (None, None) => String::new(),
    }
}

fn member<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    json::members(text).find(|member| member.name() == name).map(|member| member.value)
}

fn text<'t>(object: &'t str, name: &str) -> Option<Cow<'t, str>> {
    let text = member(object, name).and_then(json::as_string)?;
    Some(Cow::Owned(printable(&text).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(key: &str, object: &str) -> (String, bool) {
        let notice = format!(r#"{{"Time":"T","Type":"hydrant","Action":"gap","Key":"{key}","Object":{object}}}"#);
        let loss = Loss::of(&notice).unwrap();
        (loss.to_string(), loss.is_registered_for())
    }

    #[test]
    fn a_notice_says_how_many_when_and_why() {
        for (key, object, expected, is_registered_for) in [
            (
                "queue",
                r#"{"From":"A","To":"B","Events":1203}"#,
                "1203 events are missing from A to B: this client reads too slowly",
                false,
            ),
            ("queue", r#"{"Events":1}"#, "1 event is missing: this client reads too slowly", false),
            (
                "replay",
                r#"{"Requested":"R","From":"A","To":"B","Events":null}"#,
                "events are missing from A to B: the server no longer has them",
                false,
            ),
            (
                "replay",
                r#"{"Requested":"R","From":null,"To":"B","Events":1}"#,
                "events are missing before B: the server no longer has them (1 event of any type)",
                false,
            ),
            (
                "nats",
                r#"{"From":"A","To":"B","Events":2,"Node":"n","Reason":"r"}"#,
                "2 events are missing from A to B: they were lost between nodes",
                true,
            ),
            (
                "drp:8092",
                r#"{"Endpoint":"https://drp:8092","From":"A","To":"B\u001b","Events":null}"#,
                "events are missing from A to B\u{fffd}: they did not arrive from https://drp:8092",
                true,
            ),
            ("drp:8092", "null", "events are missing: they did not arrive from drp:8092", true),
        ] {
            assert_eq!(words(key, object), (expected.to_owned(), is_registered_for), "{key} {object}");
        }
    }

    #[test]
    fn other_events_report_no_loss() {
        for event in [
            r#"{"Type":"machines","Action":"gap","Key":"queue","Object":{"Events":1}}"#,
            r#"{"Type":"hydrant","Action":"close","Key":"1013"}"#,
            r#"{"Type":"machines","Object":{"Type":"hydrant","Action":"gap"}}"#,
            "{}",
        ] {
            assert_eq!(Loss::of(event), None, "{event}");
        }
    }
}
