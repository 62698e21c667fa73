//! Connections that asked for the past (`?since=`): given retained events in portions, then joined with the others.
//!
//! While a connection is behind, its outbox takes no live events; they are in the history too and come from there, in order. So a
//! client that reads slowly holds nothing but its bounded outbox. If the history forgets events before they were given, a
//! notice in their place says how many.

use std::ops::Range as Numbers;
use std::sync::Arc;

use jiff::Timestamp;

use super::outbox::ConnId;
use super::replay::{Range, Replay};
use super::session::{Session, Shard, sees};
use crate::auth::{Access, Principal};
use crate::broker::CONNECTIONS;
use crate::broker::archive::Piece;
use crate::broker::gap::Gap;
use crate::broker::history::{History, Retained, Start};
use crate::event::Event;
use crate::index::{Limits, Overdrawn, Work};
use crate::overflow::Overflow;
use crate::stats::Delivery;

/// Events taken from the history at a time.
const PORTION: usize = 64;

/// How much of the past may be looked at in a turn, for all connections together.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Events.
    pub events: usize,
    /// Bytes of the events that are delivered.
    pub bytes: usize,
    /// Work of filters, in the units of [`Work`](crate::index::Work). Replays are held up and not closed where it ends.
    pub work: u64,
}

impl Allowance {
    fn is_spent(&self) -> bool {
        self.events == 0 || self.bytes == 0 || self.work == 0
    }
}

/// What time it is, on both scales.
#[derive(Debug, Clone, Copy)]
struct Now {
    us: u64,
    time: Timestamp,
}

impl Shard {
    /// Takes a connection in that wants the past from `start` on.
    pub fn open_since(
        &mut self,
        principal: Principal,
        access: &Arc<Access>,
        overflow: Overflow,
        start: Start,
    ) -> ConnId {
        let conn = self.open(principal, access, overflow);
        // The index is the gate: a role may allow more registrations than the settings do.
        let work = Work { event: self.limits.work.event, ..Work::UNLIMITED };
        let replay = Replay::new(start, Limits { registrations: usize::MAX, work, ..self.limits }, &self.wake);
        self.session(conn).replay = Some(Box::new(replay));
        self.fanout.set_paused(conn, true);
        conn
    }

    fn session(&mut self, conn: ConnId) -> &mut Session {
        self.sessions[conn.0 as usize].as_mut().expect("asked for between open and remove")
    }

    /// The next event that is published has this number.
    pub fn set_position(&mut self, position: u64) {
        self.position = position;
    }

    /// After a registration: what it matches of the past is still to come.
    pub(super) fn look_back(&mut self, conn: ConnId, spec: &str, new: bool) {
        let (position, paused) = (self.position, self.fanout.is_paused(conn));
        let Some(replay) = self.session(conn).replay.as_mut().filter(|_| new) else { return };
        if !paused {
            replay.went_live_until(position);
        }
        replay.register(spec);
        if !std::mem::replace(&mut replay.listed, true) {
            self.behind.push_back(conn);
        }
        self.fanout.set_paused(conn, true);
    }

    /// After a registration was taken back.
    pub(super) fn stop_looking_back(&mut self, conn: ConnId, spec: &str, now: Timestamp) {
        let live_until = (!self.fanout.is_paused(conn)).then_some(self.position);
        let Some(replay) = &mut self.session(conn).replay else { return };
        if !replay.deregister(spec, live_until) {
            self.give_up(conn, now);
        }
    }

    /// Ends the replay of a connection that takes back more registrations than are remembered; it hears of it if it is behind.
    fn give_up(&mut self, conn: ConnId, now: Timestamp) {
        let Some(replay) = self.session(conn).replay.take() else { return };
        if self.fanout.is_paused(conn) {
            let gap = Gap { from: None, to: now, events: None };
            self.answer(conn, gap.notice(replay.requested(), now));
        }
        self.fanout.set_paused(conn, false);
        if replay.listed {
            self.behind.retain(|other| *other != conn);
        }
    }

    /// The connection is forgotten.
    pub(super) fn forget_past(&mut self, conn: ConnId, session: &Session) {
        if session.replay.as_ref().is_some_and(|replay| replay.listed) {
            self.behind.retain(|other| *other != conn);
        }
    }

    /// Whether [`Shard::catch_up`] would get on now.
    pub fn may_catch_up(&self) -> bool {
        self.behind.iter().any(|&conn| {
            let session = self.sessions[conn.0 as usize].as_ref();
            let replay = session.filter(|session| session.slot.is_some()).and_then(|session| session.replay.as_ref());
            replay
                .is_none_or(|replay| replay.has_work(self.position) && self.fanout.has_spare_room(conn, replay.held_up))
        })
    }

    /// Gives connections that are behind a portion of the past, each in its turn, within the allowance.
    pub fn catch_up(&mut self, history: &History, mut allowance: Allowance, now_us: u64, now: Timestamp) {
        let now = Now { us: now_us, time: now };
        for _ in 0..self.behind.len() {
            if allowance.is_spent() {
                break;
            }
            let Some(conn) = self.behind.pop_front() else { break };
            if self.catch_up_one(conn, history, &mut allowance, now) {
                self.behind.push_back(conn);
            }
        }
    }

