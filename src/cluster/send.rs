//! Sends the events that this node accepts to the other nodes.
//!
//! Events are sent in the order of the sequencer, so every node receives this node's events in this node's order. While
//! NATS is unavailable, they wait in a bounded queue; those that do not fit are dropped, which the numbers reveal to
//! the others. After a reconnect they wait until the other nodes are back too ([`super::gate`]).
//!
//! Contract: events written to a connection are retained until the server has answered a PING sent after them, and
//! written again over the next connection if it does not answer. So the failure of a server loses nothing; duplicates
//! are recognized by their numbers and digests. At most [`WINDOW`] bytes are retained; after that further events wait
//! for the answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::gate::Gate;
use super::line::Line;
use super::nats::session::{Outgoing, PULSE, SessionError};
use super::subject;
use super::wire::{Beat, NodePosition, State, event_headers, heartbeat_headers};
use crate::broker::Broker;
use crate::broker::export::{Export, Exports};
use crate::clock;
use crate::event::Event;
use crate::logging::summary::Summary;

/// Interval between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Minimum interval between heartbeats that other nodes request by a greeting.
const GREETING: Duration = Duration::from_millis(100);

/// Number of bytes written to the socket at a time.
const CHUNK: usize = 64 << 10;

/// Maximum number of bytes written but not confirmed.
const WINDOW: usize = 4 << 20;

/// Sends a greeting, which the other nodes answer at once. Its number does not count.
pub(super) fn greet(out: &mut Outgoing, node: u64, prefix: &str) {
    let beat = Beat { state: State::Up, greets: true, idle: Duration::ZERO, ahead: None };
    let headers = heartbeat_headers(NodePosition { node, number: 0 }, beat);
    out.publish(&subject::sign(prefix), None, headers.as_bytes(), b"");
}

/// The times at which something other than events is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    /// The times of the next and of the last heartbeat.
    beat: Instant,
    beaten: Instant,
    /// The time of the next PING.
    tick: Instant,
}

impl Due {
    /// Creates the times for a new connection.
    pub(super) fn new(now: Instant) -> Self {
        Self { beat: now + GREETING, beaten: now, tick: now + PULSE }
    }

    /// Records that another node has sent a greeting.
    pub(super) fn greeted(&mut self) {
        self.beat = self.beat.min(self.beaten + GREETING);
    }
}

/// A batch and how much of it is written.
#[derive(Debug)]
struct Piece {
    export: Export,
    /// Index of the next event to write.
    at: usize,
    /// The number of events already counted, if the batch is written again.
    counted: usize,
}

impl Piece {
    fn new(export: Export) -> Self {
        Self { export, at: 0, counted: 0 }
    }

    /// Returns the batch, to be written again from its first event.
    fn again(self) -> Self {
        Self { counted: self.counted.max(self.at), at: 0, ..self }
    }
}

/// A batch that is written but not confirmed.
#[derive(Debug)]
struct Flight {
    piece: Piece,
    /// The number of the PING sent after it.
    ping: Option<u64>,
}

/// The task that exports this node's events to NATS.
pub(super) struct Sender {
    broker: Arc<Broker>,
    exports: Exports,
    node: u64,
    prefix: String,
    gate: Arc<Gate>,
    stop: watch::Receiver<bool>,
    /// Whether the node is stopping, so that everything is sent even if no other node hears it.
    stopping: bool,
    /// Whether the exports have ended.
    ended: bool,
    /// Batches to be written before those in the queue.
    next: VecDeque<Piece>,
    flights: VecDeque<Flight>,
    flying: usize,
    /// The number of PINGs sent over this connection.
    pings: u64,
    /// When an event was last written.
    active: std::time::Instant,
    /// The number sent in the latest heartbeat that streams store.
    kept: Option<u64>,
    too_long: Summary,
}

