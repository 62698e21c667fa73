//! The event loop of a shard's thread: sockets on one side, a [`Shard`] on the other.
//!
//! A turn handles control requests, client commands, a batch of events, one vectored write for every connection with
//! queued frames, and timers. All that is queued for a connection when its turn comes is sent in one write.
//!
//! Contract: nothing here blocks except the poll, and everything that a client or a caller can cause has a budget per
//! turn: client input ([`read`]), requests of the control plane, events and replays ([`intake`]); [`turn`] defines the
//! limits. Work beyond it waits for the next turn, which begins immediately. After the events every connection is
//! written to, at most once per round: websockets, then streams, each starting at another one ([`mod@write`]).

mod closings;
mod connections;
mod drain;
mod errands;
mod incomplete;
mod intake;
mod listening;
mod read;
mod ready;
mod survey;
mod timers;
mod turn;
mod write;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::{Events, Poll, Token};

use super::control::Control;
use super::outbox::{Budget, ConnId};
use super::permit::Permit;
use super::session::Shard;
use super::socket::{Link, Socket};
use super::spec_parser::{SpecParser, WorkResult};
use crate::auth::{Authority, Identity};
use crate::broker::Broker;
use crate::broker::inbox::{Batch, Inbox};
use crate::clock;
use crate::event::Event;
use crate::metrics::{FilterCost, LONG_TURN, Limit, ShardMetrics};
use crate::protocol::Close;
use crate::websocket::deflate::Inflater;
use crate::websocket::validator::FrameValidator;
use closings::Closings;
use connections::Review;
use drain::Drain;
pub(super) use drain::Undelivered;
use errands::Errands;
use incomplete::Incomplete;
use listening::{Listening, Moment};
pub(crate) use ready::Ready;
use survey::Survey;
use timers::Round;
use turn::{BatchLimit, CONTROL_TIME, Input, MOVED, READ_BYTES, Slice};

/// The poll token of the waker.
pub(super) const WAKE: Token = Token(usize::MAX);

/// Intervals and deadlines of the driver.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Interval between pings.
    pub ping: Duration,
    /// How long a client may send nothing before it is closed.
    pub idle: Duration,
    /// How long a client may take to answer its close frame.
    pub close: Duration,
    /// Maximum age of a queued event of a connection with the policy *disconnect*.
    pub age: Option<Duration>,
    /// Whether a connection is closed when the token that authenticated it expires.
    pub close_on_token_expiry: bool,
}

/// The state of a connection's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    /// Frames are written.
    Open,
    /// The last frame is written.
    Finished,
    /// The socket has failed; the connection is forgotten as soon as the turn has time for it.
    Lost,
}

/// A connection of this shard.
#[derive(Debug)]
struct Conn<S> {
    link: S,
    validator: FrameValidator,
    identity: Identity,
    peer: SocketAddr,
    /// In microseconds since 1970: half as long as a `Timestamp`.
    created: i64,
    /// When it was last heard, by [`Listening`].
    seen: Moment,
    /// When it was last pinged, since the broker's epoch: the client measures the server's silence by its own clock,
    /// which goes on while this shard is delayed.
    pinged: Moment,
    input: Input,
    /// Whether its client sends messages, as websocket clients do; bytes from other clients are discarded.
    speaks: bool,
    /// Whether the frame validator holds complete messages that are not yet handled.
    kept: bool,
    /// What it holds of incomplete input, as counted by [`Incomplete`].
    incomplete: u32,
    /// The number of the next event when its last bytes were read.
    mark: u64,
    /// The command that waits for that number, or to be decoded or parsed.
    command: Option<Box<HeldCommand>>,
    /// `None` while the connection is open.
    ending: Option<Box<Ending>>,
    output: Output,
    _permit: Permit,
}

/// A command that cannot be executed yet. Boxed, because few connections have one.
#[derive(Debug)]
enum HeldCommand {
    /// It waits until all events before it are published.
    Waits(String),
    /// It is being decoded or parsed on another thread, with this ticket.
    Parsing(u64),
    /// The other thread is done.
    Parsed(WorkResult),
    /// It waits until the connection's replay has caught up.
    Lags(String),
}

/// How a connection ends that was sent its close frame.
#[derive(Debug)]
struct Ending {
    reason: Close,
    /// When the connection is closed if the client has not closed it.
    deadline: Instant,
}

