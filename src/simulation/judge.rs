//! Judges what a client has received by what happened: once, in order, allowed, and every loss told.

use std::collections::{BTreeMap, BTreeSet};

use super::client::{Client, Command, Item};
use super::facts::{Fact, Spec};
use super::node::{Log, Room, Settings};
use crate::overflow::Overflow;

/// How much a client must have received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whole {
    /// Everything before this event, or a notice.
    Until(u64),
    /// Anything without a hole: its connection has ended.
    Prefix,
}

pub(super) struct Judge<'j> {
    client: &'j Client,
    room: &'j Room,
    log: &'j Log,
    settings: &'j Settings,
    active: BTreeMap<String, Spec>,
    commands: std::slice::Iter<'j, Command>,
    /// The next event that is not accounted for.
    next: u64,
    /// Events that a conflating client did not get.
    missing: Vec<u64>,
    received: BTreeSet<u64>,
}

impl<'j> Judge<'j> {
    pub(super) fn new(client: &'j Client, room: &'j Room, log: &'j Log, settings: &'j Settings) -> Self {
        Self {
            client,
            room,
            log,
            settings,
            active: BTreeMap::new(),
            commands: client.commands.iter(),
            next: 0,
            missing: Vec::new(),
            received: BTreeSet::new(),
        }
    }

