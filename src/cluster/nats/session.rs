//! One established connection to a NATS server: a reading and a writing side.
//!
//! Contract: both sides are cancel-safe: a call dropped at any await can be repeated, and no data is lost or
//! duplicated.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::timeout;

use super::address::Address;
use super::op::{self, Op, OpError, ServerInfo};

/// Buffer space reserved for a read, in bytes.
const READ_BYTES: usize = 64 << 10;

/// Interval between two PINGs.
pub(in crate::cluster) const PULSE: Duration = Duration::from_secs(1);

/// Number of [`PULSE`] intervals without any data after which a server counts as dead, so that `/readyz` reports it
/// within five seconds.
const SILENCE: u32 = 4;

/// Detects dead servers. Counts ticks instead of time, because a process that was suspended could not hear the server.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Pulse(AtomicU32);

impl Pulse {
    /// Records that data arrived.
    pub(in crate::cluster) fn heard(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Records that one [`PULSE`] has passed, so a PING is due.
    ///
    /// # Errors
    /// [`SessionError::Silent`] if nothing arrived for too many ticks.
    pub(in crate::cluster) fn tick(&self) -> Result<(), SessionError> {
        if self.0.fetch_add(1, Ordering::Relaxed) + 1 > SILENCE { Err(SessionError::Silent) } else { Ok(()) }
    }
}

/// The transport of a connection: TCP, or TLS over it.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Why a connection ended.
#[derive(Debug, Error)]
pub(in crate::cluster) enum SessionError {
    /// Reading from or writing to the socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server sent something that is not the protocol.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The server closed the connection without an error.
    #[error("the server closed the connection")]
    Ended,
    /// The server sent an error.
    #[error("the server reported: {0}")]
    Refused(String),
    /// The server does not answer.
    #[error("the server did not answer in time")]
    Silent,
}

/// The reading side of a connection.
pub(in crate::cluster) struct Incoming {
    socket: ReadHalf<Box<dyn Socket>>,
    buffer: BytesMut,
}

/// The writing side of a connection.
pub(in crate::cluster) struct Outgoing {
    socket: WriteHalf<Box<dyn Socket>>,
    buffer: BytesMut,
}

/// One established connection to a NATS server. Reading and writing are cancel-safe.
pub(in crate::cluster) struct Session {
    pub(in crate::cluster) incoming: Incoming,
    pub(in crate::cluster) outgoing: Outgoing,
    /// The server's INFO at the beginning of the connection.
    pub(in crate::cluster) info: ServerInfo,
    pub(in crate::cluster) address: Address,
}

impl Incoming {
    pub(super) fn new(socket: ReadHalf<Box<dyn Socket>>) -> Self {
        Self { socket, buffer: BytesMut::new() }
    }

    /// Reads the server's next operation.
    pub(in crate::cluster) async fn next(&mut self) -> Result<Op, SessionError> {
        loop {
            if let Some(op) = op::next(&mut self.buffer)? {
                return Ok(op);
            }
            self.buffer.reserve(READ_BYTES);
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(SessionError::Ended);
            }
        }
    }
}

impl Outgoing {
    pub(super) fn new(socket: WriteHalf<Box<dyn Socket>>) -> Self {
        Self { socket, buffer: BytesMut::new() }
    }

    /// Returns the number of bytes that wait for [`Outgoing::flush`].
    pub(in crate::cluster) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    pub(in crate::cluster) fn publish(&mut self, subject: &str, reply: Option<&str>, headers: &[u8], payload: &[u8]) {
        op::publish(&mut self.buffer, subject, reply, headers, payload);
    }

    pub(in crate::cluster) fn subscribe(&mut self, subject: &str, sid: u64) {
        self.line(&format!("SUB {subject} {sid}"));
    }

    pub(in crate::cluster) fn unsubscribe(&mut self, sid: u64) {
        self.line(&format!("UNSUB {sid}"));
    }

    pub(in crate::cluster) fn ping(&mut self) {
        self.line("PING");
    }

    pub(in crate::cluster) fn pong(&mut self) {
        self.line("PONG");
    }

    pub(super) fn line(&mut self, line: &str) {
        self.buffer.put_slice(line.as_bytes());
        self.buffer.put_slice(b"\r\n");
    }

    /// Writes all buffered data to the socket, as long as the server shows signs of life.
    ///
    /// # Errors
    /// [`SessionError::Silent`] too: a server that hangs reads nothing, so nothing can be written.
    pub(in crate::cluster) async fn flush_while(&mut self, pulse: &Pulse) -> Result<(), SessionError> {
        loop {
            match timeout(PULSE, self.flush()).await {
                Ok(flushed) => return Ok(flushed?),
                Err(_) => pulse.tick()?,
            }
        }
    }

    /// Writes all buffered data to the socket.
    pub(in crate::cluster) async fn flush(&mut self) -> io::Result<()> {
        while !self.buffer.is_empty() {
            if self.socket.write_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.socket.flush().await
    }
}

/// Splits a socket into its reading and writing side.
pub(super) fn sides(socket: Box<dyn Socket>) -> (Incoming, Outgoing) {
    let (reader, writer) = split(socket);
    (Incoming::new(reader), Outgoing::new(writer))
}

impl Incoming {
    /// Returns the socket if no read data is left in the buffer: for the upgrade to TLS.
    pub(super) fn into_socket(self, outgoing: Outgoing) -> Option<Box<dyn Socket>> {
        self.buffer.is_empty().then(|| self.socket.unsplit(outgoing.socket))
    }
}

#[cfg(test)]
impl Outgoing {
    /// Creates a writing side whose bytes a simulation takes.
    pub(in crate::cluster) fn in_memory() -> Self {
        sides(Box::new(tokio::io::empty())).1
    }

    /// Removes and returns the bytes that wait to be written.
    pub(in crate::cluster) fn take(&mut self) -> BytesMut {
        std::mem::take(&mut self.buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_says_nothing_is_given_up_within_five_seconds() {
        let pulse = Pulse::default();
        let ticks = |pulse: &Pulse| (1..100).find(|_| pulse.tick().is_err()).expect("it is given up");
        assert!(PULSE * ticks(&pulse) <= Duration::from_secs(5));
        pulse.heard();
        assert_eq!(ticks(&pulse), SILENCE + 1, "whatever comes is a sign of life");
    }
}
