//! Bounds what the clients of one principal send without ever completing it: the fragments and the last frame of a
//! message, and a record of TLS.
//!
//! Contract: plain numbers of one shard. What a connection holds when its input has been handled counts in steps of
//! [`STEP`], rounded down. So a read costs a comparison, and the table of principals is used only when a step is
//! entered or left. It has no entries for zero.

use hashbrown::HashMap;

use super::Driver;
use crate::auth::Principal;
use crate::fanout::outbox::ConnId;
use crate::fanout::socket::Socket;
use crate::protocol::Close;

/// The unit in which incomplete input is counted, in bytes.
const STEP: usize = 1 << 10;

/// Bytes of incomplete input that all connections of a principal may hold on a shard.
const MOST: usize = 64 << 20;

/// The same in the longest messages, if these are more: a message and its frames take up to two.
const MESSAGES: usize = 4;

/// Steps of incomplete input by principal.
#[derive(Debug)]
pub(super) struct Incomplete {
    pub(super) by_principal: HashMap<Principal, usize>,
    pub(super) most: usize,
}

impl Incomplete {
    /// Creates the table for messages up to `longest` bytes.
    pub(super) fn new(longest: usize) -> Self {
        Self { by_principal: HashMap::new(), most: MOST.max(longest.saturating_mul(MESSAGES)) / STEP }
    }

    /// Changes the steps of a connection. Returns whether its principal keeps within the bound.
    fn change(&mut self, principal: &Principal, before: usize, now: usize) -> bool {
        let total = self.by_principal.get(principal).map_or(0, |total| total - before) + now;
        if total == 0 {
            self.by_principal.remove(principal);
        } else if let Some(known) = self.by_principal.get_mut(principal) {
            *known = total;
        } else {
            self.by_principal.insert(principal.clone(), total);
        }
        total <= self.most
    }
}

impl<S: Socket> Driver<S> {
    /// Counts what a connection holds of incomplete input, and closes it if its principal holds too much.
    pub(super) fn count_incomplete(&mut self, conn: ConnId) {
        let Some(entry) = self.conns.get_mut(conn.0 as usize).and_then(Option::as_mut) else { return };
        let held = entry.validator.held_bytes() + entry.link.undigested_bytes();
        let steps = u32::try_from(held / STEP).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut entry.incomplete, steps);
        if before == steps {
            return;
        }
        let principal = entry.identity.principal();
        if !self.incomplete.change(principal, before as usize, steps as usize) && steps > before {
            entry.validator.give_up();
            self.parts.shard.close(conn, Close::Incomplete);
            self.count_incomplete(conn);
        }
    }

    /// Stops counting a connection that is gone.
    pub(super) fn forget_incomplete(&mut self, principal: &Principal, steps: u32) {
        if steps > 0 {
            self.incomplete.change(principal, steps as usize, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_gone_is_not_in_the_table() {
        let mut table = Incomplete::new(1 << 10);
        let [one, other] = ["a", "b"].map(|name| Principal::user(name).unwrap());
        assert!(table.change(&one, 0, MOST / STEP) && table.change(&other, 0, 1), "each has its own bound");
        assert!(!table.change(&one, 0, 1));
        assert!(table.change(&one, MOST / STEP, 0) && table.change(&other, 1, 0));
        assert!(table.change(&one, 1, 0) && table.by_principal.is_empty());
        assert!(Incomplete::new(1 << 30).most > MOST / STEP, "one long message has room");
    }
}
