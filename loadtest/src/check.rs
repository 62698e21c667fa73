//! Checks whether every client received exactly what it should: once, in order, uncorrupted.
//!
//! All clients receive the same bytes for the same event. Therefore only the first copy of an event is parsed and
//! compared with what was published; the others are compared with that copy. Comparing 1 KB takes some 20 ns; parsing
//! happens only once per event, and when something is wrong.
//!
//! Contract: [`Checker::arrived`] accepts any input; nothing that a server sends makes it panic or store more than
//! `GAP_MAX` numbers per client.

use std::collections::BTreeSet;

use hydrant::event::Draft;
use serde::Serialize;

use crate::payload::{KIND, Payloads, sequence};
use crate::report::count;

/// Maximum number of missing events that are remembered individually per client, to distinguish late ones from
/// duplicates.
const GAP_MAX: usize = 10_000;

/// What all clients received, and what was wrong with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Published events that were received, counted once for each delivery, without duplicates.
    pub received: u64,
    /// Deliveries that never arrived.
    pub lost: u64,
    /// Deliveries that arrived again.
    pub duplicates: u64,
    /// Deliveries that arrived after a later one.
    pub reordered: u64,
    /// Deliveries whose Key or Object differs from what was published, or that are not for this client.
    pub corrupt: u64,
    /// Other events: gap notices and events from other publishers.
    pub foreign: u64,
    /// Connections that ended early.
    pub closed: u64,
}

impl Counts {
    /// Returns the number of faults.
    pub fn faults(&self) -> u64 {
        self.lost + self.duplicates + self.reordered + self.corrupt + self.closed
    }

    /// Returns whether there were no faults.
    pub fn is_clean(&self) -> bool {
        self.faults() == 0
    }

    /// Adds the counts of another measurement.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
        self.foreign += other.foreign;
        self.closed += other.closed;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { received, lost, duplicates, reordered, corrupt, foreign, closed } = self;
        write!(f, "{} received", count(*received))?;
        let others = [
            (lost, "lost"),
            (duplicates, "repeated"),
            (reordered, "reordered"),
            (corrupt, "corrupted"),
            (closed, "connections lost"),
            (foreign, "foreign"),
        ];
        let mut others = others.into_iter().filter(|(number, _)| **number > 0);
        others.try_for_each(|(number, name)| write!(f, ", {} {name}", count(*number)))
    }
}

/// The state of one client.
#[derive(Debug)]
struct Client {
    next: u64,
    missing: BTreeSet<u64>,
    closed: bool,
}

/// Checks received events, turn by turn.
#[derive(Debug)]
pub struct Checker {
    payloads: Payloads,
    clients: Vec<Client>,
    /// Distance between the sequence numbers of one client's events.
    stride: u64,
    /// Sequence numbers of this turn.
    turn: std::ops::Range<u64>,
    /// The first copy of each event of this turn, once it has been verified.
    good: Vec<Option<Box<[u8]>>>,
    /// Number of clients that have not received all of this turn.
    waiting: usize,
    /// Counts so far.
    pub counts: Counts,
    /// The reason why the first lost connection was lost.
    pub first_error: Option<String>,
}

impl Checker {
    /// Creates a checker for `clients` clients that all receive every event of `payloads`.
    pub fn for_all(payloads: Payloads, clients: usize) -> Self {
        let clients = (0..clients).map(|_| 0).collect();
        Self::new(payloads, clients, 1)
    }

    /// Creates a checker for `clients` clients, each of which receives every `clients`-th event.
    pub fn for_one(payloads: Payloads, clients: usize) -> Self {
        let stride = clients as u64;
        Self::new(payloads, (0..stride).collect(), stride)
    }

    fn new(payloads: Payloads, starts: Vec<u64>, stride: u64) -> Self {
        let clients = starts.into_iter().map(|next| Client { next, missing: BTreeSet::new(), closed: false }).collect();
        Self {
            payloads,
            clients,
            stride,
            turn: 0..0,
            good: Vec::new(),
            waiting: 0,
            counts: Counts::default(),
            first_error: None,
        }
    }

    /// Returns the events that are checked.
    pub fn payloads(&self) -> &Payloads {
        &self.payloads
    }

