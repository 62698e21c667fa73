//! A shard without its sockets: commands in, frames out.
//!
//! A [`Shard`] combines the index (who wants an event), the rights (who may see it) and the outboxes (how it is
//! queued) of the connections that one thread owns. It is driven from outside: the driver reads messages and writes
//! frames, and passes the sequencer's batches to [`Shard::publish`].
//!
//! Contract: single-threaded; no I/O, no clock. `execute.rs` executes commands. A registration takes effect inside
//! [`Shard::text`], before its answer enters the outbox, so every event published afterwards is delivered. After the
//! answer to a deregistration nothing is delivered because of it, since queued events already precede the answer.
//! Every message gets exactly one answer, in order; if there is no room for an answer, the connection is closed as a
//! slow consumer. A connection that asked for a replay gets it in batches by [`Shard::catch_up`], and live events only
//! after it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashSet;

use super::classes::{Classes, Moving};
use super::commands::Commands;
use super::lagging::Lagging;
use super::outbox::Budget;
use super::outbox::DeflatePolicy;
use super::outbox::Frame;
use super::outbox::{ConnId, Fanout, Largest};
use super::replay::{Registered, Replay};
use super::replay_work::ReplayWork;
use crate::auth::{Access, Principal};
use crate::broker::CONNECTIONS;
use crate::broker::archive::Wake;
use crate::event::Event;
use crate::index::filter::Counters;
use crate::index::{Class, Index, Limits, Overdrawn, Seen, Slot};
use crate::metrics::{FilterCost, ShardSize};
use crate::overflow::Overflow;
use crate::protocol::{Close, stream};
use crate::stats::{Delivery, Depth, Dropped, OutboxLimits};

/// The state of a connection in its shard.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) principal: Principal,
    pub(super) class: Class,
    /// `None` once the connection is closing: it gets no more events.
    pub(super) slot: Option<Slot>,
    /// The slot of a closing connection, until its registrations are out of the index. Meanwhile its outbox refuses
    /// events.
    pub(super) leaving: Option<Slot>,
    /// Whether its socket is gone and only its registrations are left.
    pub(super) is_gone: bool,
    /// Set when its rights have changed, until its registrations have followed.
    pub(super) moving: Option<Box<Moving>>,
    /// Set if the connection asked for a replay.
    pub(super) replay: Option<Box<Replay>>,
}

/// One shard without its sockets: index, rights and outboxes. Single-threaded; does no I/O and reads no clock.
#[derive(Debug)]
pub struct Shard {
    pub(super) index: Index<ConnId>,
    pub(super) fanout: Fanout,
    pub(super) classes: Classes,
    pub(super) sessions: Vec<Option<Session>>,
    pub(super) overflowed: Vec<ConnId>,
    pub(super) closing: Vec<(ConnId, Close)>,
    /// Closed connections whose registrations are still in the index.
    pub(super) leaving: VecDeque<ConnId>,
    /// Registrations of the replays of closed connections, which have yet to be freed.
    pub(super) ended: VecDeque<Registered>,
    /// Connections whose rights have changed and whose registrations have yet to follow.
    pub(super) moving: VecDeque<ConnId>,
    pub(super) commands: Commands,
    /// Names seen in events, for warnings.
    pub(super) seen: Seen,
    /// Connections that get no warnings in their answers.
    pub(super) unwarned: HashSet<ConnId>,
    /// The cost of filters at the last call of [`Shard::take_filter_cost`].
    pub(super) filters: Counters,
    /// The cost of the filters of replays since the last call of [`Shard::take_filter_cost`].
    pub(super) replayed: Counters,
    pub(super) limits: Limits,
    /// The number of the next event.
    pub(super) position: u64,
    /// Connections that finished their replay since the last call of [`Shard::pop_level`].
    pub(super) level: Vec<ConnId>,
    /// Connections that have yet to receive retained events.
    pub(super) lagging: Lagging,
    pub(super) replay_work: ReplayWork,
    /// Whether pages have arrived from the archive.
    pub(super) has_pages: Arc<AtomicBool>,
    /// Whether registrations have changed since the last [`Shard::tell_kinds`].
    pub(super) has_changed: bool,
    /// Bytes already reported to the budget and not yet to the metrics.
    pub(super) held: i64,
    /// Sets `has_pages` and wakes the shard's thread.
    pub(super) wake: Wake,
}

