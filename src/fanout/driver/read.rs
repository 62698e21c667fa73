//! What a shard's thread does with bytes that clients send.

use std::io;
use std::time::Instant;

use smallvec::SmallVec;

use super::Driver;
use super::turn::READ_BYTES;
use crate::clock;
use crate::fanout::outbox::ConnId;
use crate::fanout::outbox::Frame;
use crate::protocol::Close;
use crate::websocket::decode::{DecodeError, Message, decode};
use crate::websocket::frame;
use crate::websocket::guard::GuardError;

impl Driver {
    /// Reads what there is, within a turn's bound.
    pub(super) fn readable(&mut self, conn: ConnId) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut left = READ_BYTES;
        while let Some(entry) = self.conn(conn) {
            match entry.link.read(&mut scratch[..left]) {
                Ok(0) => self.vanish(conn),
                Ok(n) => {
                    self.heard(conn, &scratch[..n]);
                    left -= n;
                    if left == 0 {
                        self.unread.push(conn);
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.vanish(conn),
            }
        }
        self.scratch = scratch;
        // TLS may have something to say of its own, such as a key update.
        if self.conn(conn).is_some_and(|entry| !entry.link.is_plain()) {
            self.flush_link(conn);
        }
    }

    /// Takes in bytes of a client.
    pub(super) fn heard(&mut self, conn: ConnId, bytes: &[u8]) {
        let limit = self.parts.message_limit;
        let Some(entry) = self.conns.get_mut(conn.0 as usize).and_then(Option::as_mut) else { return };
        let inflater = &mut self.inflater;
        entry.seen = Instant::now();
        let mut messages: SmallVec<[Result<Message, DecodeError>; 4]> = SmallVec::new();
        let result = entry.guard.feed(bytes, limit, |unit| messages.push(decode(unit, limit, inflater)));
        for message in messages {
            // A second close frame ends the connection at once, whatever follows it.
            if self.conn(conn).is_none() {
                return;
            }
            self.take_message(conn, message);
        }
        match result {
            Ok(()) => {}
            Err(GuardError::TooBig) => self.parts.shard.close(conn, Close::TooBig),
            Err(error) => {
                tracing::debug!(%error, "protocol error");
                self.parts.shard.close(conn, Close::Protocol);
            }
        }
    }

    fn take_message(&mut self, conn: ConnId, message: Result<Message, DecodeError>) {
        let shard = &mut self.parts.shard;
        match message {
            Ok(Message::Text(text)) => shard.text(conn, &text, clock::now()),
            Ok(Message::Binary) => shard.binary(conn, clock::now()),
            Ok(Message::Ping(payload)) => shard.control(conn, Frame::Control(frame::pong(&payload))),
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