    /// Begins a turn of `count` events, and returns the sequence numbers to publish now.
    pub fn begin(&mut self, count: u64) -> std::ops::Range<u64> {
        self.turn = self.turn.end..self.turn.end + count;
        self.good = (0..count).map(|_| None).collect();
        let end = self.turn.end;
        self.waiting = self.clients.iter().filter(|client| !client.closed && client.next < end).count();
        self.turn.clone()
    }

    /// Returns whether every client that is still connected has received all of this turn.
    pub fn is_complete(&self) -> bool {
        self.waiting == 0
    }

    /// Returns the number of deliveries in this turn.
    pub fn deliveries(&self) -> u64 {
        let events = self.turn.end - self.turn.start;
        if self.stride == 1 { events * self.clients.len() as u64 } else { events }
    }

    /// Records that client `client` received a text message.
    pub fn arrived(&mut self, client: usize, text: &[u8]) {
        let due = self.clients[client].next.wrapping_sub(self.turn.start);
        let good = usize::try_from(due).ok().and_then(|at| self.good.get(at)?.as_deref());
        if good == Some(text) {
            self.counts.received += 1;
            self.advance(client);
        } else {
            self.examine(client, text);
        }
    }

    fn advance(&mut self, client: usize) {
        let client = &mut self.clients[client];
        client.next += self.stride;
        if client.next >= self.turn.end && client.missing.is_empty() {
            self.waiting = self.waiting.saturating_sub(1);
        }
    }

    /// The slow path: parses the first copy of an event, or a message that is wrong.
    fn examine(&mut self, client: usize, text: &[u8]) {
        let draft = std::str::from_utf8(text).ok().and_then(|text| Draft::read(text).ok());
        let Some(draft) = draft else {
            self.counts.corrupt += 1;
            return;
        };
        if draft.kind != KIND {
            self.counts.foreign += 1;
            return;
        }
        match sequence(draft.object).filter(|&sequence| self.is_true(client, sequence, &draft)) {
            Some(sequence) => self.count(client, sequence, text),
            None => self.counts.corrupt += 1,
        }
    }

    /// Returns whether the event is what was published under this sequence number, and is for this client.
    fn is_true(&self, client: usize, sequence: u64, draft: &Draft<'_>) -> bool {
        sequence < self.turn.end
            && (self.stride == 1 || sequence % self.stride == client as u64)
            && draft.key == self.payloads.key(sequence)
            && draft.object == self.payloads.object(sequence)
    }

    fn count(&mut self, client: usize, sequence: u64, text: &[u8]) {
        if let Some(at) = sequence.checked_sub(self.turn.start) {
            let slot = usize::try_from(at).ok().and_then(|at| self.good.get_mut(at));
            if let Some(slot) = slot {
                slot.get_or_insert_with(|| text.into());
            }
        }
        let state = &mut self.clients[client];
        if sequence == state.next {
            self.counts.received += 1;
            self.advance(client);
        } else if sequence > state.next {
            self.skip_to(client, sequence);
        } else if state.missing.remove(&sequence) {
            self.counts.received += 1;
            self.counts.reordered += 1;
            if state.missing.is_empty() && state.next >= self.turn.end {
                self.waiting = self.waiting.saturating_sub(1);
            }
        } else {
            self.counts.duplicates += 1;
        }
    }

    fn skip_to(&mut self, client: usize, sequence: u64) {
        let state = &mut self.clients[client];
        while state.next < sequence {
            if state.missing.len() < GAP_MAX {
                state.missing.insert(state.next);
            } else {
                self.counts.lost += 1;
            }
            state.next += self.stride;
        }
        self.counts.received += 1;
        self.advance(client);
    }

    /// Records that client `client` lost its connection: what it has not received is lost.
    pub fn lost(&mut self, client: usize, reason: &str) {
        self.first_error.get_or_insert_with(|| reason.to_owned());
        let end = self.turn.end;
        let was_waiting = {
            let state = &self.clients[client];
            !state.closed && (state.next < end || !state.missing.is_empty())
        };
        if was_waiting {
            self.waiting = self.waiting.saturating_sub(1);
        }
        if !self.clients[client].closed {
            self.counts.closed += 1;
        }
        self.clients[client].closed = true;
        self.write_off(client);
    }