impl Shard {
    /// Creates a shard without connections. Without `deflate` every frame is plain.
    pub fn new(index: Limits, outbox: OutboxLimits, deflate: Option<DeflatePolicy>) -> Self {
        let fanout = Fanout::new(outbox);
        Self {
            index: Index::new(index).with_own_kind(CONNECTIONS),
            fanout: match deflate {
                Some(policy) => fanout.with_deflate(policy),
                None => fanout,
            },
            classes: Classes::default(),
            sessions: Vec::new(),
            overflowed: Vec::new(),
            closing: Vec::new(),
            leaving: VecDeque::new(),
            ended: VecDeque::new(),
            moving: VecDeque::new(),
            commands: Commands::default(),
            seen: Seen::default(),
            unwarned: HashSet::new(),
            filters: Counters::default(),
            replayed: Counters::default(),
            limits: index,
            position: 0,
            level: Vec::new(),
            lagging: Lagging::default(),
            replay_work: ReplayWork::new(index.work),
            has_pages: Arc::default(),
            has_changed: true,
            held: 0,
            wake: Wake::default(),
        }
        .with_wake(Wake::default())
    }

    /// Like [`Shard::new`], for a thread that sleeps while idle and is woken by `wake`.
    #[must_use]
    pub fn with_wake(self, wake: Wake) -> Self {
        let has_pages = Arc::clone(&self.has_pages);
        let wake = Wake::new(move || {
            has_pages.store(true, Ordering::Release);
            wake.wake();
        });
        Self { wake, ..self }
    }

    /// Opens a connection.
    pub fn open(&mut self, principal: Principal, access: &Arc<Access>, overflow: Overflow) -> ConnId {
        let conn = self.fanout.open(overflow);
        let class = self.classes.acquire(access);
        let slot = self.index.subscribe_for(conn, class, Some(principal.account()));
        self.index.allow(slot, access.limits().registrations());
        let slot = Some(slot);
        let at = conn.0 as usize;
        if at >= self.sessions.len() {
            self.sessions.resize_with(at + 1, || None);
        }
        self.sessions[at] =
            Some(Session { principal, class, slot, leaving: None, is_gone: false, moving: None, replay: None });
        conn
    }

    pub(super) fn answer(&mut self, conn: ConnId, answer: Event) {
        if !self.fanout.send(conn, Frame::Answer(Box::new(answer))) {
            self.evict(conn);
        }
    }

    /// Queues a control frame if there is room for it; connections that are full or gone get none.
    pub fn control(&mut self, conn: ConnId, frame: Frame) {
        if self.sessions.get(conn.0 as usize).is_some_and(Option::is_some) {
            self.fanout.offer(conn, frame);
        }
    }

    /// Delivers an event to every connection that has registered for it and may see it.
    ///
    /// Rights come first: no filter is evaluated on an event for a class that may not see it. An event about a
    /// connection is visible to its own principal too.
    pub fn publish(&mut self, event: &Arc<Event>, received_us: u64) {
        let Self { index, fanout, classes, sessions, overflowed, seen, .. } = self;
        // The second in which the event arrived, not the one in which it is matched: a delay caused by the work of
        // others is not charged.
        index.begin_second(u32::try_from(received_us / 1_000_000).unwrap_or(u32::MAX));
        fanout.begin_event(event);
        seen.note(event.kind(), event.action());
        let sees = |class| sees(classes.access(class), event);
        let deliver = |conn: ConnId| {
            let mut delivery = fanout.deliver(event, received_us, conn);
            if delivery == Delivery::Guarded && may_see(sessions[conn.0 as usize].as_ref(), classes, event) {
                delivery = fanout.deliver_checked(event, received_us, conn);
            }
            if delivery == Delivery::Overflow {
                overflowed.push(conn);
            }
        };
        if event.kind() == CONNECTIONS {
            index.matches_own(event, event.account(), sees, deliver);
        } else {
            index.matches(event, sees, deliver);
        }
        self.fanout.end_event();
        while let Some(conn) = self.overflowed.pop() {
            self.evict(conn);
        }
        while let Some((conn, overdrawn)) = self.index.take_overdrawn() {
            self.overspent(conn, overdrawn);
        }
    }

    /// Closes a connection whose filters exceed their work limit.
    pub(super) fn overspent(&mut self, conn: ConnId, overdrawn: Overdrawn) {
        let setting = match overdrawn {
            Overdrawn::Event => "limits.filter_work_per_event",
            Overdrawn::Second => "limits.filter_work_per_second",
            Overdrawn::Owner => "limits.filter_work_per_principal",
        };
        self.close(conn, Close::FilterWork { setting });
    }

    /// Closes a slow consumer.
    pub(super) fn evict(&mut self, conn: ConnId) {
        let depth = self.fanout.depth(conn);
        self.close(conn, Close::SlowConsumer { events: depth.events, bytes: depth.bytes });
    }