/// Everything that a shard's thread is given.
#[derive(Debug)]
pub(crate) struct Parts<S: Socket = Link> {
    pub(crate) poll: Poll,
    pub(crate) shard: Shard,
    pub(crate) parser: SpecParser,
    pub(crate) inbox: Inbox,
    pub(crate) control: Receiver<Control<S::Accepted>>,
    pub(crate) metrics: ShardMetrics,
    pub(crate) budget: Arc<Budget>,
    /// The number of the shard.
    pub(crate) number: usize,
    pub(crate) authority: Arc<Authority>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) load: Arc<AtomicUsize>,
    pub(crate) review: Arc<AtomicBool>,
    pub(crate) drain: Arc<OnceLock<Instant>>,
    pub(crate) timing: Timing,
    pub(crate) connection_events: bool,
    pub(crate) message_limit: usize,
    pub(crate) epoch: Instant,
}

/// The event loop of one shard: polls the sockets, feeds the [`Shard`] and writes frames.
#[derive(Debug)]
pub(crate) struct Driver<S: Socket = Link> {
    pub(crate) parts: Parts<S>,
    conns: Vec<Option<Conn<S>>>,
    pub(crate) open: usize,
    /// Connections that have input.
    pub(crate) queue: VecDeque<ConnId>,
    /// Connections whose sockets have failed.
    pub(crate) lost: VecDeque<ConnId>,
    /// Connections whose commands wait for events before them, with their marks.
    pub(crate) held: VecDeque<(u64, ConnId)>,
    /// The number of messages being decoded or parsed, and the last ticket.
    pub(crate) parsing: usize,
    tickets: u64,
    errands: Errands,
    /// The round in progress in which rights are looked up again.
    reviewing: Option<Review>,
    /// The pass over all timers in progress, if any.
    round: Option<Round>,
    /// What is left of the slice of the connection being read.
    slice: Slice,
    surveys: VecDeque<Survey>,
    closings: Closings,
    incomplete: Incomplete,
    listening: Listening,
    /// When the shard last stalled, in microseconds since the broker's epoch.
    stalled_us: u64,
    dirty: Vec<ConnId>,
    scratch: Box<[u8]>,
    inflater: Inflater,
    /// The batch being published, and the index of its next event.
    started: Option<(Arc<Batch>, usize)>,
    /// Set while the next events are put off: how many more turns they wait for room.
    put_off: Option<usize>,
    /// Events about connections that are yet to be published.
    pub(crate) pending_events: VecDeque<Event>,
    turn: usize,
    batch_limit: BatchLimit,
    tick: Duration,
    next_tick: Instant,
    draining: Option<Drain>,
    undelivered: Undelivered,
}

impl<S: Socket> Driver<S> {
    pub(crate) fn new(mut parts: Parts<S>) -> Self {
        let tick = parts.timing.tick();
        let batch_limit = BatchLimit::of(parts.shard.fanout().limits());
        let (now, incomplete) = (clock::instant(), Incomplete::new(parts.message_limit));
        Self {
            parts,
            conns: Vec::new(),
            open: 0,
            queue: VecDeque::new(),
            lost: VecDeque::new(),
            held: VecDeque::new(),
            parsing: 0,
            tickets: 0,
            errands: Errands::default(),
            reviewing: None,
            round: None,
            slice: Slice::begin(now),
            surveys: VecDeque::new(),
            closings: Closings::default(),
            incomplete,
            listening: Listening::begin(now),
            stalled_us: 0,
            dirty: Vec::new(),
            scratch: vec![0; READ_BYTES].into(),
            inflater: Inflater::default(),
            started: None,
            put_off: None,
            pending_events: VecDeque::new(),
            turn: 0,
            batch_limit,
            tick,
            next_tick: now + tick,
            draining: None,
            undelivered: Undelivered::default(),
        }
    }

    /// Runs until the shard has been drained. Returns what was not delivered by then.
    pub(super) fn run(mut self) -> Undelivered {
        let mut events = Events::with_capacity(1024);
        while !self.is_done() {
            let timeout = self.timeout();
            if let Err(error) = self.parts.poll.poll(&mut events, Some(timeout)) {
                if error.kind() != io::ErrorKind::Interrupted {
                    tracing::error!(%error, "waiting for socket events failed");
                }
                continue;
            }
            self.parts.inbox.rearm();
            self.run_turn(events.iter().filter_map(Ready::of), timeout);
        }
        let undelivered = self.leave();
        self.flush_metrics();
        undelivered
    }

    /// Returns whether the shard has been drained.
    pub(crate) fn is_done(&self) -> bool {
        let is_empty = self.open == 0 && self.parts.control.is_empty();
        let is_over = |drain: Drain| drain.close_sent && is_empty || drain.is_overdue(clock::instant());
        self.draining.is_some_and(is_over)
    }

