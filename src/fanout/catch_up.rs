//! Connections with `?since=`: they receive retained events in batches and then join the live stream.
//!
//! While a connection lags, its outbox accepts no live events; those are in the history too, and are delivered from
//! there in order. So a slow client holds nothing but its bounded outbox. If the history drops events before they were
//! delivered, a gap notice reports how many.
//!
//! Contract: at every moment the client can resume from the Time of the last event or gap notice it was sent, for every
//! registration that was answered, without skipping an event. To achieve this there is one cursor ([`Replay`]). It
//! starts once the client has sent its registrations ([`super::opening`]); a later registration catches up with the
//! cursor before anything newer is sent, and its answer is held back until that has begun ([`super::held`]). Rights
//! come first: no filter runs on an event that the connection may not see.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::lagging::Wait;
use super::outbox::ConnId;
use super::replay::Replay;
use super::replay_steps::{Now, Turn};
use super::session::{Session, Shard};
use crate::auth::{Access, Principal};
use crate::broker::gap::Gap;
use crate::broker::history::{History, Start};
use crate::event::Event;
use crate::index::Spec;
use crate::overflow::Overflow;

pub use super::replay_steps::Allowance;

/// Connections looked at per turn.
const LOOKS: usize = 256;

impl Shard {
    /// Opens a connection with a replay from `start`. Its first `registrations` commands are those of its query:
    /// nothing is delivered before they are answered.
    pub fn open_since(
        &mut self,
        principal: Principal,
        access: &Arc<Access>,
        overflow: Overflow,
        start: Start,
        registrations: usize,
    ) -> ConnId {
        let replay = Replay::new(start, registrations, self.limits, &self.wake, principal.account());
        let conn = self.open(principal, access, overflow);
        self.session(conn).replay = Some(Box::new(replay));
        self.set_paused(conn, true);
        conn
    }

    /// Pauses or resumes live events. While paused, the connection's filters are not evaluated and cost it little.
    fn set_paused(&mut self, conn: ConnId, paused: bool) {
        self.fanout.set_paused(conn, paused);
        if let Some(slot) = self.session(conn).slot {
            self.index.pause(slot, paused);
        }
    }

    fn session(&mut self, conn: ConnId) -> &mut Session {
        self.sessions[conn.0 as usize].as_mut().expect("asked for between open and remove")
    }

    /// Sets the number of the next event to be published.
    pub fn set_position(&mut self, position: u64) {
        self.position = position;
        self.lagging.changed();
    }

    /// Has all lagging connections checked again, whatever they wait for.
    pub fn look_again(&mut self) {
        self.lagging.changed();
    }

    /// Begins the replay for a new registration, of the retained events it matches.
    pub(super) fn start_replay(&mut self, conn: ConnId, text: &str, spec: &Spec) {
        let (position, paused) = (self.position, self.fanout.is_paused(conn));
        let Some(replay) = self.session(conn).replay.as_mut() else { return };
        if !paused {
            replay.went_live_until(position);
        }
        replay.register(text, spec);
        if replay.lag.is_none() {
            let place = self.lagging.put(conn, Wait::Turn);
            self.session(conn).replay.as_mut().expect("looked at above").lag = Some(place);
        }
        self.set_paused(conn, true);
    }

    /// Has the replay of a connection forget what it need not know any more: the history begins at the number that
    /// `first` returns, which is called only if there is something to forget.
    pub fn forget_left_out(&mut self, conn: ConnId, first: impl FnOnce() -> u64) {
        let session = self.sessions.get_mut(conn.0 as usize).and_then(Option::as_mut);
        if let Some(replay) = session.and_then(|session| session.replay.as_mut()) {
            replay.forget_left_out(first);
        }
    }

    /// Ends the replay of a deregistered registration.
    pub(super) fn stop_replay(&mut self, conn: ConnId, spec: &str, now: Timestamp) {
        let live_until = (!self.fanout.is_paused(conn)).then_some(self.position);
        let Some(replay) = &mut self.session(conn).replay else { return };
        if !replay.deregister(spec, live_until) {
            self.skip_past(conn, now);
        }
    }

    /// Ends the replay of a connection that exceeds the limit on remembered deregistrations; a gap notice tells it if
    /// it lags.
    fn skip_past(&mut self, conn: ConnId, now: Timestamp) {
        let Some(mut replay) = self.session(conn).replay.take() else { return };
        replay.skip(self.position).for_each(|answer| self.answer(conn, answer));
        if self.fanout.is_paused(conn) {
            let gap = Gap { from: None, to: now, events: None };
            self.answer(conn, gap.notice(replay.requested(), replay.safe_time(&gap, now)));
        }
        self.session(conn).replay = Some(replay);
        self.stir(conn);
    }

