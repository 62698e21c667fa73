//! The end of a run: everything comes to rest, clients are judged and leave, and nothing is held for them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::client::{Item, Reading};
use super::judge::{Judge, Whole};
use super::node::Room;
use super::world::{CLIENTS, World};
use crate::clock::simulated;
use crate::fanout::permit::Permit;

impl World {
    /// Goes on until nothing happens any more but keeping time. `reads`: everybody reads everything.
    pub(super) fn rest(&mut self, reads: bool) {
        self.trace.note("everything comes to rest".to_owned());
        for round in 0.. {
            assert!(round < 3_000, "it does not come to rest");
            for client in &mut self.clients {
                if reads {
                    client.pipe.borrow_mut().set_room(None);
                    client.reading = Reading::Free;
                    client.read(usize::MAX, &mut self.random);
                }
                client.send(usize::MAX);
            }
            for room in &self.node.rooms {
                while room.parser.parse_next(&self.settings.index.filter) {
                    room.wake();
                }
            }
            let mut moved = false;
            for at in 0..self.node.rooms.len() {
                if self.node.rooms[at].is_awake() || self.is_any_ready(at) {
                    self.turn_of(at);
                    moved |= !self.is_at_rest(at);
                }
            }
            moved |= self
                .clients
                .iter()
                .any(|client| !client.outgoing.is_empty() || !client.pipe.borrow().outbound.is_empty());
            if !moved && (0..self.node.rooms.len()).all(|at| self.is_at_rest(at)) {
                return;
            }
            let next = self.node.rooms.iter().map(Room::sleeps_for).min().unwrap_or_default();
            simulated::pass(next.max(Duration::from_micros(50)));
        }
    }

    pub(super) fn is_at_rest(&self, at: usize) -> bool {
        let room = &self.node.rooms[at];
        // Replays that wait for registrations wait for ever.
        let level = room.driver.parts.shard.catch_up_in(u64::MAX / 2).is_none();
        room.is_calm() && level && !self.is_any_ready(at) && !room.driver.parts.shard.has_leaving()
    }

    /// Judges everybody. `is_whole`: whoever is still connected has to have received everything.
    pub(super) fn judge_all(&mut self, is_whole: bool) {
        let log = self.node.log.lock();
        for client in self.clients.iter_mut().filter(|client| !client.is_judged) {
            client.is_judged = true;
            let room = &self.node.rooms[client.shard];
            let judge = Judge::new(client, room, &log, &self.settings);
            let is_open = is_whole && !client.has_ended() && !client.is_gone;
            let whole = match client.items.last() {
                Some(Item::Close { reason, .. }) if reason.is_empty() => Whole::Until(client.closes_at.unwrap_or(0)),
                _ if is_open => Whole::Until(log.facts.len() as u64),
                _ => Whole::Prefix,
            };
            let number = client.number;
            let steps = self.trace.steps.len();
            for item in &client.items {
                let text: String = format!("{item:?}").chars().take(240).collect();
                self.trace.mix(&text);
                self.trace.steps.push_back(text);
            }
            if is_open {
                assert_eq!(client.unread(), 0, "client {number} has received half a frame");
                let answers = client.items.iter().filter(|item| matches!(item, Item::Answer { .. })).count();
                assert_eq!(answers, client.commands.len(), "client {number}: every command is answered");
            }
            self.trace
                .steps
                .push_back(format!("client {number} is judged: {whole:?} {:?} {:?}", client.overflow, client.since));
            if client.since.is_some() {
                judge.replayed(is_open);
            } else {
                judge.live(whole);
            }
            self.trace.steps.truncate(steps);
        }
    }

    /// Everybody leaves, or the server drains.
    pub(super) fn leave(&mut self) {
        for at in 0..self.clients.len() {
            let how = self.random.below(3);
            self.part_with(at, how);
        }
        self.rest(true);
        for at in 0..self.clients.len() {
            if !self.clients[at].pipe.borrow().is_dropped {
                self.clients[at].closes_at = None;
                self.part_with(at, 2);
            }
        }
        self.rest(true);
    }

    pub(super) fn check_nothing_is_left(&mut self) {
        for room in &mut self.node.rooms {
            let driver = &mut room.driver;
            assert_eq!((driver.open, room.load.load(Ordering::Relaxed)), (0, 0), "connections");
            assert!(room.parser.waiting() == 0 && driver.parsing == 0, "jobs of the parser");
            let shard = &mut driver.parts.shard;
            assert!(shard.is_empty(), "registrations, frames or sessions");
            let waiting = shard.fanout().waiting();
            assert_eq!((waiting.events, waiting.bytes), (0, 0), "queued events");
            assert!(!shard.fanout().has_leftovers() && shard.lagging() == 0);
        }
        assert!(self.clients.iter().all(|client| client.pipe.borrow().is_dropped), "sockets");
        self.check_permits();
        let limit = i64::try_from(self.settings.total_bytes).unwrap();
        self.node.budget.add(limit);
        assert!(!self.node.budget.is_exceeded(), "the budget holds bytes of nobody");
        self.node.budget.add(1);
        assert!(self.node.budget.is_exceeded(), "the budget is below zero");
        let metrics = self.node.broker.metrics();
        assert_eq!((metrics.connections.get(), metrics.registrations.get()), (0, 0), "gauges");
        self.check_counts();
    }

    pub(super) fn check_permits(&self) {
        let permits: Vec<Permit> = (0..CLIENTS).map_while(|_| self.connection_limit.admit()).collect();
        assert_eq!(permits.len(), CLIENTS, "every permit was given back");
    }

    /// Every delivery has one outcome.
    fn check_counts(&self) {
        let text = self.node.broker.metrics().render(0);
        let sum = |name: &str| {
            let lines = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
        };
        let outcomes = ["total ", "dropped_total", "conflated_total"];
        let outcomes = outcomes.iter().map(|name| sum(&format!("hydrant_deliveries_{name}"))).sum::<f64>();
        let matched = sum("hydrant_deliveries_matched_total");
        assert!((matched - outcomes).abs() < 0.5, "{matched} matched, {outcomes} delivered, dropped or conflated");
    }
}
