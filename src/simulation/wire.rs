//! A socket in memory: what the kernel is to a shard, with a client that decides how much of it is read.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use mio::{Registry, Token};

use crate::fanout::socket::Socket;

/// Both directions of a connection, as the kernel would hold them.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a state of its own")]
pub(super) struct Pipe {
    /// What the client has sent and the shard has not read.
    pub(super) inbound: VecDeque<u8>,
    /// What the shard has written and the client has not read.
    pub(super) outbound: VecDeque<u8>,
    /// How much of it fits. `None`: the client reads at once.
    pub(super) room: Option<usize>,
    /// The client has closed its side.
    pub(super) is_ended: bool,
    /// The connection is broken.
    pub(super) is_reset: bool,
    /// The system refuses to watch the socket, or to hand it over.
    pub(super) is_refused: bool,
    /// The shard has shut down its side.
    pub(super) is_finished: bool,
    /// The shard has closed the socket.
    pub(super) is_dropped: bool,
    /// The number of the connection in its shard.
    pub(super) token: Option<usize>,
    /// Events of the poll, which come once for each change.
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
    /// Whether the shard was told that nothing more fits.
    is_full: bool,
}

impl Pipe {
    /// The client sends bytes.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if !self.is_reset && !self.is_ended {
            self.inbound.extend(bytes);
            self.is_readable = true;
        }
    }

    pub(super) fn end(&mut self) {
        (self.is_ended, self.is_readable) = (true, true);
    }

    pub(super) fn reset(&mut self) {
        (self.is_reset, self.is_readable, self.is_writable) = (true, true, true);
        self.inbound.clear();
    }

    /// The client reads up to `most` bytes.
    pub(super) fn receive(&mut self, most: usize) -> Vec<u8> {
        let count = most.min(self.outbound.len());
        let bytes: Vec<u8> = self.outbound.drain(..count).collect();
        self.freed();
        bytes
    }

    /// The client changes how much the kernel buffers for it.
    pub(super) fn set_room(&mut self, room: Option<usize>) {
        self.room = room;
        self.freed();
    }

    fn freed(&mut self) {
        if self.free() > 0 && std::mem::take(&mut self.is_full) {
            self.is_writable = true;
        }
    }

    fn free(&self) -> usize {
        self.room.map_or(usize::MAX, |room| room.saturating_sub(self.outbound.len()))
    }
}

/// The shard's end.
#[derive(Debug)]
pub(super) struct Wire(pub(super) Rc<RefCell<Pipe>>);

impl Drop for Wire {
    fn drop(&mut self) {
        self.0.borrow_mut().is_dropped = true;
    }
}

impl Socket for Wire {
    type Accepted = Self;

    fn open(accepted: Self) -> io::Result<Self> {
        Ok(accepted)
    }

    fn bound_silence(&mut self, _: Duration) {}

    fn register(&mut self, _: &Registry, token: Token) -> io::Result<()> {
        let mut pipe = self.0.borrow_mut();
        if pipe.is_refused {
            return Err(io::Error::from_raw_os_error(24));
        }
        // As epoll does for a socket that can be written.
        (pipe.token, pipe.is_writable) = (Some(token.0), true);
        Ok(())
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        self.0.borrow_mut().token = None;
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        if pipe.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if pipe.inbound.is_empty() {
            return if pipe.is_ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = into.len().min(pipe.inbound.len());
        pipe.inbound.drain(..count).zip(into).for_each(|(byte, slot)| *slot = byte);
        Ok(count)
    }

    fn write(&mut self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        if pipe.is_reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        assert!(!pipe.is_finished, "nothing is written after the end");
        let mut written = 0;
        for frame in frames {
            let count = frame.len().min(pipe.free());
            pipe.outbound.extend(&frame[..count]);
            written += count;
            if count < frame.len() {
                pipe.is_full = true;
                break;
            }
        }
        if written == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(written) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn is_plain(&self) -> bool {
        true
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.borrow_mut().is_finished = true;
        Ok(())
    }
}
