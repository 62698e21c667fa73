//! Counts what is queued besides events for connections with *drop-oldest*. A turn that has no time to go through such
//! a queue drops it in one step, if nothing in it has to stay, and reports how many events were in it.
//!
//! Contract: exact, for the policy *drop-oldest* only. A connection that has nothing but events queued has no entry, so
//! events cost nothing.

use hashbrown::HashMap;

use super::ConnId;

/// What is queued for a connection besides events and gap notices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Aside {
    /// Frames that have to stay.
    pub(super) answers: u32,
    /// Pings and pongs.
    pub(super) beats: u32,
}

impl Aside {
    /// A frame that has to stay.
    pub(super) const ANSWER: Self = Self { answers: 1, beats: 0 };

    /// A ping or pong.
    pub(super) const BEAT: Self = Self { answers: 0, beats: 1 };

    /// Returns the number of frames.
    pub(super) fn frames(self) -> u32 {
        self.answers + self.beats
    }
}

/// What is queued besides events, by connection.
#[derive(Debug, Default)]
pub(super) struct Asides(HashMap<ConnId, Aside>);

impl Asides {
    /// Returns what is queued for a connection.
    pub(super) fn of(&self, conn: ConnId) -> Aside {
        self.0.get(&conn).copied().unwrap_or_default()
    }

    /// Counts a frame that was queued.
    pub(super) fn add(&mut self, conn: ConnId, frame: Aside) {
        let Aside { answers, beats } = self.of(conn);
        self.set(conn, Aside { answers: answers + frame.answers, beats: beats + frame.beats });
    }

    /// Counts a frame that is no longer queued.
    pub(super) fn remove(&mut self, conn: ConnId, frame: Aside) {
        let Aside { answers, beats } = self.of(conn);
        self.set(conn, Aside { answers: answers - frame.answers, beats: beats - frame.beats });
    }

    /// Sets what is queued for a connection.
    pub(super) fn set(&mut self, conn: ConnId, left: Aside) {
        if left == Aside::default() {
            self.0.remove(&conn);
        } else {
            self.0.insert(conn, left);
        }
    }

    /// Returns whether nothing but events is queued.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
