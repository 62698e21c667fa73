//! Handles the bytes that clients send.
//!
//! Each connection gets a [`Slice`] at a time, and all connections together at most [`READ_TIME`] per turn. A client
//! that exceeds its slice waits behind the other connections with input. While it waits nothing more is read from it,
//! so TCP slows it down. Only the message in progress is finished when the time is up. A message that may take long to
//! decode is decoded on another thread, like a registration that takes long to parse; otherwise the cost of one message
//! is bounded where it is executed. While events are put off for lack of room ([`super::intake`]), nothing is read.
//!
//! Order: when bytes are read they are marked with the number of the next event. A command among them is executed once
//! the shard has reached that number, so every event that was sequenced earlier precedes its answer and is matched
//! against the registrations before the command. Control frames do not wait for that. A connection that still lags
//! behind the history has yet to receive those events: there a deregistration waits for them, and so does everything
//! after it.

use std::io;
use std::ops::ControlFlow;

use super::turn::{Input, READ_TIME, Slice};
use super::{Driver, HeldCommand};
use crate::clock;
use crate::fanout::outbox::ConnId;
use crate::fanout::outbox::Frame;
use crate::fanout::socket::Socket;
use crate::fanout::spec_parser::{Done, Job, Work, WorkResult};
use crate::protocol::Close;
use crate::websocket::decode::{DecodeError, Message, decode};
use crate::websocket::frame;
use crate::websocket::validator::{FrameError, Unit};

impl<S: Socket> Driver<S> {
    /// Queues a connection that has input.
    pub(super) fn enqueue(&mut self, conn: ConnId) {
        if let Some(entry) = self.conn(conn).filter(|entry| entry.input == Input::Idle) {
            entry.input = Input::Queued;
            self.queue.push_back(conn);
        }
    }

    /// Reads from the queued connections as long as the turn has time for it, but at least from one.
    pub(super) fn read_queued(&mut self) {
        self.release_held();
        self.release_parsed();
        let until = clock::instant() + READ_TIME;
        for _ in 0..self.queue.len() {
            let Some(conn) = self.queue.pop_front() else { break };
            // The number may have been reused for another connection.
            if self.conn(conn).is_none_or(|entry| entry.input != Input::Queued) {
                continue;
            }
            self.slice = Slice::begin(until);
            self.read_slice(conn);
            if clock::instant() >= until {
                break;
            }
        }
    }

    /// Queues the connections whose held command is due.
    fn release_held(&mut self) {
        let position = self.parts.shard.position();
        while let Some(&(mark, conn)) = self.held.front()
            && mark <= position
        {
            self.held.pop_front();
            // The number may have been reused for another connection, whose command waits for a later mark.
            let is_due = |entry: &&mut super::Conn<S>| entry.input == Input::Held && entry.mark <= position;
            if let Some(entry) = self.conn(conn).filter(is_due) {
                entry.input = Input::Queued;
                self.queue.push_back(conn);
            }
        }
    }