    /// Sheds the largest outboxes by their policies while the budget is exceeded, as many as a turn allows. [`Budget`]
    /// defines which are left alone, and when it is this shard's turn.
    pub fn keep_budget(&mut self, budget: &Budget, number: usize) {
        self.settle(budget);
        let rounds = budget.rounds();
        self.fanout.set_exceeded(budget.is_exceeded());
        // What was dropped earlier counts until it is released.
        if self.fanout.has_shed_waste() || (self.fanout.awaits_waste() && !budget.is_far_exceeded()) {
            return;
        }
        if !budget.is_exceeded() {
            self.fanout.end_search();
        } else if budget.may_shed(number) {
            let Some(largest) = self.fanout.search_largest() else { return };
            self.shed(largest, budget, number);
        }
        if !self.fanout.has_shed_waste() {
            budget.looked(number, rounds);
        }
    }

    fn shed(&mut self, largest: Largest, budget: &Budget, number: usize) {
        let Largest { found, waiting } = largest;
        let least = budget.least(number, found.first().map_or(0, |&(bytes, _)| bytes), waiting);
        for (_, conn) in found {
            // Part of it may have been written since it was found.
            if self.fanout.footprint(conn) < least {
                continue;
            }
            budget.shed(number);
            let Depth { events, bytes } = self.fanout.depth(conn);
            // One that is closing already loses its close frame too: whoever gets none knows that something is missing.
            if !self.fanout.shrink(conn) && !self.fanout.is_closing(conn) {
                self.close(conn, Close::SlowConsumer { events, bytes });
            }
            let may_go_on = self.fanout.sweep_shed();
            self.settle(budget);
            if !budget.is_exceeded() || !may_go_on {
                break;
            }
        }
    }

    fn settle(&mut self, budget: &Budget) {
        let more = self.fanout.take_held();
        budget.add(more);
        self.held += more;
    }

    /// Closes a connection with a close frame. It gets no more events; queued frames are dropped unless the server
    /// drains or the client closes normally.
    pub fn close(&mut self, conn: ConnId, close: Close) {
        if self.sessions[conn.0 as usize].is_none() || self.fanout.is_closing(conn) {
            return;
        }
        if matches!(close, Close::Draining | Close::Normal(_)) {
            self.send_held(conn);
        }
        if self.fanout.is_closing(conn) {
            return;
        }
        self.unsubscribe(conn);
        let discard = match close {
            Close::Draining | Close::Normal(_) => None,
            _ if close.is_slow_consumer() => {
                self.fanout.count_disconnect();
                Some(Dropped::SlowConsumer)
            }
            _ => Some(Dropped::Closed),
        };
        let last = Frame::Control(stream::last(self.fanout.encoding(conn), close));
        self.fanout.finish(conn, last, discard);
        self.closing.push((conn, close));
    }

    /// Returns the connections for which a close frame was queued since the last call.
    pub fn take_closing(&mut self) -> Vec<(ConnId, Close)> {
        std::mem::take(&mut self.closing)
    }

    /// Returns the number of the next event to be published.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns the number of registrations of a connection.
    pub fn registrations(&self, conn: ConnId) -> usize {
        let session = self.sessions.get(conn.0 as usize).and_then(Option::as_ref);
        session.and_then(|session| session.slot).map_or(0, |slot| self.index.registrations(slot))
    }

    /// Returns the outboxes, for the transport to write from.
    pub fn fanout(&mut self) -> &mut Fanout {
        &mut self.fanout
    }

    /// Returns the counts of commands since the last call.
    pub fn take_commands(&mut self) -> Commands {
        std::mem::take(&mut self.commands)
    }

    /// Returns the cost of filters since the last call.
    pub fn take_filter_cost(&mut self) -> FilterCost {
        let now = self.index.filter_counters();
        let mut cost = now.since(std::mem::replace(&mut self.filters, now));
        cost.add(std::mem::take(&mut self.replayed));
        FilterCost {
            predicate_evaluations: cost.predicate_evaluations,
            field_lookups: cost.field_lookups,
            filter_matches: cost.filter_matches,
            work: cost.work,
        }
    }

    /// Returns the size of the shard, and how much its memory has grown since the last call.
    pub fn take_size(&mut self) -> ShardSize {
        ShardSize {
            held: std::mem::take(&mut self.held),
            waiting: self.fanout.waiting(),
            registrations: self.index.stats().registrations,
            frames: self.fanout.frames(),
        }
    }

    /// Returns whether the shard holds nothing for closed connections.
    pub fn is_empty(&self) -> bool {
        let is_empty = self.index.is_empty() && self.ended.is_empty() && self.fanout.frames() == 0;
        is_empty && self.sessions.iter().all(Option::is_none)
    }
}

/// Returns whether a connection may see an event by its current rights, or because the event is about its own
/// principal.
pub(super) fn may_see(session: Option<&Session>, classes: &Classes, event: &Event) -> bool {
    let Some(session) = session else { return false };
    let own = event.kind() == CONNECTIONS && session.principal.account() == event.account();
    own || sees(classes.access(session.class), event)
}

pub(super) fn sees(access: &Access, event: &Event) -> bool {
    access.sees(event.kind(), event.action(), event.key(), event.owner())
}
