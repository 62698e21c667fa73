//! Tracks the connections that are still replaying, and which of them can continue.
//!
//! Thousands of connections may lag and wait: for room, for a page of the archive, or for a point in time. The work per
//! turn must not grow with their number. So those that can continue are in a queue, those that wait for a point in time
//! are sorted by it, and each of the others is checked once after something has changed, as many per turn as the caller
//! allows.
//!
//! Contract: pure. A connection has exactly one entry, which its replay remembers; every step takes O(log n).

use std::collections::BTreeMap;

use super::outbox::ConnId;

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing: it is ready.
    Turn,
    /// Room in its outbox, a page of the archive, or a command, reported by [`Lagging::stir`] or [`Lagging::changed`].
    Change,
    /// This time, in microseconds.
    Until(u64),
}

/// Finds the entry of a connection in [`Lagging`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaggingKey {
    wait: Wait,
    number: u64,
}

/// The connections of a shard that are still replaying, sorted by what they wait for. Every step takes O(log n).
#[derive(Debug, Default)]
pub(super) struct Lagging {
    next: u64,
    ready: BTreeMap<u64, ConnId>,
    waiting: BTreeMap<u64, ConnId>,
    timed: BTreeMap<(u64, u64), ConnId>,
    /// The number of waiting connections, from the front, that have not been checked since something changed.
    unseen: usize,
    is_turn_of_waiting: bool,
}

impl Lagging {
    /// Adds a connection behind the others.
    pub(super) fn put(&mut self, conn: ConnId, wait: Wait) -> LaggingKey {
        self.next += 1;
        let number = self.next;
        match wait {
            Wait::Turn => self.ready.insert(number, conn),
            Wait::Change => self.waiting.insert(number, conn),
            Wait::Until(us) => self.timed.insert((us, number), conn),
        };
        LaggingKey { wait, number }
    }

    /// Removes a connection.
    pub(super) fn take(&mut self, LaggingKey { wait, number }: LaggingKey) {
        match wait {
            Wait::Turn => self.ready.remove(&number),
            Wait::Change => self.waiting.remove(&number),
            Wait::Until(us) => self.timed.remove(&(us, number)),
        };
    }

    /// Moves one waiting connection to the ready ones, because something has changed for it.
    pub(super) fn stir(&mut self, conn: ConnId, key: LaggingKey) -> LaggingKey {
        if key.wait == Wait::Turn {
            return key;
        }
        self.take(key);
        self.put(conn, Wait::Turn)
    }

    /// Notes that something may have changed for any of the waiting connections.
    pub(super) fn changed(&mut self) {
        self.unseen = self.waiting.len();
    }

    /// Removes and returns the next connection to check.
    pub(super) fn pop(&mut self, now_us: u64) -> Option<ConnId> {
        if let Some(first) = self.timed.first_entry().filter(|first| first.key().0 <= now_us) {
            return Some(first.remove());
        }
        // Alternates with the waiting ones, so that neither queue blocks the other.
        self.is_turn_of_waiting = !self.is_turn_of_waiting;
        if self.unseen > 0 && (self.ready.is_empty() || self.is_turn_of_waiting) {
            self.unseen -= 1;
            if let Some((_, conn)) = self.waiting.pop_first() {
                return Some(conn);
            }
        }
        self.ready.pop_first().map(|(_, conn)| conn)
    }

    /// Returns the microseconds until there is a connection to check, if nothing changes.
    pub(super) fn wait_us(&self, now_us: u64) -> Option<u64> {
        if !self.ready.is_empty() || (self.unseen > 0 && !self.waiting.is_empty()) {
            return Some(0);
        }
        self.timed.first_key_value().map(|((us, _), _)| us.saturating_sub(now_us))
    }

    /// Returns the number of connections.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.waiting.len() + self.timed.len()
    }

    /// Returns whether some connections wait for a change.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_that_waits_is_looked_at_once_after_a_change() {
        let mut lagging = Lagging::default();
        let keys: Vec<LaggingKey> = (0..10).map(|n| lagging.put(ConnId(n), Wait::Change)).collect();
        assert_eq!((lagging.wait_us(0), lagging.pop(0)), (None, None), "nothing has changed");
        lagging.changed();
        lagging.take(keys[3]);
        let mut seen = Vec::new();
        while lagging.wait_us(0) == Some(0) {
            let Some(conn) = lagging.pop(0) else { continue };
            lagging.put(conn, Wait::Change);
            seen.push(conn.0);
        }
        assert_eq!(seen[..9], [0, 1, 2, 4, 5, 6, 7, 8, 9]);
        assert_eq!((lagging.len(), lagging.has_waiting()), (9, true));
    }

    #[test]
    fn those_that_wait_are_looked_at_beside_those_whose_turn_comes() {
        let mut lagging = Lagging::default();
        for n in 0..4 {
            lagging.put(ConnId(n), if n < 2 { Wait::Change } else { Wait::Turn });
        }
        lagging.changed();
        let mut seen: Vec<u32> = (0..4).filter_map(|_| lagging.pop(0)).map(|conn| conn.0).collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3]);
    }

    #[test]
    fn those_whose_moment_has_come_and_those_that_were_stirred_get_their_turn() {
        let mut lagging = Lagging::default();
        lagging.put(ConnId(1), Wait::Until(50));
        let key = lagging.put(ConnId(2), Wait::Change);
        assert_eq!((lagging.wait_us(20), lagging.pop(20)), (Some(30), None));
        assert_eq!(lagging.pop(50), Some(ConnId(1)));
        let key = lagging.stir(ConnId(2), key);
        assert_eq!(lagging.stir(ConnId(2), key), key, "it has its turn already");
        assert_eq!((lagging.pop(50), lagging.len()), (Some(ConnId(2)), 0));
    }
}