impl Sender {
    pub(super) fn new(
        broker: Arc<Broker>,
        exports: Exports,
        (node, prefix): (u64, String),
        gate: Arc<Gate>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            broker,
            exports,
            node,
            prefix,
            gate,
            stop,
            stopping: false,
            ended: false,
            next: VecDeque::new(),
            flights: VecDeque::new(),
            flying: 0,
            pings: 0,
            active: clock::instant(),
            kept: None,
            too_long: Summary::default(),
        }
    }

    /// Prepares for a new connection: what is not confirmed is written again.
    pub(super) fn resume(&mut self) {
        let again = self.flights.drain(..).map(|flight| flight.piece).chain(self.next.drain(..)).map(Piece::again);
        self.next = again.collect();
        self.restart();
    }

    /// Prepares for another connection if everything written over the former one has arrived.
    pub(super) fn restart(&mut self) {
        self.flights.clear();
        (self.flying, self.pings, self.kept) = (0, 0, None);
    }

    /// Writes over one connection until the broker has stopped and everything has arrived.
    ///
    /// # Errors
    /// [`SessionError`] when the connection is lost.
    ///
    /// # Cancel safety
    /// Can be called again for the same connection.
    pub(super) async fn drive(&mut self, out: &mut Outgoing, line: &Line) -> Result<(), SessionError> {
        let mut due = Due::new(Instant::now());
        loop {
            self.turn(out, line, &mut due, Instant::now())?;
            out.flush_while(&line.pulse).await?;
            if self.ended && self.next.is_empty() {
                return self.end(out, line).await;
            }
            if self.may_send() && self.has_room() && !self.next.is_empty() {
                continue;
            }
            let may_take = self.may_send() && self.has_room() && !self.ended;
            tokio::select! {
                biased;
                () = line.changed() => {}
                () = sleep_until(due.tick.min(due.beat)) => {}
                () = self.gate.changed() => {}
                () = self.gate.greeted() => due.greeted(),
                // The sender of the signal lives as long as the server.
                _ = self.stop.changed(), if !self.stopping => self.stopping = true,
                export = self.exports.next(), if may_take => match export {
                    Some(export) => self.next.push_back(Piece::new(export)),
                    None => self.ended = true,
                },
            }
        }
    }

    /// Puts everything that is due into the buffer of a connection.
    ///
    /// # Errors
    /// [`SessionError::Silent`] if nothing has come from the server for too long.
    pub(super) fn turn(
        &mut self,
        out: &mut Outgoing,
        line: &Line,
        due: &mut Due,
        now: Instant,
    ) -> Result<(), SessionError> {
        if now >= due.tick {
            line.pulse.tick()?;
            self.ping(out);
            due.tick = now + PULSE;
        }
        if now >= due.beat {
            self.beat(out);
            (due.beat, due.beaten) = (now + HEARTBEAT, now);
        }
        if line.take_ping() {
            out.pong();
        }
        self.stopping |= *self.stop.borrow();
        self.acknowledge(line);
        self.write(out, line);
        Ok(())
    }

    /// Returns the number of events that are not confirmed.
    pub(super) fn unsent(&mut self) -> u64 {
        self.next.extend(std::iter::from_fn(|| self.exports.ready()).map(Piece::new));
        let flying = self.flights.iter().map(|flight| flight.piece.export.batch.events.len());
        let waiting = self.next.iter().map(|piece| piece.export.batch.events.len() - piece.at);
        flying.chain(waiting).sum::<usize>() as u64
    }

    fn may_send(&self) -> bool {
        self.stopping || self.gate.is_open()
    }

    fn has_room(&self) -> bool {
        self.flying < WINDOW
    }

    /// Releases the batches that stand before an answered PING.
    fn acknowledge(&mut self, line: &Line) {
        let has_arrived = |flight: &mut Flight| flight.ping.is_some_and(|ping| line.has_answered(ping));
        while let Some(flight) = self.flights.pop_front_if(has_arrived) {
            self.flying -= flight.piece.export.batch.bytes;
        }
        if self.flights.is_empty() {
            self.flying = 0;
        }
    }

    /// Writes a PING and returns its number.
    pub(super) fn ping(&mut self, out: &mut Outgoing) -> u64 {
        self.pings += 1;
        out.ping();
        let ping = self.pings;
        self.flights.iter_mut().rev().take_while(|flight| flight.ping.is_none()).for_each(|flight| {
            flight.ping = Some(ping);
        });
        ping
    }

    /// Writes events up to a chunk, then a PING if no other is in progress.
    fn write(&mut self, out: &mut Outgoing, line: &Line) {
        while out.waiting() < CHUNK && self.may_send() && self.has_room() {
            if self.next.is_empty() {
                self.next.extend(self.exports.ready().map(Piece::new));
            }
            let Some(mut piece) = self.next.pop_front() else { break };
            while piece.at < piece.export.batch.events.len() && out.waiting() < CHUNK {
                self.write_one(out, &piece, line.max_payload());
                piece.at += 1;
            }
            if piece.at < piece.export.batch.events.len() {
                self.next.push_front(piece);
            } else {
                self.flying += piece.export.batch.bytes;
                self.flights.push_back(Flight { piece, ping: None });
            }
        }
        self.ask(out, line);
    }

    /// Writes a PING after the written events, if no other is in progress.
    fn ask(&mut self, out: &mut Outgoing, line: &Line) {
        let unasked = self.flights.back().is_some_and(|flight| flight.ping.is_none());
        if unasked && line.has_answered(self.pings) {
            self.ping(out);
        }
    }

    fn write_one(&mut self, out: &mut Outgoing, piece: &Piece, most: usize) {
        let Piece { export, at, counted } = piece;
        let metrics = &self.broker.metrics().nats;
        let event = &export.batch.events[*at];
        let repeat_index = export.repeat_indexes.as_ref().map(|repeat_indexes| repeat_indexes[*at]);
        let after = if *at == 0 { &export.after[..] } else { &[] };
        let position = NodePosition { node: self.node, number: export.first + *at as u64 };
        let headers = event_headers(position, repeat_index, after);
        let (bytes, new) = (headers.len() + event.json().len(), at >= counted);
        if most > 0 && bytes > most {
            if new {
                self.note_too_long(event, bytes, most);
            }
            return;
        }
        let subject = subject::event(&self.prefix, event.kind(), event.action(), event.key());
        out.publish(&subject, None, headers.as_bytes(), event.json().as_bytes());
        metrics.published.inc_by(u64::from(new));
        self.active = clock::instant();
    }

    fn note_too_long(&self, event: &Event, bytes: usize, most: usize) {
        // Whoever may post can cause it.
        if let Some(suppressed) = self.too_long.count(clock::instant()) {
            tracing::warn!(
                kind = beginning(event.kind()),
                action = beginning(event.action()),
                bytes,
                most,
                suppressed,
                "an event was not sent to other nodes: with its \
                headers it exceeds max_payload of the NATS servers"
            );
        }
        self.broker.metrics().nats.lost_out(1);
    }

    /// Sends a heartbeat with the number of the next event. Streams store one heartbeat after the events it confirms,
    /// and no further ones while the node is idle.
    fn beat(&mut self, out: &mut Outgoing) {
        let greets = !self.may_send();
        let beat = self.as_beat(State::Up, greets);
        let number = self.number();
        let keep = !greets && self.kept != Some(number);
        self.put_heartbeat(out, beat, keep);
    }

    fn as_beat(&self, state: State, greets: bool) -> Beat {
        let ahead = self.broker.history().ahead(clock::instant());
        let ahead = ahead.and_then(|ahead| Duration::try_from(ahead).ok());
        Beat { state, greets, idle: clock::instant().saturating_duration_since(self.active), ahead }
    }

    fn put_heartbeat(&mut self, out: &mut Outgoing, beat: Beat, keep: bool) {
        let number = self.number();
        let headers = heartbeat_headers(NodePosition { node: self.node, number }, beat);
        if keep {
            self.kept = Some(number);
            out.publish(&subject::heartbeat(&self.prefix), None, headers.as_bytes(), b"");
        } else {
            out.publish(&subject::sign(&self.prefix), None, headers.as_bytes(), b"");
        }
    }

    /// Returns the number of the next event to be written: unwritten events with lower numbers will not come.
    fn number(&mut self) -> u64 {
        // Must be read before the queue is found empty.
        let next = self.exports.next_number();
        if self.next.is_empty() {
            self.next.extend(self.exports.ready().map(Piece::new));
        }
        self.next.front().map_or(next, |piece| piece.export.first + piece.at as u64)
    }

    /// Writes the last heartbeat, and a PING whose number it returns.
    pub(super) fn goodbye(&mut self, out: &mut Outgoing) -> u64 {
        let beat = self.as_beat(State::Down, false);
        self.put_heartbeat(out, beat, true);
        self.ping(out)
    }

    /// Writes the goodbye, and waits until the server has received everything.
    async fn end(&mut self, out: &mut Outgoing, line: &Line) -> Result<(), SessionError> {
        let ping = self.goodbye(out);
        out.flush().await?;
        while !line.has_answered(ping) {
            line.changed().await;
        }
        Ok(())
    }
}

