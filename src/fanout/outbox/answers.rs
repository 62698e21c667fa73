//! Counts the answers that are queued for connections with *drop-oldest*. A turn that has no time to go through such a
//! queue drops it in one step, if no answer is in it.
//!
//! Contract: exact, for the policy *drop-oldest* only. A connection that has no answer queued has no entry, so events
//! cost nothing.

use hashbrown::HashMap;

use super::ConnId;

/// The number of queued answers, by connection.
#[derive(Debug, Default)]
pub(super) struct Answers(HashMap<ConnId, u32>);

impl Answers {
    /// Returns how many are queued for a connection.
    pub(super) fn of(&self, conn: ConnId) -> u32 {
        self.0.get(&conn).copied().unwrap_or_default()
    }

    /// Counts one that was queued.
    pub(super) fn add(&mut self, conn: ConnId) {
        self.set(conn, self.of(conn) + 1);
    }

    /// Counts one that is no longer queued.
    pub(super) fn remove(&mut self, conn: ConnId) {
        self.set(conn, self.of(conn) - 1);
    }

    /// Sets how many are queued for a connection.
    pub(super) fn set(&mut self, conn: ConnId, left: u32) {
        if left == 0 {
            self.0.remove(&conn);
        } else {
            self.0.insert(conn, left);
        }
    }

    /// Returns whether none is queued.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
