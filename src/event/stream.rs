//! The text of an event for connections that are not websockets: Server-Sent Events and NDJSON.
//!
//! Both are slices of one text, so an event that both kinds of connection receive is written once:
//!
//! ```text
//! id: EPOCH:SEQUENCE
//! data: {"Time":"...","Type":"machines",...}
//!       |---------- the line of NDJSON -----...
//! ```
//!
//! Contract: pure. Compact JSON contains no line break, so a single `data:` line always holds the whole event. The id
//! is a position from which a client can resume: the event's position or, if another process numbered it (it came from
//! an archive), its Time. If that is refused later, because its clock was far ahead, the event has no id, and the
//! client resumes from the one before it. What is sent to one connection only (answers, gap notices) has no id, so the
//! client keeps the id of the event before it. An answer has the event name `answer`, so it does not reach
//! `onmessage`. In NDJSON only a refusal is written as a line; a command that took effect is an empty line.

use std::fmt::Write;
use std::ops::Range;

use super::{ANSWER_TYPE, Event, NOTICE_TYPE};

/// The Action of an answer that refuses a command.
const REFUSAL: &str = "error";

/// The text of one event for Server-Sent Events; the NDJSON line is a slice of it.
#[derive(Debug)]
pub(super) struct StreamText {
    text: Box<str>,
    /// Range of the NDJSON line, including its line break.
    line: Range<usize>,
}

impl StreamText {
    /// Serializes an event.
    pub(super) fn of(event: &Event) -> Self {
        let json = event.json();
        let mut text = String::with_capacity(json.len() + 64);
        match (event.kind(), event.position()) {
            (ANSWER_TYPE, _) => text.push_str("event: answer\n"),
            (_, Some(position)) => writeln!(text, "id: {position}").expect("a string takes everything"),
            (NOTICE_TYPE, None) => {}
            (_, None) if !event.is_resumable => {}
            (_, None) => writeln!(text, "id: {}", event.time()).expect("a string takes everything"),
        }
        text.push_str("data: ");
        let start = text.len();
        text.push_str(json);
        text.push_str("\n\n");
        let end = text.len();
        let is_silent = event.kind() == ANSWER_TYPE && event.action() != REFUSAL;
        let line = if is_silent { end - 1..end } else { start..end - 1 };
        Self { text: text.into(), line }
    }

    /// Returns the whole text: one message of an event stream.
    pub(super) fn message(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Returns the JSON and its line break.
    pub(super) fn line(&self) -> &[u8] {
        &self.text.as_bytes()[self.line.clone()]
    }
}

#[cfg(test)]
mod tests {
    use crate::event::{Draft, Event, Position};
    use crate::websocket::frame::Encoding;

    fn sealed(kind: &str, action: &str) -> Event {
        Draft::new(kind, action, "a\nb").seal("2026-01-02T03:04:05Z".parse().unwrap())
    }

    fn text(event: &Event, encoding: Encoding) -> &str {
        std::str::from_utf8(event.frame_in(encoding)).unwrap()
    }

    #[test]
    fn an_event_is_one_message_with_its_position_and_one_line() {
        let mut event = sealed("machines", "update");
        event.set_position(Position { epoch: 0xab, sequence: 12 });
        let json = event.json().to_owned();
        assert!(!json.contains('\n'));
        assert_eq!(text(&event, Encoding::EventStream), format!("id: 00000000000000ab:12\ndata: {json}\n\n"));
        assert_eq!(text(&event, Encoding::Lines), format!("{json}\n"));
        let later = event.since(&sealed("machines", "update"));
        assert!(text(&later, Encoding::EventStream).starts_with("id: 00000000000000ab:12\n"));
    }

    #[test]
    fn without_a_position_the_time_is_the_id_and_what_is_for_one_connection_has_none() {
        let archived = sealed("machines", "update");
        assert!(text(&archived, Encoding::EventStream).starts_with("id: 2026-01-02T03:04:05Z\ndata: {"));
        let mut ahead = sealed("machines", "update");
        ahead.forbid_resuming();
        assert!(text(&ahead, Encoding::EventStream).starts_with("data: {"));
        let notice = sealed("hydrant", "gap");
        assert!(text(&notice, Encoding::EventStream).starts_with("data: {"));
        let (done, refused) = (sealed("websocket", "register"), sealed("websocket", "error"));
        assert!(text(&done, Encoding::EventStream).starts_with("event: answer\ndata: {"));
        assert_eq!(text(&done, Encoding::Lines), "\n");
        assert_eq!(text(&refused, Encoding::Lines), format!("{}\n", refused.json()));
    }
}
