//! Removes the registrations of closed connections from the index, and moves registrations to another class when rights
//! change: a part in each turn.
//!
//! A connection may have thousands of registrations, and hundreds of such connections may close, or get other rights,
//! at once. So a connection with more than [`AT_ONCE`] entries in the index waits for [`Shard::let_go`] or
//! [`Shard::move_on`]. The same goes for the index of its own that a replay has.
//!
//! Contract: a connection that is gone receives nothing more, and its number is not reused until its registrations are
//! out of the index. While the registrations of a connection with new rights move, its events are checked again before
//! delivery: what the new rights do not show is not delivered. An event that the new rights show and the old ones did
//! not is delivered if it matches a registration that has moved, and not if it only matches one that has not.

use std::sync::Arc;

use super::outbox::ConnId;
use super::session::Shard;
use crate::auth::Access;
use crate::index::Slot;

/// Index entries that are removed or moved immediately.
const AT_ONCE: usize = 64;

impl Shard {
    /// Forgets a connection.
    pub fn remove(&mut self, conn: ConnId) {
        self.unwarned.remove(&conn);
        let Some(session) = self.sessions[conn.0 as usize].as_mut().filter(|session| !session.is_gone) else { return };
        session.is_gone = true;
        if let Some(replay) = session.replay.take() {
            if let Some(place) = replay.lag {
                self.lagging.take(place);
            }
            let registered = replay.into_registered();
            if registered.is_heavier_than(AT_ONCE) {
                self.ended.push_back(registered);
            }
        }
        self.unsubscribe(conn);
        match self.leaving_slot(conn) {
            Some(slot) if self.index.weight(slot) > AT_ONCE => self.fanout.retire(conn),
            Some(slot) => self.end_leaving(conn, slot),
            None => self.forget(conn),
        }
    }

    /// Queues the registrations of a closing connection for [`Shard::let_go`].
    pub(super) fn unsubscribe(&mut self, conn: ConnId) {
        let Some(session) = self.sessions[conn.0 as usize].as_mut() else { return };
        if let Some(slot) = session.slot.take() {
            session.leaving = Some(slot);
            self.index.pause(slot, true);
            self.leaving.push_back(conn);
        }
    }

    fn leaving_slot(&self, conn: ConnId) -> Option<Slot> {
        self.sessions[conn.0 as usize].as_ref()?.leaving
    }

    /// Removes the registrations of closed connections from the index, one connection after the other, up to this
    /// number of index entries, and then those of their replays.
    pub fn let_go(&mut self, places: usize) {
        let mut left = places;
        while left > 0
            && let Some(&conn) = self.leaving.front()
        {
            // The connection may have gone since, and its number may be reused.
            if let Some(slot) = self.leaving_slot(conn) {
                left = left.saturating_sub(1 + self.index.strip(slot, left));
                self.has_changed = true;
                if self.index.registrations(slot) > 0 {
                    return;
                }
                self.end_leaving(conn, slot);
            }
            self.leaving.pop_front();
        }
        while left > 0
            && let Some(registered) = self.ended.front_mut()
        {
            left = left.saturating_sub(1 + registered.strip(left));
            if registered.is_empty() {
                self.ended.pop_front();
            }
        }
    }

    /// Returns whether registrations of closed connections are still in an index, or some have yet to move.
    pub fn has_leaving(&self) -> bool {
        !self.leaving.is_empty() || !self.ended.is_empty() || !self.moving.is_empty()
    }

    fn end_leaving(&mut self, conn: ConnId, slot: Slot) {
        self.index.unsubscribe(slot);
        self.has_changed = true;
        let Some(session) = self.sessions[conn.0 as usize].as_mut() else { return };
        session.leaving = None;
        let moving = session.moving.take();
        moving.into_iter().flat_map(|moving| moving.old).for_each(|class| self.classes.release(class));
        if session.is_gone {
            self.forget(conn);
        }
    }

    fn forget(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions[conn.0 as usize].take() {
            self.classes.release(session.class);
            self.fanout.remove(conn);
        }
    }

    /// Gives a connection other rights and limits, from the next event and command on. Returns the number of index
    /// entries moved so far; [`Shard::move_on`] moves the rest.
    pub fn set_access(&mut self, conn: ConnId, access: &Arc<Access>) -> usize {
        let Some(session) = self.sessions[conn.0 as usize].as_mut() else { return 0 };
        // A closing connection keeps its class: its registrations belong to it until they are out of the index.
        let Some(slot) = session.slot else { return 0 };
        let class = self.classes.acquire(access);
        self.index.allow(slot, access.limits().registrations());
        if class == session.class && session.moving.is_none() {
            self.classes.release(class);
            return 0;
        }
        let old = std::mem::replace(&mut session.class, class);
        let moving = session.moving.get_or_insert_default();
        moving.after = None;
        if old == class || moving.old.contains(&old) {
            self.classes.release(old);
        } else {
            moving.old.push(old);
        }
        self.index.set_class(slot, class);
        let moved = self.move_some(conn, AT_ONCE);
        if self.sessions[conn.0 as usize].as_ref().is_some_and(|session| session.moving.is_some()) {
            self.fanout.set_guarded(conn, true);
            self.moving.push_back(conn);
        }
        moved
    }

    /// Moves registrations of connections whose rights have changed, up to this number of index entries.
    pub fn move_on(&mut self, places: usize) {
        let mut left = places;
        while left > 0
            && let Some(&conn) = self.moving.front()
        {
            left = left.saturating_sub(1 + self.move_some(conn, left));
            let session = self.sessions[conn.0 as usize].as_ref();
            if !session.is_some_and(|session| session.slot.is_some() && session.moving.is_some()) {
                self.moving.pop_front();
            }
        }
    }

    fn move_some(&mut self, conn: ConnId, places: usize) -> usize {
        let Some(session) = self.sessions[conn.0 as usize].as_mut() else { return 0 };
        let (Some(slot), Some(moving)) = (session.slot, session.moving.as_mut()) else { return 0 };
        let regrouped = self.index.regroup(slot, moving.after.take(), places);
        moving.after = regrouped.after;
        if moving.after.is_none() {
            let moving = session.moving.take();
            moving.into_iter().flat_map(|moving| moving.old).for_each(|class| self.classes.release(class));
            self.fanout.set_guarded(conn, false);
        }
        regrouped.moved
    }
}
