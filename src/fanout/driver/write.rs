//! Writes the queued frames: one vectored write per turn for every connection that has some.
//!
//! Contract: a round writes once to every connection that was dirty when it began, first to the websockets, then to the
//! streams. Websockets are the agents of machines, which act on what they receive; streams mostly feed people's screens
//! and logs. So an open console does not delay the machines (see the decision in `docs/adr`). Nobody starves, because a
//! round ends only after its last stream. Each round starts at another connection of either kind, so that none is
//! always last of its kind.

use std::io;

use super::turn::Input;
use super::{Driver, Output};
use crate::clock;
use crate::fanout::outbox::ConnId;
use crate::fanout::outbox::gather::{GATHER_FRAMES, Gathered};
use crate::fanout::socket::Socket;

/// Bytes per vectored write.
const WRITE_BYTES: usize = 256 << 10;

/// Frames or bytes that a write takes at least from a queue that is longer, if the socket is not full: TLS encrypts so
/// many bytes at a time.
pub(super) const LEAST_FRAMES: usize = GATHER_FRAMES;
pub(super) const LEAST_BYTES: usize = 64 << 10;

impl<S: Socket> Driver<S> {
    pub(super) fn writable(&mut self, conn: ConnId) {
        let listened = self.listening.now();
        let Some(entry) = self.conns.get_mut(conn.0 as usize).and_then(Option::as_mut) else { return };
        // The client has read, so that there is room in the socket again: one that is gone frees none. Our pings may be
        // behind what it has yet to read.
        if self.parts.shard.fanout().unblock(conn) {
            entry.seen = listened;
        }
        self.flush_link(conn);
    }

    /// Flushes encrypted bytes, and shuts down a connection whose last frame is written.
    pub(super) fn flush_link(&mut self, conn: ConnId) {
        let Some(entry) = self.conn(conn).filter(|entry| entry.output != Output::Lost) else { return };
        match entry.link.flush() {
            Ok(()) => self.finish_if_written(conn),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.lose(conn),
        }
    }

    fn finish_if_written(&mut self, conn: ConnId) {
        let fanout = self.parts.shard.fanout();
        if !fanout.is_closing(conn) || fanout.depth(conn).events > 0 {
            return;
        }
        let Some(entry) = self.conn(conn).filter(|entry| entry.output == Output::Open) else { return };
        match entry.link.finish() {
            Ok(()) => {
                entry.output = Output::Finished;
                self.await_close(conn);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.lose(conn),
        }
    }

    /// Sets the close deadline when the close frame is written: the client has the usual time to answer it, also while
    /// draining, however long the frames before it took.
    fn await_close(&mut self, conn: ConnId) {
        let deadline = clock::instant() + self.parts.timing.close;
        if let Some(ending) = self.conn(conn).and_then(|entry| entry.ending.as_mut()) {
            ending.deadline = ending.deadline.min(deadline);
        }
    }

    /// Writes to every connection that has frames queued.
    pub(super) fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let websockets = self.parts.shard.fanout().take_dirty(&mut dirty);
        if !dirty.is_empty() {
            self.turn = self.turn.wrapping_add(1);
            let (websockets, streams) = dirty.split_at(websockets);
            // One look at the clock per round: a round is shorter than the resolution of the latency histogram.
            let now_us = self.now_us();
            for conn in rotated(websockets, self.turn).chain(rotated(streams, self.turn)) {
                self.write(conn, now_us);
            }
            self.parts.shard.fanout().end_round(now_us);
        }
        self.dirty = dirty;
    }

    fn write(&mut self, conn: ConnId, now_us: u64) {
        let listened = self.listening.now();
        let Some(entry) =
            self.conns.get_mut(conn.0 as usize).and_then(Option::as_mut).filter(|entry| entry.output != Output::Lost)
        else {
            return;
        };
        let fanout = self.parts.shard.fanout();
        let mut gathered = Gathered::new();
        fanout.gather(conn, WRITE_BYTES, &mut gathered);
        if gathered.is_empty() {
            return;
        }
        let offered: usize = gathered.iter().map(|slice| slice.len()).sum();
        let result = entry.link.write(&gathered);
        drop(gathered);
        match result {
            Ok(n) => {
                // Accepting our data is a sign of life where there is no other: nothing is read from a lagging client.
                if n > 0 && entry.input == Input::Lagging {
                    entry.seen = listened;
                }
                fanout.advance(conn, n, now_us);
                if n < offered && entry.link.is_plain() {
                    fanout.set_blocked(conn);
                } else if fanout.is_closing(conn) && fanout.depth(conn).events == 0 {
                    self.flush_link(conn);
                } else {
                    fanout.mark_dirty(conn);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => fanout.set_blocked(conn),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => fanout.mark_dirty(conn),
            Err(_) => self.lose(conn),
        }
    }
}

/// Returns all connections, starting at another one in each turn.
fn rotated(conns: &[ConnId], turn: usize) -> impl Iterator<Item = ConnId> {
    let start = turn.wrapping_mul(7919).checked_rem(conns.len()).unwrap_or(0);
    let (late, early) = conns.split_at(start);
    early.iter().chain(late).copied()
}