    /// Returns how long the poll may sleep.
    pub(crate) fn timeout(&mut self) -> Duration {
        let position = self.parts.shard.position();
        let busy = self.held.front().is_some_and(|(mark, _)| *mark <= position)
            || (self.has_events() && self.may_ingest_events())
            || !self.pending_events.is_empty()
            || !self.queue.is_empty()
            || !self.lost.is_empty()
            || self.parts.shard.has_leaving()
            || !self.errands.is_empty()
            || self.reviewing.is_some()
            || self.round.is_some()
            || !self.surveys.is_empty()
            || !self.parts.control.is_empty()
            || self.parts.shard.fanout().has_dirty()
            || self.parts.shard.fanout().has_leftovers();
        if busy {
            return Duration::ZERO;
        }
        let tick = self.next_tick.saturating_duration_since(clock::instant());
        self.catch_up_in().map_or(tick, |wait| wait.min(tick))
    }

    /// Runs one turn, after a poll that was to wait no longer than `timeout` and found these sockets ready.
    pub(crate) fn run_turn(&mut self, ready: impl Iterator<Item = Ready>, timeout: Duration) {
        let begun = clock::instant();
        self.parts.metrics.begin_turn(begun);
        if self.listening.advance(begun, timeout) {
            self.stalled_us = self.now_us();
        }
        for Ready { conn, writable, readable } in ready {
            if writable {
                self.writable(conn);
            }
            if readable {
                self.enqueue(conn);
            }
        }
        self.forget_lost();
        self.parts.shard.let_go(MOVED);
        self.parts.shard.move_on(MOVED);
        self.handle_control();
        if self.put_off.is_none() {
            self.read_queued();
        }
        self.tell_interest();
        self.parts.shard.fanout().begin_turn();
        let taken = self.publish_events();
        self.end_drain();
        // Otherwise everything was written that could be.
        if self.put_off.is_none() {
            self.catch_up();
            self.flush();
        }
        self.parts.shard.keep_budget(&self.parts.budget, self.parts.number);
        self.note_closing();
        self.announce_pending();
        self.keep_time();
        self.go_on_with_surveys();
        self.flush_metrics();
        self.end_turn(taken, clock::instant().saturating_duration_since(begun));
    }

    fn end_turn(&self, events: usize, took: Duration) {
        let Parts { metrics, broker, number, .. } = &self.parts;
        metrics.turn(events, took);
        if took > LONG_TURN {
            broker.spans().long_turn(*number, took, events);
        }
    }

    /// Reports the types that clients want, before the answers to registrations are written.
    fn tell_interest(&mut self) {
        let Parts { shard, broker, number, .. } = &mut self.parts;
        shard.tell_kinds(|kinds| broker.interest().set(*number, kinds));
    }

    fn conn(&mut self, conn: ConnId) -> Option<&mut Conn<S>> {
        self.conns.get_mut(conn.0 as usize)?.as_mut()
    }

    fn handle_control(&mut self) {
        self.begin_drain();
        // Before newcomers are adopted: their rights are looked up when they are.
        self.review_access();
        self.run_errands();
        let until = clock::instant() + CONTROL_TIME;
        while let Ok(control) = self.parts.control.try_recv() {
            match control {
                Control::Adopt(newcomer) => self.adopt(*newcomer),
                Control::List(registration, reply) => self.list(registration, reply),
                Control::Find(wanted, reply) => self.look_for(wanted, reply),
                Control::Delete(conn, wanted, reply) => self.end_one(conn, &wanted, reply),
                Control::Inspect(conn, wanted, reply) => self.look_into(conn, wanted, reply),
                Control::Survey(measure, reply) => self.begin_survey(measure, reply),
                Control::Seen(reply) => drop(reply.send(self.parts.shard.seen.clone())),
                Control::Types(types) => self.parts.shard.seen.set_types(types),
            }
            if clock::instant() >= until {
                break;
            }
        }
    }

    fn flush_metrics(&mut self) {
        let counts = self.parts.shard.fanout().take_counts();
        let size = self.parts.shard.take_size();
        let Parts { metrics, shard, .. } = &mut self.parts;
        metrics.flush(&counts, size);
        let filters = shard.take_filter_cost();
        if filters != FilterCost::default() {
            metrics.filters(filters);
        }
        let commands = shard.take_commands();
        if commands.too_many() > 0 {
            metrics.all().limited(Limit::Registrations, commands.too_many());
        }
        for (outcome, count) in commands.iter().filter(|(_, count)| *count > 0) {
            metrics.all().command(outcome, count);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;

#[cfg(test)]
mod slow_tests;

#[cfg(test)]
mod write_tests;