    /// Ends the turn: what is missing is lost.
    pub fn give_up(&mut self) {
        for client in 0..self.clients.len() {
            self.write_off(client);
        }
        self.waiting = 0;
    }

    fn write_off(&mut self, client: usize) {
        let state = &mut self.clients[client];
        self.counts.lost += state.missing.len() as u64;
        state.missing.clear();
        while state.next < self.turn.end {
            self.counts.lost += 1;
            state.next += self.stride;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Spread;
    use crate::wire::Wire;

    /// A turn of four events for two clients, and their texts.
    fn turn() -> (Checker, Vec<Vec<u8>>) {
        let payloads = || Payloads::new(512, "u", Spread::All).unwrap();
        let mut checker = Checker::for_all(payloads(), 2);
        let body = checker.begin(4);
        let body = Wire::Drp.batch(checker.payloads(), body);
        let lines = body.split(|&b| b == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
        (checker, lines)
    }

    #[test]
    fn a_clean_turn_is_complete_when_all_have_all() {
        let (mut checker, texts) = turn();
        for client in 0..2 {
            for text in &texts {
                assert!(!checker.is_complete());
                checker.arrived(client, text);
            }
        }
        assert!(checker.is_complete());
        assert_eq!(checker.counts, Counts { received: 8, ..Counts::default() });
        assert!(checker.counts.is_clean());
        checker.begin(1);
        assert!(!checker.is_complete());
    }

    #[test]
    fn losses_duplicates_and_reorders_are_told_apart() {
        let (mut checker, texts) = turn();
        for at in [0, 0, 2, 1] {
            checker.arrived(0, &texts[at]);
        }
        assert_eq!(checker.counts, Counts { received: 3, duplicates: 1, reordered: 1, ..Counts::default() });
        assert!(!checker.is_complete());
        checker.arrived(0, &texts[3]);
        checker.give_up();
        let expected = Counts { received: 4, duplicates: 1, reordered: 1, lost: 4, ..Counts::default() };
        assert_eq!(checker.counts, expected);
        assert!(checker.is_complete() && !checker.counts.is_clean());
    }

    #[test]
    fn a_late_event_completes_the_turn() {
        let (mut checker, texts) = turn();
        checker.lost(1, "gone");
        for at in [1, 2, 3] {
            checker.arrived(0, &texts[at]);
        }
        assert!(!checker.is_complete());
        checker.arrived(0, &texts[0]);
        assert!(checker.is_complete());
        assert_eq!(checker.counts, Counts { received: 4, reordered: 1, lost: 4, closed: 1, ..Counts::default() });
    }

    #[test]
    fn harm_is_seen_in_the_first_copy_and_in_later_ones() {
        let (mut checker, texts) = turn();
        let mut harmed = texts[0].clone();
        let at = harmed.len() - 40;
        harmed[at] ^= 1;
        checker.arrived(0, &harmed);
        checker.arrived(0, &texts[0]);
        checker.arrived(1, &harmed);
        checker.arrived(1, b"junk");
        assert_eq!(checker.counts, Counts { received: 1, corrupt: 3, ..Counts::default() });
        checker.arrived(1, br#"{"Type":"hydrant","Action":"gap","Key":"queue"}"#);
        assert_eq!(checker.counts.foreign, 1);
    }

    #[test]
    fn an_event_for_somebody_else_is_counted() {
        let payloads = Payloads::new(512, "u", Spread::One { clients: 3 }).unwrap();
        let mut checker = Checker::for_one(payloads, 3);
        let body = checker.begin(4);
        let body = Wire::Drp.batch(checker.payloads(), body);
        let texts: Vec<&[u8]> = body.split(|&b| b == b'\n').collect();
        assert_eq!(checker.deliveries(), 4);
        checker.arrived(0, texts[1]);
        assert_eq!(checker.counts.corrupt, 1);
        for (at, text) in texts.iter().enumerate().take(4) {
            assert!(!checker.is_complete());
            checker.arrived(at % 3, text);
        }
        assert!(checker.is_complete());
        assert_eq!((checker.counts.received, checker.counts.lost), (4, 0));
    }
}
