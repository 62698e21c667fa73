//! Connections whose events pass them by for a while, or are looked at once more.
//!
//! Contract: as the fan-out's text says. A connection that is paused gets answers and control frames all the same, and
//! is told of ([`Fanout::pop_roomier`]) when less waits for it.

use super::intake::{Guard, Intake};
use super::queue::Outbox;
use super::{ConnId, Fanout};
use crate::stats::Delivery;

impl Fanout {
    /// Whether events pass the connection by, because it has yet to get earlier ones ([`Fanout::deliver`] says
    /// `Closed`).
    pub fn set_paused(&mut self, conn: ConnId, paused: bool) {
        self.outbox(conn).set_paused(paused);
    }

    /// Whether the caller is asked about each event once more ([`Fanout::deliver`] says `Guarded`).
    pub fn set_guarded(&mut self, conn: ConnId, guarded: bool) {
        self.outbox(conn).set_guarded(guarded);
    }

    /// Whether events pass the connection by.
    pub fn is_paused(&self, conn: ConnId) -> bool {
        self.outboxes.get(conn.at()).and_then(Option::as_ref).is_some_and(Outbox::is_paused)
    }

    /// A connection that events pass by and for which less waits than when it was last asked; maybe more than once.
    pub fn pop_roomier(&mut self) -> Option<ConnId> {
        self.roomier.pop()
    }

    /// Whether there is one.
    pub fn has_roomier(&self) -> bool {
        !self.roomier.is_empty()
    }

    /// Less waits for a connection than before.
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

    /// Changes nothing once it is closing.
    pub(super) fn set_paused(&mut self, paused: bool) {
        if self.intake != Intake::Closed {
            self.intake = if paused { Intake::Paused } else { Intake::Open };
        }
    }

    pub(super) fn set_guarded(&mut self, guarded: bool) {
        self.guard = if guarded { Guard::On } else { Guard::Off };
    }

    /// Why an event is not simply put in, if it is not.
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