/// Returns as much of a text of any length as a line of the log has room for.
fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(64)]
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::broker::export::ExportLimits;
    use crate::broker::history::{History, HistoryLimits};
    use crate::clock::simulated;
    use crate::event::Draft;
    use crate::logging::summary::{INTERVAL, captured};
    use crate::metrics::{Metrics, Source};

    fn sender() -> (Arc<Broker>, Sender) {
        let history = History::new(HistoryLimits { events: 10, bytes: 1 << 20 }, 1, clock::now());
        let broker = Arc::new(Broker::new(Arc::new(Metrics::new()), clock::instant(), history));
        let exports = broker.share(ExportLimits { batches: 10, bytes: 1 << 20 }, 10);
        let stop = watch::Sender::new(false);
        let options = (1, "hydrant".to_owned());
        let sender = Sender::new(Arc::clone(&broker), exports, options, Arc::default(), stop.subscribe());
        (broker, sender)
    }

    #[test]
    fn a_heartbeat_tells_how_far_clocks_are_ahead_once_that_was_measured_for_a_while() {
        simulated::begin();
        let (broker, sender) = sender();
        let mut draft = Draft::new("machines", "update", "k");
        let time = (clock::now() + SignedDuration::from_secs(4)).to_string();
        draft.time = Some(time.as_str().into());
        broker.publish(vec![draft.seal(clock::now())], Source::Post).unwrap();
        let ahead = || sender.as_beat(State::Up, false).ahead;
        assert_eq!(ahead(), None, "the next event may be further ahead");
        simulated::pass(Duration::from_mins(10));
        assert_eq!(ahead(), Some(Duration::from_secs(4)));
    }

    #[test]
    fn events_that_are_too_long_are_all_counted_and_fill_no_log() {
        simulated::begin();
        let (broker, sender) = sender();
        let event = Draft::new("machines", "update", "k").seal(clock::now());
        let note = || captured::lines(|| (0..100).for_each(|_| sender.note_too_long(&event, 2000, 1000)));
        let lines = note();
        assert!(lines.len() == 1 && lines[0].contains("kind=\"machines\" action=\"update\""), "{lines:#?}");
        simulated::pass(INTERVAL);
        let lines = note();
        assert!(lines.len() == 1 && lines[0].contains("suppressed=99"), "{lines:#?}");
        simulated::pass(INTERVAL);
        let kind = "m\u{e9}".repeat(1 << 20);
        let event = Draft::new(&kind, "update", "k").seal(clock::now());
        let lines = captured::lines(|| sender.note_too_long(&event, 1 << 21, 1000));
        assert!(lines.len() == 1 && lines[0].len() < 1000, "{}", lines[0].len());
        broker.metrics().nats.show(false);
        assert!(broker.metrics().render(0).contains("hydrant_nats_lost_total{direction=\"out\"} 201\n"));
    }
}
