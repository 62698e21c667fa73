//! What became of the stalled clients, as they find out when they read again.
//!
//! Each must have received everything, or have been notified of exactly what it missed, or have been closed with a
//! code. A gap notice is in the position of the missing events and says how many they are; subsequent events are
//! checked against it.

use hydrant::event::Draft;
use hydrant::json;
use serde::Serialize;

use crate::client::Sink;
use crate::payload::{KIND, sequence};
use crate::report::count;
use crate::wire::Wire;

/// Number of stalled clients by what they found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Fates {
    /// Received everything after all.
    pub complete: u64,
    /// Were notified of a gap with the correct number of missing events.
    pub notified: u64,
    /// Were closed with a code.
    pub closed: u64,
    /// Were notified of a gap, but with a wrong number or in a wrong position.
    pub misled: u64,
    /// Lost their connection without a close.
    pub cut: u64,
    /// Are connected, have lost events, and were not notified.
    pub silent: u64,
}

impl Fates {
    /// Returns the number of faults.
    pub fn faults(&self) -> u64 {
        self.misled + self.cut + self.silent
    }
}

impl std::fmt::Display for Fates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { complete, notified, closed, misled, cut, silent } = self;
        let all = [
            (complete, "got all"),
            (notified, "notified of a gap"),
            (closed, "closed with a code"),
            (misled, "notified wrongly"),
            (cut, "disconnected without a close code"),
            (silent, "with a silent loss"),
        ];
        let all = all.into_iter().filter(|(number, _)| **number > 0);
        let words: Vec<String> = all.map(|(number, name)| format!("{} {name}", count(*number))).collect();
        f.write_str(if words.is_empty() { "none" } else { "" })?;
        f.write_str(&words.join(", "))
    }
}

#[derive(Debug, Clone)]
struct Stalled {
    /// Number of the next event.
    next: u64,
    events: u64,
    notified: bool,
    /// Whether events were missing that no notice reported.
    skipped: bool,
    /// Whether the close had a code.
    closed: Option<bool>,
}

/// Receives what arrives for the stalled clients.
#[derive(Debug)]
pub(super) struct Aftermath {
    clients: Vec<Stalled>,
    first: u64,
    published: u64,
    wire: Wire,
    /// The reason given to the first client that was closed.
    pub(super) reason: Option<String>,
}

impl Aftermath {
    /// Creates the state of `clients` clients, each of which should receive events `first` to `first + published - 1`.
    pub(super) fn new(clients: usize, first: u64, published: u64, wire: Wire) -> Self {
        let client = Stalled { next: first, events: 0, notified: false, skipped: false, closed: None };
        Self { clients: vec![client; clients], first, published, wire, reason: None }
    }

    pub(super) fn fates(&self) -> Fates {
        let mut fates = Fates::default();
        let end = self.first + self.published;
        for client in &self.clients {
            let is_whole = !client.skipped && client.next == end;
            let fate = match client.closed {
                _ if client.events >= self.published => &mut fates.complete,
                Some(true) => &mut fates.closed,
                Some(false) => &mut fates.cut,
                None if client.notified && is_whole => &mut fates.notified,
                None if client.notified => &mut fates.misled,
                None => &mut fates.silent,
            };
            *fate += 1;
        }
        fates
    }
}

/// Returns the number of missing events that a gap notice reports.
fn gap(draft: &Draft<'_>) -> Option<u64> {
    let is_notice = draft.kind == "hydrant" && draft.action == "gap" && draft.key == "queue";
    let member = json::members(draft.object).find(|member| member.name() == "Events").filter(|_| is_notice)?;
    member.value.parse().ok()
}

impl Sink for Aftermath {
    fn text(&mut self, client: usize, payload: &[u8]) {
        let text = String::from_utf8_lossy(payload);
        let Ok(draft) = Draft::read(&text) else { return };
        let state = &mut self.clients[client];
        if let Some(count) = gap(&draft) {
            state.notified = true;
            state.next += count;
        } else if let Some(number) = sequence(draft.object).filter(|_| draft.kind == KIND) {
            state.skipped |= number != state.next;
            state.next = number + 1;
            state.events += 1;
        }
    }

    fn closed(&mut self, client: usize, reason: &str) {
        // MQTT 3.1.1 has no message for it; NATS sends `-ERR` before it closes.
        let coded = reason.starts_with("closed: 1") || (self.wire == Wire::Nats && reason.contains("NATS says"));
        self.clients[client].closed = Some(coded);
        self.reason.get_or_insert_with(|| reason.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64) -> String {
        format!(r#"{{"Type":"bench","Action":"update","Object":{{"Sequence":"{number:012}"}}}}"#)
    }

    fn notice(count: u64) -> String {
        format!(r#"{{"Type":"hydrant","Action":"gap","Key":"queue","Object":{{"From":"","To":"","Events":{count}}}}}"#)
    }

    /// Returns the fate of one client that should have received events 10 to 13.
    fn fate(heard: &[String], closed: Option<&str>) -> Fates {
        let mut aftermath = Aftermath::new(1, 10, 4, Wire::Drp);
        for text in heard {
            aftermath.text(0, text.as_bytes());
        }
        if let Some(reason) = closed {
            aftermath.closed(0, reason);
        }
        aftermath.fates()
    }

    #[test]
    fn fates_are_distinguished() {
        let all: Vec<String> = (10..14).map(event).collect();
        assert_eq!(fate(&all, None), Fates { complete: 1, ..Fates::default() });
        let notified = [event(10), notice(2), event(13)];
        assert_eq!(fate(&notified, None), Fates { notified: 1, ..Fates::default() });
        assert_eq!(fate(&notified[..2], None), Fates { misled: 1, ..Fates::default() });
        assert_eq!(fate(&[event(10), notice(1), event(13)], None), Fates { misled: 1, ..Fates::default() });
        assert_eq!(fate(&[event(10), event(13), notice(2)], None), Fates { misled: 1, ..Fates::default() });
        assert_eq!(fate(&[event(10), event(13)], None), Fates { silent: 1, ..Fates::default() });
        let coded = "closed: 1013 slow consumer: 5 events, 9 bytes queued";
        assert_eq!(fate(&[], Some(coded)), Fates { closed: 1, ..Fates::default() });
        assert_eq!(fate(&notified, Some("the server closed the connection")), Fates { cut: 1, ..Fates::default() });
    }

    #[test]
    fn what_is_no_notice_of_ours_is_none() {
        let other = r#"{"Type":"hydrant","Action":"gap","Key":"somewhere","Object":{"Events":2}}"#.to_owned();
        assert_eq!(fate(&[event(10), other, event(13)], None), Fates { silent: 1, ..Fates::default() });
    }
}
