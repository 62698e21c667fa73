//! Tracks which registrations of a replay may match connection events, and which losses were reported to them.
//!
//! The history drops connection events before others, because their share in it is limited. A connection is notified of
//! the number of dropped ones, once for each part of the history, and only if it is registered for connection events.
//!
//! Contract: pure. A deregistered registration still counts until the connection ends: reporting too much is no loss.

use crate::broker::CONNECTIONS;

/// How far a registration has come in the replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It moves along with the cursor.
    Settled,
    /// The current pass is its own.
    Fresh,
    /// The next pass is its own.
    Waiting,
}

/// Tracks whether a replay has registrations for connection events, and which losses it has already reported.
#[derive(Debug)]
pub(super) struct Listeners {
    /// Whether there is such a registration, by stage.
    listens: [bool; 3],
    /// Up to these numbers all losses were reported: to the settled registrations, and in the current pass.
    notified: [u64; 2],
}

impl Listeners {
    /// Creates the state without registrations. Losses before the number `start` are not reported.
    pub(super) fn new(start: u64) -> Self {
        Self { listens: [false; 3], notified: [start; 2] }
    }

    /// Notes a registration.
    pub(super) fn register(&mut self, stage: Stage, text: &str) {
        let types = text.split('.').next().unwrap_or_default();
        self.listens[stage as usize] |= types.split(',').map(str::trim).any(|kind| kind == "*" || kind == CONNECTIONS);
    }

    /// Begins a pass at the number `start`.
    pub(super) fn begin_pass(&mut self, start: u64) {
        self.notified[1] = start;
    }

    /// Ends a pass: its registrations are settled, and the waiting ones are next.
    pub(super) fn end_pass(&mut self) {
        let [settled, fresh, waiting] = self.listens;
        self.listens = [settled || fresh, waiting, false];
    }

    /// Settles all registrations and gives up reporting losses before the number `start`.
    pub(super) fn skip(&mut self, start: u64) {
        self.listens = [self.listens.contains(&true), false, false];
        self.notified = [start; 2];
    }

    /// Returns the number from which on losses are to be reported, or `u64::MAX` if no registration matches them.
    pub(super) fn notified(&self, pass: bool) -> u64 {
        if self.listens[usize::from(pass)] { self.notified[usize::from(pass)] } else { u64::MAX }
    }

    /// Notes that losses were reported up to this number.
    pub(super) fn set_notified(&mut self, pass: bool, notified: u64) {
        if self.listens[usize::from(pass)] {
            self.notified[usize::from(pass)] = notified;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_may_listen_are_told_and_each_stretch_once() {
        let mut listeners = Listeners::new(5);
        listeners.register(Stage::Settled, "machines.connections.*");
        assert_eq!(listeners.notified(false), u64::MAX);
        listeners.register(Stage::Settled, "machines, connections.*.*");
        assert_eq!(listeners.notified(false), 5);
        listeners.set_notified(false, 9);
        listeners.begin_pass(5);
        assert_eq!((listeners.notified(false), listeners.notified(true)), (9, u64::MAX));
        listeners.register(Stage::Waiting, "*.*.*");
        listeners.end_pass();
        assert_eq!(listeners.notified(true), 5);
    }
}
