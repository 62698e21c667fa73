//! Connections whose events are paused, or checked again by the caller.
//!
//! Contract: as for [`Fanout`]. A paused connection still gets answers and control frames, and is reported by
//! [`Fanout::pop_roomier`] when its queue shrinks.

use super::intake::{Guard, Intake};
use super::queue::Outbox;
use super::{ConnId, Fanout};
use crate::stats::Delivery;

impl Fanout {
    /// Pauses or resumes the events of a connection that has yet to receive earlier ones. While paused,
    /// [`Fanout::deliver`] returns `Closed`.
    pub fn set_paused(&mut self, conn: ConnId, paused: bool) {
        self.outbox(conn).set_paused(paused);
    }

    /// Sets whether the caller must check each event again; then [`Fanout::deliver`] returns `Guarded`.
    pub fn set_guarded(&mut self, conn: ConnId, guarded: bool) {
        self.outbox(conn).set_guarded(guarded);
    }

    /// Returns whether the connection's events are paused.
    pub fn is_paused(&self, conn: ConnId) -> bool {
        self.outboxes.get(conn.at()).and_then(Option::as_ref).is_some_and(Outbox::is_paused)
    }

    /// Removes and returns a paused connection whose queue has shrunk; the same one may be returned more than once.
    pub fn pop_roomier(&mut self) -> Option<ConnId> {
        self.roomier.pop()
    }

    /// Returns whether [`Fanout::pop_roomier`] would return a connection.
    pub fn has_roomier(&self) -> bool {
        !self.roomier.is_empty()
    }

    /// Notes that the queue of a connection has shrunk.
    pub(super) fn note_room(&mut self, conn: ConnId) {
        if self.is_paused(conn) {
            self.roomier.push(conn);
        }
    }
}

impl Outbox {
    pub(super) fn is_closing(&self) -> bool {
        self.intake == Intake::Closed
    }

    /// Does nothing once the outbox is closing.
    pub(super) fn set_paused(&mut self, paused: bool) {
        if self.intake != Intake::Closed {
            self.intake = if paused { Intake::Paused } else { Intake::Open };
        }
    }

    pub(super) fn set_guarded(&mut self, guarded: bool) {
        self.guard = if guarded { Guard::On } else { Guard::Off };
    }

    /// Returns why an event may not be queued directly, or `None` if it may.
    #[inline]
    pub(super) fn refuses(&self) -> Option<Delivery> {
        match self.intake {
            Intake::Paused => Some(Delivery::Closed),
            _ if self.guard == Guard::On => Some(Delivery::Guarded),
            _ => None,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.intake == Intake::Paused
    }

    pub(super) fn set_closing(&mut self) {
        self.intake = Intake::Closed;
    }
}