    fn read_slice(&mut self, conn: ConnId) {
        let Some(entry) = self.conn(conn) else { return };
        entry.input = Input::Idle;
        match entry.command.take().map(|command| *command) {
            Some(HeldCommand::Waits(text) | HeldCommand::Lags(text)) => self.on_text(conn, text),
            Some(HeldCommand::Parsed(WorkResult::Decoded(message))) => self.on_decoded(conn, message),
            Some(HeldCommand::Parsed(WorkResult::Parsed(text, spec))) => {
                let peer = Some(entry.peer);
                self.parts.shard.text_from(conn, peer, (&text, Some(spec)), clock::now());
            }
            Some(HeldCommand::Parsing(_)) | None => {}
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let input = self.read_until_spent(conn, &mut scratch);
        self.scratch = scratch;
        let Some(entry) = self.conn(conn) else { return };
        entry.input = input;
        let (mark, is_plain) = (entry.mark, entry.link.is_plain());
        match input {
            // Otherwise the client waits for the shard.
            Input::Idle | Input::Lagging => self.count_incomplete(conn),
            Input::Parsing => {}
            Input::Queued => self.queue.push_back(conn),
            Input::Held => self.held.push_back((mark, conn)),
        }
        // TLS may have data of its own to send, such as a key update.
        if !is_plain {
            self.flush_link(conn);
        }
    }

    /// Handles buffered messages, then reads on. Returns the new state of the input.
    fn read_until_spent(&mut self, conn: ConnId, scratch: &mut [u8]) -> Input {
        let mut bytes = 0;
        loop {
            // The first command may have to wait, or to be parsed on another thread: then everything after it waits.
            if self.conn(conn).is_some_and(|entry| entry.command.is_none()) {
                self.hear(conn, &scratch[..bytes]);
            }
            let Some(entry) = self.conn(conn) else { return Input::Idle };
            match entry.command.as_deref() {
                Some(HeldCommand::Parsing(_)) => return Input::Parsing,
                Some(HeldCommand::Lags(_)) => return Input::Lagging,
                Some(_) => return Input::Held,
                None => {}
            }
            if entry.kept || self.slice.is_spent() {
                return Input::Queued;
            }
            bytes = match self.read(conn, scratch) {
                Ok(0) => {
                    self.vanish(conn);
                    return Input::Idle;
                }
                Ok(bytes) => self.heard(conn, bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Input::Idle,
                Err(_) => {
                    self.vanish(conn);
                    return Input::Idle;
                }
            }
        }
    }

    /// Returns how many of the bytes read are to be handled: none if the client of this connection cannot send
    /// commands.
    fn heard(&mut self, conn: ConnId, bytes: usize) -> usize {
        if self.conn(conn).is_some_and(|entry| entry.speaks) { bytes } else { 0 }
    }

    fn read(&mut self, conn: ConnId, into: &mut [u8]) -> io::Result<usize> {
        let now = self.listening.now();
        let Some(entry) = self.conn(conn) else { return Ok(0) };
        let bytes = entry.link.read(into)?;
        entry.seen = now;
        let mark = self.next_number();
        if let Some(entry) = self.conn(conn) {
            entry.mark = mark;
        }
        Ok(bytes)
    }

    /// Handles bytes of a client, after the buffered ones.
    fn hear(&mut self, conn: ConnId, bytes: &[u8]) {
        let limit = self.parts.message_limit;
        let Some(entry) = self.conn(conn).filter(|entry| entry.kept || !bytes.is_empty()) else { return };
        let mut validator = std::mem::take(&mut entry.validator);
        let result = validator.feed(bytes, limit, |unit| self.on_unit(conn, unit));
        let Some(entry) = self.conn(conn) else { return };
        entry.validator = validator;
        entry.kept = result == Ok(true);
        match result {
            Ok(_) => {}
            Err(FrameError::TooBig) => self.parts.shard.close(conn, Close::TooBig),
            Err(error) => {
                let peer = entry.peer;
                tracing::debug!(%error, %peer, "a client violated the websocket protocol; closing its connection");
                self.parts.shard.close(conn, Close::Protocol);
            }
        }
    }

    fn on_unit(&mut self, conn: ConnId, unit: Unit<'_>) -> ControlFlow<()> {
        let message = decode(unit, self.parts.message_limit, &mut self.inflater);
        self.on_decoded(conn, message);
        // A second close frame ends the connection immediately, whatever follows it.
        if self.conn(conn).is_none_or(|entry| entry.command.is_some()) {
            return ControlFlow::Break(());
        }
        self.slice.count()
    }

    /// Handles a message, or has it wait until its place has come.
    fn on_decoded(&mut self, conn: ConnId, message: Result<Message, DecodeError>) {
        match message {
            Ok(Message::Text(text)) if self.must_wait(conn) => {
                if let Some(entry) = self.conn(conn) {
                    entry.command = Some(Box::new(HeldCommand::Waits(text)));
                }
            }
            message => self.on_message(conn, message),
        }
    }

    /// Returns whether events that were sequenced before a command was read have yet to be published.
    fn must_wait(&mut self, conn: ConnId) -> bool {
        let position = self.parts.shard.position();
        let lagging = self.conn(conn).is_some_and(|entry| entry.mark > position);
        lagging && !self.parts.shard.fanout().is_closing(conn)
    }

    /// Queues a connection whose deregistration waited for its replay, now that it has caught up.
    pub(super) fn release_lagging(&mut self, conn: ConnId) {
        if let Some(entry) = self.conn(conn).filter(|entry| entry.input == Input::Lagging) {
            entry.input = Input::Queued;
            self.queue.push_back(conn);
        }
    }

    /// Executes a command, or has it wait or be parsed on another thread first.
    fn on_text(&mut self, conn: ConnId, text: String) {
        if self.parts.shard.must_catch_up(conn, &text) {
            if let Some(entry) = self.conn(conn) {
                entry.command = Some(Box::new(HeldCommand::Lags(text)));
            }
            return;
        }
        if !self.parts.shard.is_long_to_read(conn, &text) {
            let peer = self.conn(conn).map(|entry| entry.peer);
            return self.parts.shard.text_from(conn, peer, (&text, None), clock::now());
        }
        self.submit(conn, Work::Parse(text));
    }

    /// Has a message decoded or parsed on another thread. Everything after it waits.
    fn submit(&mut self, conn: ConnId, work: Work) {
        self.tickets += 1;
        let ticket = self.tickets;
        let Some(entry) = self.conn(conn) else { return };
        entry.command = Some(Box::new(HeldCommand::Parsing(ticket)));
        let principal = entry.identity.principal().clone();
        self.parsing += 1;
        self.parts.parser.submit(Job { conn, ticket, principal, work });
    }

    /// Queues the connections whose messages were decoded or parsed.
    fn release_parsed(&mut self) {
        for Done { conn, ticket, result } in self.parts.parser.take() {
            self.parsing -= 1;
            let is_it = |entry: &&mut super::Conn<S>| {
                let command = entry.command.as_deref();
                matches!(command, Some(HeldCommand::Parsing(other)) if *other == ticket)
            };
            // The number may have been reused for another connection.
            if let Some(entry) = self.conn(conn).filter(is_it) {
                entry.command = Some(Box::new(HeldCommand::Parsed(result)));
                entry.input = Input::Queued;
                self.queue.push_back(conn);
            }
        }
    }

    fn on_message(&mut self, conn: ConnId, message: Result<Message, DecodeError>) {
        let shard = &mut self.parts.shard;
        match message {
            Ok(Message::Text(text)) => self.on_text(conn, text),
            Ok(Message::Long(message)) => self.submit(conn, Work::Decode(message)),
            Ok(Message::Binary(_)) => shard.binary(conn, clock::now()),
            Ok(Message::Ping(payload)) => shard.control(conn, Frame::Pong(frame::pong(&payload))),
            Ok(Message::Pong) => {}
            Ok(Message::Close(_)) if shard.fanout().is_closing(conn) => self.vanish_if_written(conn),
            Ok(Message::Close(code)) => shard.close(conn, Close::Normal(code.unwrap_or(1000))),
            Err(DecodeError::BadUtf8) => shard.close(conn, Close::BadUtf8),
            Err(DecodeError::Corrupt) => shard.close(conn, Close::BadDeflate),
            Err(DecodeError::TooBig) => shard.close(conn, Close::TooBig),
            Err(DecodeError::Malformed) => shard.close(conn, Close::Protocol),
        }
    }

    fn vanish_if_written(&mut self, conn: ConnId) {
        if self.parts.shard.fanout().depth(conn).events == 0 {
            self.vanish(conn);
        }
    }
}
