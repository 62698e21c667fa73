//! The steps of a replay: each handles a page's next chunk or a batch of the history, and delivers what is wanted.
//!
//! Contract: a step takes no more than the [`Allowance`] of the turn has left, and than the connection has room for.
//! Rights come first: no filter runs on an event that the connection may not see.

use std::sync::Arc;

use jiff::Timestamp;

use super::outbox::ConnId;
use super::replay::{Range, Replay};
use super::session::{Shard, may_see};
use crate::broker::archive::Chunk;
use crate::broker::gap::Gap;
use crate::broker::history::{History, Retained};
use crate::event::Event;
use crate::index::Overdrawn;
use crate::stats::Delivery;

/// Events read from the history at a time.
const BATCH: usize = 64;

/// Limits on the history that is read per turn, for all connections together.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Number of events.
    pub events: usize,
    /// Bytes of the delivered events.
    pub bytes: usize,
    /// Filter work, in the units of [`Work`](crate::index::Work). At this limit replays are delayed, not closed.
    pub work: u64,
}

impl Allowance {
    pub(super) fn is_spent(&self) -> bool {
        self.events == 0 || self.bytes == 0 || self.work == 0
    }
}

/// The current time, on both scales.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) us: u64,
    pub(super) time: Timestamp,
}

/// What all replays of a turn share.
#[derive(Debug)]
pub(super) struct Turn<'h> {
    pub(super) history: &'h History,
    pub(super) allowance: Allowance,
    pub(super) now: Now,
}

impl Shard {
    /// Returns until when a connection has to wait because its filters, or its principal's, have used up the budget of
    /// this second.
    pub(super) fn work_until(&self, conn: ConnId, replay: &Replay, now: Now) -> Option<u64> {
        let session = self.sessions[conn.0 as usize].as_ref()?;
        self.replay_work.wait_until(&replay.spent, &session.principal, now.us)
    }

    /// Handles the next chunk from the archive. Returns false if there is none yet or no room for it.
    pub(super) fn chunk(&mut self, conn: ConnId, replay: &mut Replay, turn: &mut Turn<'_>) -> bool {
        replay.held_up = match replay.peek() {
            None => return false,
            Some(Chunk::Event(_, event)) => event.frame().len(),
            Some(Chunk::Gap(_) | Chunk::End(_) | Chunk::Died) => 0,
        };
        if !self.fanout.has_spare_room(conn, replay.held_up) {
            return false;
        }
        match replay.take() {
            Some(Chunk::Event(position, event)) => {
                self.consider(conn, replay, position, &event, turn);
            }
            Some(Chunk::Gap(gap)) => self.report_gap(conn, replay, &gap, turn.now),
            Some(Chunk::End(splice)) => replay.leave_archive(splice),
            Some(Chunk::Died) => {
                replay.give_up_archive(self.position);
                let to = turn.history.moment_before(self.position).unwrap_or(turn.now.time);
                self.report_gap(conn, replay, &Gap { from: None, to, events: None }, turn.now);
            }
            None => {}
        }
        replay.held_up = 0;
        true
    }

    /// Handles the next events of a range.
    pub(super) fn read_batch(&mut self, conn: ConnId, replay: &mut Replay, range: Range, turn: &mut Turn<'_>) {
        let (history, now) = (turn.history, turn.now);
        let mut events = Vec::with_capacity(BATCH);
        let numbers = replay.numbers(range);
        let (start, end, oldest) = (numbers.start, numbers.end, history.oldest());
        let read = history.read(numbers, replay.notified(), BATCH.min(turn.allowance.events), &mut events);
        // Events that the shard has not yet published may be gone from the history too. They come live and are not
        // counted here.
        let to = if start + read.lost < end { oldest } else { history.moment_before(end) }.unwrap_or(now.time);
        let missing = replay.undelivered(start..start + read.lost) + read.connections;
        if missing > 0 {
            self.report_gap(conn, replay, &Gap { from: None, to, events: Some(missing) }, now);
        }
        replay.set_notified(read.notified);
        if read.lost > 0 {
            replay.advance(range.from + read.lost);
        }
        for Retained { number, event, .. } in events {
            replay.held_up = event.frame().len();
            let room = !turn.allowance.is_spent() && self.fanout.has_spare_room(conn, replay.held_up);
            let must_wait = !room || self.work_until(conn, replay, now).is_some();
            if must_wait || replay.held.is_ready() || self.fanout.is_closing(conn) {
                return;
            }
            replay.held_up = 0;
            if replay.was_delivered(number) {
                turn.allowance.events -= 1;
                replay.advance(replay.position(number) + 1);
            } else {
                self.consider(conn, replay, replay.position(number), &event, turn);
            }
        }
        replay.advance(replay.position(read.next));
    }

    /// Delivers the next event if it matches a registration of the connection and the connection may see it.
    fn consider(&mut self, conn: ConnId, replay: &mut Replay, position: u64, event: &Arc<Event>, turn: &mut Turn<'_>) {
        let Turn { allowance, now, .. } = turn;
        allowance.events -= 1;
        self.fanout.begin_event(event);
        // In this order: no filter is evaluated on an event that the connection may not see.
        let wanted = self.may_see(conn, event) && replay.wants(position, event);
        let cost = replay.take_cost();
        allowance.work = allowance.work.saturating_sub(cost.work);
        if let Some(session) = &self.sessions[conn.0 as usize] {
            self.replay_work.charge(&mut replay.spent, &session.principal, cost.work, now.us);
        }
        self.replayed.add(cost);
        if replay.is_overdrawn() {
            self.overspent(conn, Overdrawn::Event);
        } else if wanted {
            allowance.bytes = allowance.bytes.saturating_sub(event.frame().len());
            self.give(conn, event, *now);
            replay.delivered();
        }
        replay.pass_by(event, position + 1);
    }

    fn give(&mut self, conn: ConnId, event: &Arc<Event>, now: Now) {
        // Without a check of rights, which `consider` has done, and although live events are paused.
        let delivery = self.fanout.deliver_checked(event, now.us, conn);
        self.fanout.end_event();
        if delivery == Delivery::Overflow {
            self.evict(conn);
        }
    }

    pub(super) fn report_gap(&mut self, conn: ConnId, replay: &Replay, gap: &Gap, now: Now) {
        let notice = gap.notice(replay.requested(), replay.safe_time(gap, now.time));
        self.answer(conn, notice);
    }

    fn may_see(&self, conn: ConnId, event: &Event) -> bool {
        may_see(self.sessions[conn.0 as usize].as_ref(), &self.classes, event)
    }
}