    /// Sends the answers held back, before the last frame of a connection that closes normally.
    pub(super) fn send_held(&mut self, conn: ConnId) {
        let Some(mut replay) = self.session(conn).replay.take() else { return };
        replay.held.take_all().for_each(|answer| self.answer(conn, answer));
        self.session(conn).replay = Some(replay);
    }

    /// Notes that something has changed for a connection that may lag.
    fn stir(&mut self, conn: ConnId) {
        let session = self.sessions.get_mut(conn.0 as usize).and_then(Option::as_mut);
        let Some(replay) = session.and_then(|session| session.replay.as_mut()) else { return };
        replay.lag = replay.lag.map(|place| self.lagging.stir(conn, place));
    }

    /// Answers a command, after everything that must precede the answer. A connection with more answers held back than
    /// its outbox may hold is a slow consumer.
    pub(super) fn reply(&mut self, conn: ConnId, answer: Event) {
        let limits = self.fanout.limits();
        self.stir(conn);
        let Some(replay) = self.session(conn).replay.as_mut() else { return self.answer(conn, answer) };
        if let Some(answer) = replay.answer(answer) {
            return self.answer(conn, answer);
        }
        let (answers, bytes) = replay.held.size();
        if answers > limits.events || bytes > limits.bytes {
            self.evict(conn);
        }
    }

    /// Removes and returns a connection that has finished its replay since the last call.
    pub fn pop_level(&mut self) -> Option<ConnId> {
        self.level.pop()
    }

    /// Returns the number of lagging connections.
    pub fn lagging(&self) -> usize {
        self.lagging.len()
    }

    /// Returns the microseconds until [`Shard::catch_up`] can continue, or `None` if something has to change first.
    pub fn catch_up_in(&self, now_us: u64) -> Option<u64> {
        let has_pages = self.has_pages.load(Ordering::Acquire) && self.lagging.has_waiting();
        if has_pages || self.fanout.has_roomier() { Some(0) } else { self.lagging.wait_us(now_us) }
    }

    /// Gives lagging connections a batch of retained events, each in its turn, within the allowance. Looks at no more
    /// than [`LOOKS`] connections, however many lag.
    pub fn catch_up(&mut self, history: &History, allowance: Allowance, now_us: u64, now: Timestamp) {
        let mut turn = Turn { history, allowance, now: Now { us: now_us, time: now } };
        if self.has_pages.swap(false, Ordering::AcqRel) {
            self.lagging.changed();
        }
        while let Some(conn) = self.fanout.pop_roomier() {
            self.stir(conn);
        }
        for _ in 0..LOOKS {
            if turn.allowance.is_spent() {
                break;
            }
            let Some(conn) = self.lagging.pop(now_us) else { break };
            self.catch_up_one(conn, &mut turn);
        }
    }

    fn catch_up_one(&mut self, conn: ConnId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions[conn.0 as usize].as_mut() else { return };
        let (open, Some(mut replay)) = (session.slot.is_some(), session.replay.take()) else { return };
        replay.lag = None;
        replay.drop_withdrawn();
        if open {
            self.fanout.set_paused(conn, false);
            let wait = self.go_on(conn, &mut replay, turn);
            replay.lag = wait.map(|wait| self.lagging.put(conn, wait));
            self.set_paused(conn, wait.is_some());
            if wait.is_none() {
                self.level.push(conn);
            }
        }
        self.session(conn).replay = Some(replay);
    }

    /// Continues the replay of a connection. Returns what it waits for, or `None` if it no longer lags.
    fn go_on(&mut self, conn: ConnId, replay: &mut Replay, turn: &mut Turn<'_>) -> Option<Wait> {
        let now = turn.now;
        if !replay.opening.open_at(now.us) {
            return Some(replay.opening.wait_us(now.us).map_or(Wait::Change, |wait| Wait::Until(now.us + wait)));
        }
        while !turn.allowance.is_spent() {
            // Closed meanwhile, by its own filters or for lack of room.
            if self.fanout.is_closing(conn) {
                return None;
            }
            if !self.fanout.has_spare_room(conn, replay.held_up) {
                return Some(Wait::Change);
            }
            if let Some(until) = self.work_until(conn, replay, now) {
                return Some(Wait::Until(until));
            }
            if let Some(mut gap) = replay.take_gap() {
                let (first, oldest) = (turn.history.first().min(self.position), turn.history.oldest());
                replay.widen(&mut gap, first, oldest.unwrap_or(now.time));
                self.report_gap(conn, replay, &gap, now);
            }
            let range = replay.next(self.position);
            // Before any event of the next pass.
            if let Some(answer) = replay.held.take() {
                self.answer(conn, answer);
                continue;
            }
            let Some(range) = range else { return (!replay.is_level(self.position)).then_some(Wait::Change) };
            if !replay.is_in_archive(range) {
                self.read_batch(conn, replay, range, turn);
            } else if !self.chunk(conn, replay, turn) {
                return Some(Wait::Change);
            }
        }
        Some(Wait::Turn)
    }
}
