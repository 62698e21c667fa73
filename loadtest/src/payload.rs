//! The events that are published, and what clients must receive for them.
//!
//! An event has exactly the requested size: a real object of the simulated fleet, padded with text of other objects, so
//! that it parses and compresses like the events of a DRP server; 64 different ones alternate. Each carries its
//! sequence number, as Key and in the Object.
//!
//! Contract: what a client receives is compared with [`Payloads::object`] byte for byte.

use std::borrow::Cow;
use std::io::Write as _;

use anyhow::{Result, ensure};
use hydrant::demo::Fleet;
use hydrant::event::{Draft, Event};
use hydrant::json;

use crate::usage::UsageError;

/// Type of the published events.
pub const KIND: &str = "bench";

const ACTION: &str = "update";

/// Number of different objects that alternate.
const VARIANTS: u64 = 64;

/// Prefix of the principal in the events; a broker that sets the principal itself sets the same.
const PRINCIPAL_PREFIX: &str = "user:";

/// The receivers of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// Every client receives every event; the Key is the sequence number.
    All,
    /// Event `n` is only for client `n` modulo the number of clients, by its Key.
    One {
        /// Number of clients.
        clients: u64,
    },
}

/// A source of numbered events of equal size.
#[derive(Debug)]
pub struct Payloads {
    /// The ends of the objects: everything after the sequence number.
    tails: Vec<String>,
    spread: Spread,
    principal: String,
}

impl Payloads {
    /// Creates events whose delivered text is `size` bytes long.
    ///
    /// # Errors
    /// Fails if `size` is less than the size of an envelope (about 250 bytes).
    pub fn new(size: usize, user: &str, spread: Spread) -> Result<Self> {
        let principal = format!("{PRINCIPAL_PREFIX}{user}");
        let mut payloads = Self { tails: vec![r#"","Pad":""}"#.to_owned()], spread, principal };
        let least = payloads.sealed(0).json().len();
        let short =
            || UsageError(format!("--payload must be at least {least} bytes, the size of an event without an object"));
        ensure!(size >= least, short());
        payloads.tails = tails(size - least);
        Ok(payloads)
    }

    /// Returns the Key of event `sequence`.
    pub fn key(&self, sequence: u64) -> String {
        match self.spread {
            Spread::All => format!("{sequence:012}"),
            Spread::One { clients } => client_key(sequence % clients),
        }
    }

    /// Returns the Object of event `sequence`.
    pub fn object(&self, sequence: u64) -> String {
        let variant = usize::try_from(sequence % VARIANTS).expect("below 64") % self.tails.len();
        format!("{{\"Sequence\":\"{sequence:012}{}", self.tails[variant])
    }

    /// Returns the event whose frame a server is expected to send as number `sequence`.
    pub fn sealed(&self, sequence: u64) -> Event {
        let (key, object) = (self.key(sequence), self.object(sequence));
        let time = now();
        let draft = Draft {
            time: Some(Cow::Borrowed(&time)),
            principal: Cow::Borrowed(&self.principal),
            object: &object,
            ..Draft::new(KIND, ACTION, &key)
        };
        draft.seal(hydrant::clock::now())
    }
}

/// Returns the Key for which client `client` is registered if every event has one receiver. As long as a sequence
/// number.
pub fn client_key(client: u64) -> String {
    format!("c{client:011}")
}

/// Returns the sequence number in an event's Object.
pub fn sequence(object: &str) -> Option<u64> {
    let first = json::members(object).next()?;
    (first.name == "\"Sequence\"").then(|| json::as_string(first.value)?.parse().ok())?
}

/// Returns the time as text of constant length, so that events are of constant length.
fn now() -> String {
    format!("{:.9}", hydrant::clock::now())
}

/// Returns ends of objects that are `room` bytes longer than the shortest one.
fn tails(room: usize) -> Vec<String> {
    const MEMBER: &str = r#"","Object":"#;
    let mut fleet = Fleet::new(1, 50);
    let all: Vec<String> = (0..4_000).map(|_| fleet.step().object).collect();
    let mut fitting: Vec<&String> = all.iter().filter(|object| object.len() + MEMBER.len() <= room + 1).collect();
    fitting.sort_by_key(|object| std::cmp::Reverse(object.len()));
    let filler = filler(&all, room);
    let count = usize::try_from(VARIANTS).expect("64");
    let mut tails = Vec::with_capacity(count);
    for variant in 0..count {
        let mut tail = Vec::new();
        let object = fitting.get(variant % fitting.len().max(1)).map_or("", |object| object.as_str());
        let used = if object.is_empty() { 0 } else { MEMBER.len() - 1 + object.len() };
        if object.is_empty() {
            tail.push(b'"');
        } else {
            write!(tail, "{MEMBER}{object}").expect("memory takes everything");
        }
        let start = variant * 97 % filler.len().max(1);
        let pad: String = filler.chars().cycle().skip(start).take(room - used).collect();
        write!(tail, ",\"Pad\":\"{pad}\"}}").expect("memory takes everything");
        tails.push(String::from_utf8(tail).expect("written from text only"));
    }
    tails
}

/// Returns text of objects that needs no escapes inside a JSON string.
fn filler(objects: &[String], room: usize) -> String {
    let text = objects.iter().rev().flat_map(|object| object.chars());
    text.filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\')).take(room + 8_192).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;
    use std::collections::HashSet;

    #[test]
    fn events_have_exactly_the_size_asked_for_and_are_different() {
        for size in [300, 512, 1_024, 4_096, 12_288, 65_536] {
            let payloads = Payloads::new(size, "rocketskates", Spread::All).unwrap();
            let mut objects = HashSet::new();
            for at in 0..130 {
                let event = payloads.sealed(at);
                assert_eq!(event.json().len(), size);
                assert_eq!((event.key(), event.object()), (payloads.key(at).as_str(), payloads.object(at).as_str()));
                assert_eq!(sequence(event.object()), Some(at));
                serde_json::from_str::<serde_json::Value>(event.json()).unwrap();
                objects.insert(payloads.tails[usize::try_from(at).unwrap() % payloads.tails.len()].clone());
            }
            assert!(objects.len() > 60, "{size}: {} different ones", objects.len());
        }
        assert!(Payloads::new(100, "rocketskates", Spread::All).is_err());
    }

    #[test]
    fn a_spread_event_names_its_client() {
        let payloads = Payloads::new(512, "u", Spread::One { clients: 10 }).unwrap();
        assert_eq!(payloads.key(23), client_key(3));
        assert_eq!(payloads.sealed(23).json().len(), 512);
    }

    #[test]
    fn a_body_holds_one_event_a_line() {
        let payloads = Payloads::new(1_024, "u", Spread::All).unwrap();
        let body = String::from_utf8(Wire::Drp.batch(&payloads, 5..8)).unwrap();
        let keys: Vec<String> = body.lines().map(|line| Draft::read(line).unwrap().key.into_owned()).collect();
        assert_eq!(keys, ["000000000005", "000000000006", "000000000007"]);
    }

    #[test]
    fn big_events_are_mostly_a_real_object() {
        let payloads = Payloads::new(12_288, "u", Spread::All).unwrap();
        let object: serde_json::Value = serde_json::from_str(&payloads.object(0)).unwrap();
        assert!(object["Object"]["Uuid"].is_string());
        assert!(object["Pad"].as_str().unwrap().len() < 2_000);
    }
}