    fn fact(&self, event: u64) -> &'j Fact {
        &self.log.facts[usize::try_from(event).unwrap()]
    }

    fn sees(&self, event: u64) -> bool {
        self.room.rights_at(event).sees(self.client.user, self.client.secret, self.fact(event))
    }

    fn is_wanted(&self, event: u64) -> bool {
        self.active.values().any(|spec| spec.matches(self.fact(event)))
    }

    /// Returns whether it is open if the event is delivered: some registrations have yet to move to other rights.
    fn is_optional(&self, event: u64) -> bool {
        self.room.moving.iter().any(|range| range.contains(&event))
    }

    fn is_expected(&self, event: u64) -> bool {
        self.is_wanted(event) && self.sees(event)
    }

    /// Accounts for the events before `until`, which the client did not get.
    fn advance(&mut self, until: u64) {
        for event in self.next..until {
            if !self.is_expected(event) || self.is_optional(event) {
                continue;
            }
            assert!(self.client.overflow == Overflow::Conflate, "event {event} is missing: {:?}", self.fact(event));
            self.missing.push(event);
        }
        self.next = self.next.max(until);
    }

    /// Judges a client without a replay.
    pub(super) fn live(mut self, whole: Whole) {
        let is_loose = self.client.overflow == Overflow::DropOldest && !self.room.moving.is_empty();
        for (at, item) in self.client.items.iter().enumerate() {
            match item {
                Item::Answer { action, key, time } => {
                    let position = self.room.position_at(*time);
                    let number = self.client.commands.len() - self.commands.len();
                    let sent = self.client.sent_after[number];
                    // A binary message is refused at once, whatever was accepted before.
                    let waits = action != "error" || !key.is_empty();
                    assert!(
                        !waits || position >= sent,
                        "command {number} was executed at {position}, sent after {sent}"
                    );
                    self.advance(position);
                    self.answer(action, key);
                }
                Item::Event { json, number, original } => self.event(json, *number, original),
                Item::Dropped { events, from, to } => {
                    assert_eq!(self.client.overflow, Overflow::DropOldest);
                    if is_loose {
                        self.skip_loosely(at);
                    } else {
                        self.dropped(*events, from, to);
                    }
                }
                Item::Forgotten { .. } => panic!("a gap in a replay that nobody asked for"),
                Item::Close { code, reason } => self.close(*code, reason),
            }
        }
        if let Whole::Until(until) = whole {
            self.advance(until);
        }
        self.check_conflated(whole);
    }

    fn answer(&mut self, action: &str, key: &str) {
        let command = self.commands.next().expect("no answer without a command");
        let most = self.settings.index.registrations;
        match command {
            Command::Register(spec) if action == "register" => {
                assert_eq!(key, spec.text, "answers keep the order of the commands");
                self.active.insert(spec.text.clone(), spec.clone());
                assert!(self.active.len() <= most);
            }
            Command::Register(spec) => {
                assert!(self.active.len() >= most && !self.active.contains_key(&spec.text), "{key} was refused");
            }
            Command::Deregister(text) if action == "deregister" => {
                assert_eq!(key, text);
                assert!(self.active.remove(text).is_some());
            }
            Command::Deregister(text) => assert!(!self.active.contains_key(text), "{text} is registered"),
            Command::Junk => assert_eq!(action, "error"),
        }
    }

    fn find(&self, json: &str, number: Option<u64>) -> u64 {
        let exact = self.log.by_json.get(json).copied();
        let conflated = || number.filter(|_| self.client.overflow == Overflow::Conflate);
        let found = exact.or_else(|| self.log.by_number.get(&conflated()?).copied());
        found.unwrap_or_else(|| panic!("nobody has sent {json}"))
    }

    fn event(&mut self, json: &str, number: Option<u64>, original: &str) {
        let event = self.find(json, number);
        assert!(event >= self.next, "event {event} came before, or out of order; {} is next", self.next);
        self.advance(event);
        assert!(self.is_wanted(event), "event {event} is not registered for: {:?}", self.fact(event));
        assert!(self.sees(event), "event {event} is not for this client's eyes: {:?}", self.fact(event));
        self.next = event + 1;
        if self.client.overflow == Overflow::Conflate && self.room.moving.is_empty() {
            assert_eq!(original, self.first_original(event), "event {event} shows all changes");
        }
        self.received.insert(event);
    }

    /// Returns the Original of the first update that an event stands for.
    fn first_original(&self, event: u64) -> &'j str {
        let fact = self.fact(event);
        let mut first = event;
        for &before in self.missing.iter().rev() {
            let other = self.fact(before);
            if !other.is_of_one_object(fact) {
                continue;
            }
            if self.received.range(before..).any(|seen| self.fact(*seen).is_of_one_object(fact)) {
                break;
            }
            first = before;
        }
        &self.fact(first).original
    }

    fn dropped(&mut self, events: u64, from: &str, to: &str) {
        let mut lost = Vec::new();
        while (lost.len() as u64) < events {
            assert!(self.next < self.log.facts.len() as u64, "{events} events are said to be lost, {} are", lost.len());
            if self.is_expected(self.next) {
                lost.push(self.next);
            }
            self.next += 1;
        }
        let times = [lost[0], lost[lost.len() - 1]].map(|event| self.fact(event).time.as_str());
        assert_eq!([from, to], times, "of the first and the last lost event");
    }

    /// Skips to the next event that the client got, where it is open how many were dropped.
    fn skip_loosely(&mut self, at: usize) {
        for item in &self.client.items[at + 1..] {
            match item {
                Item::Event { json, number, .. } => {
                    self.next = self.next.max(self.find(json, *number));
                    return;
                }
                Item::Answer { time, .. } => {
                    self.next = self.next.max(self.room.position_at(*time));
                    return;
                }
                _ => {}
            }
        }
        self.next = self.log.facts.len() as u64;
    }

    fn close(&self, code: u16, reason: &str) {
        let slow = reason.starts_with("slow consumer");
        assert!(!(slow && self.client.keeps_up), "a client that keeps up is not closed: {reason}");
        assert!(!slow || code == 1013);
        let work = reason.starts_with("filters cost too much");
        assert!(!work || self.settings.has_work_limits, "{reason}");
        let revoked = reason == "credentials revoked";
        let mut secrets = self.room.rights.iter().map(|(_, rights)| rights.secret(self.client.user));
        assert!(!revoked || secrets.any(|secret| secret != Some(self.client.secret)));
    }

    /// Every update that a conflating client did not get is part of a later one that it got.
    fn check_conflated(&self, whole: Whole) {
        for &event in &self.missing {
            let fact = self.fact(event);
            assert!(fact.is_update(), "event {event} is no update and missing: {fact:?}");
            let later = self.log.facts[usize::try_from(event).unwrap() + 1..].iter().zip(event + 1..);
            let of_object = later.filter(|(later, _)| later.is_of_one_object(fact));
            let last = self.received.last().copied().unwrap_or(0);
            // What was queued when the connection ended is lost, and its end says so.
            let is_lost = |at: u64| whole == Whole::Prefix && at > last;
            let is_covered = of_object
                .take_while(|(later, _)| later.is_update())
                .any(|(_, at)| self.received.contains(&at) || is_lost(at));
            assert!(is_covered || is_lost(event), "update {event} is missing without a later one: {fact:?}");
        }
    }

    /// Judges a client that asked for earlier events. `is_level`: it has received everything that there is.
    pub(super) fn replayed(mut self, is_level: bool) {
        let since = self.client.since.expect("asked for");
        let (mut told, mut is_unknown) = (0, false);
        let (mut turned, mut registered, mut last) = (0, 0, None);
        for (at, item) in self.client.items.iter().enumerate() {
            match item {
                Item::Answer { action, key, .. } => {
                    registered += usize::from(action == "register");
                    self.answer(action, key);
                }
                Item::Event { json, number, .. } => {
                    let event = self.find(json, *number);
                    assert!(event >= since.first, "event {event} is older than asked for ({since:?})");
                    assert!(self.received.insert(event), "event {event} came twice");
                    turned += usize::from(last.is_some_and(|last| last > event));
                    last = Some(event);
                    let fact = self.fact(event);
                    let answered = self.answered_next(at);
                    let wanted = self.is_wanted(event) || answered.iter().any(|spec| spec.matches(fact));
                    assert!(wanted, "event {event} is not registered for: {fact:?}");
                    let sees = |rights: &super::rights::Rights| rights.sees(self.client.user, self.client.secret, fact);
                    let mut rights = self.room.rights.iter().map(|(_, rights)| rights);
                    assert!(rights.any(|rights| sees(rights)), "event {event} was never to be seen: {fact:?}");
                }
                Item::Dropped { events, .. } | Item::Forgotten { events: Some(events) } => told += events,
                Item::Forgotten { events: None } => is_unknown = true,
                Item::Close { code, reason } => self.close(*code, reason),
            }
        }
        let most = registered + usize::from(!is_level);
        assert!(turned <= most, "the order turned back {turned} times for {registered} registrations");
        if is_level && !self.active.is_empty() {
            self.complete(since.first, told, is_unknown, since.has_gap);
        }
    }

    /// Returns the registrations whose answers follow at once: an event of their replay may precede them. A client that
    /// has gone may have missed the answers.
    fn answered_next(&self, at: usize) -> Vec<&'j Spec> {
        let rest = &self.client.items[at + 1..];
        let answers = rest.iter().take_while(|item| matches!(item, Item::Answer { .. })).count();
        let is_cut = self.client.is_gone && answers == rest.len();
        let commands = self.commands.clone().take(if is_cut { usize::MAX } else { answers });
        commands.filter_map(|command| if let Command::Register(spec) = command { Some(spec) } else { None }).collect()
    }

    fn complete(&self, first: u64, told: u64, is_unknown: bool, has_gap: bool) {
        assert!(is_unknown || told > 0 || !has_gap, "a gap at the start of the replay is told");
        let always = |event: u64| {
            let fact = self.fact(event);
            self.room.rights.iter().all(|(_, rights)| rights.sees(self.client.user, self.client.secret, fact))
        };
        let all = first..self.log.facts.len() as u64;
        let is_missing = |event: &u64| self.is_wanted(*event) && always(*event) && !self.received.contains(event);
        let missing: Vec<u64> = all.filter(is_missing).collect();
        let is_covered = self.client.overflow == Overflow::Conflate;
        assert!(is_unknown || is_covered || missing.len() as u64 <= told, "{missing:?} are missing, {told} are told");
    }
}