    /// Returns whether the connection is still behind.
    fn catch_up_one(&mut self, conn: ConnId, history: &History, allowance: &mut Allowance, now: Now) -> bool {
        let Some(session) = self.sessions[conn.0 as usize].as_mut().filter(|session| session.slot.is_some()) else {
            return false;
        };
        let Some(mut replay) = session.replay.take() else { return false };
        self.fanout.set_paused(conn, false);
        let behind = self.go_on(conn, &mut replay, history, allowance, now);
        replay.listed = behind;
        self.fanout.set_paused(conn, behind);
        self.session(conn).replay = Some(replay);
        behind
    }

    fn go_on(
        &mut self,
        conn: ConnId,
        replay: &mut Replay,
        history: &History,
        allowance: &mut Allowance,
        now: Now,
    ) -> bool {
        while !allowance.is_spent() && self.fanout.has_spare_room(conn, replay.held_up) {
            if let Some(gap) = replay.take_gap() {
                self.tell_gap(conn, replay, &gap, now);
            }
            let Some(range) = replay.next(self.position) else { return !replay.is_level(self.position) };
            if replay.is_in_archive(range) {
                if !self.piece(conn, replay, range, allowance, now) {
                    break;
                }
            } else {
                self.portion(conn, replay, range, history, allowance, now);
            }
        }
        true
    }

    /// Looks at the next piece from the archive. Returns false if there is none yet or no room for it.
    fn piece(&mut self, conn: ConnId, replay: &mut Replay, range: Range, allowance: &mut Allowance, now: Now) -> bool {
        replay.held_up = match replay.peek() {
            None => return false,
            Some(Piece::Event(_, event)) => event.frame().len(),
            Some(Piece::Gap(_) | Piece::End(_)) => 0,
        };
        if !self.fanout.has_spare_room(conn, replay.held_up) {
            return false;
        }
        match replay.take() {
            Some(Piece::Event(place, event)) if place < range.until => {
                self.consider(conn, replay, place, &event, allowance, now);
            }
            Some(Piece::Gap(gap)) => self.tell_gap(conn, replay, &gap, now),
            Some(Piece::End(seam)) => {
                if replay.leave_archive(seam, self.position) {
                    self.tell_gap(conn, replay, &Gap { from: None, to: now.time, events: None }, now);
                }
            }
            Some(Piece::Event(..)) | None => {}
        }
        replay.held_up = 0;
        true
    }

    /// Looks at the next events of a range.
    fn portion(
        &mut self,
        conn: ConnId,
        replay: &mut Replay,
        range: Range,
        history: &History,
        allowance: &mut Allowance,
        now: Now,
    ) {
        let mut events = Vec::with_capacity(PORTION);
        let Numbers { start, end } = replay.numbers(range);
        let lost = history.read(start, end, PORTION.min(allowance.events), &mut events);
        let missing = replay.not_given(start..start + lost);
        if missing > 0 {
            let gap = Gap { from: None, to: history.oldest().unwrap_or(now.time), events: Some(missing) };
            self.tell_gap(conn, replay, &gap, now);
        }
        if lost > 0 {
            replay.advance(range.from + lost);
        }
        for Retained { number, event, .. } in events {
            replay.held_up = event.frame().len();
            if allowance.is_spent() || !self.fanout.has_spare_room(conn, replay.held_up) {
                return;
            }
            replay.held_up = 0;
            if replay.was_given(number) {
                allowance.events -= 1;
                replay.advance(replay.place(number) + 1);
            } else {
                self.consider(conn, replay, replay.place(number), &event, allowance, now);
            }
        }
    }

    /// Gives the next event if the connection wants it and may see it.
    fn consider(
        &mut self,
        conn: ConnId,
        replay: &mut Replay,
        place: u64,
        event: &Arc<Event>,
        allowance: &mut Allowance,
        now: Now,
    ) {
        allowance.events -= 1;
        self.fanout.begin_event(event);
        // In this order: no filter is asked about what the connection may not see.
        let wanted = self.may_see(conn, event) && replay.wants(place, event);
        let cost = replay.take_cost();
        allowance.work = allowance.work.saturating_sub(cost.work);
        self.replayed.add(cost);
        if replay.is_overdrawn() {
            self.overspent(conn, Overdrawn::Event);
        } else if wanted {
            allowance.bytes = allowance.bytes.saturating_sub(event.frame().len());
            self.give(conn, event, now);
        }
        replay.advance(place + 1);
    }

    fn give(&mut self, conn: ConnId, event: &Arc<Event>, now: Now) {
        let delivery = self.fanout.deliver(event, now.us, conn);
        self.fanout.end_event();
        if delivery == Delivery::Overflow {
            self.shed(conn);
        }
    }

    fn tell_gap(&mut self, conn: ConnId, replay: &Replay, gap: &Gap, now: Now) {
        let notice = gap.notice(replay.requested(), now.time);
        self.answer(conn, notice);
    }

    fn may_see(&self, conn: ConnId, event: &Event) -> bool {
        let Some(session) = &self.sessions[conn.0 as usize] else { return false };
        let own = event.kind() == CONNECTIONS && session.principal.as_str() == event.key();
        own || sees(self.classes.access(session.class), event)
    }
}
