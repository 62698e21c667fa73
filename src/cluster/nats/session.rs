//! One connection to a NATS server, once it has begun: a side that reads and a side that writes.
//!
//! Contract: both sides may be given up at any await and go on later; nothing is lost or doubled by that.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::timeout;

use super::address::Address;
use super::op::{self, Op, OpError, ServerInfo};

/// Room for what is read at once.
const READ_BYTES: usize = 64 << 10;

/// Between two PINGs.
pub(in crate::cluster) const PULSE: Duration = Duration::from_secs(1);

/// A server that says nothing from one PING to the one so many later is not there: `/readyz` tells it within five
/// seconds.
const SILENCE: u32 = 4;

/// Whether a server answers. Counted in ticks and not in time: while this process stood still nobody could be heard.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Pulse(AtomicU32);

impl Pulse {
    /// Something came.
    pub(in crate::cluster) fn heard(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// [`PULSE`] has passed: a PING is due.
    ///
    /// # Errors
    /// [`SessionError::Silent`].
    pub(in crate::cluster) fn tick(&self) -> Result<(), SessionError> {
        if self.0.fetch_add(1, Ordering::Relaxed) + 1 > SILENCE { Err(SessionError::Silent) } else { Ok(()) }
    }
}

/// What a connection is made of: TCP, or TLS over it.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Why a connection does not go on.
#[derive(Debug, Error)]
pub(in crate::cluster) enum SessionError {
    /// The socket.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came over it.
    #[error(transparent)]
    Op(#[from] OpError),
    /// An end without a word.
    #[error("the server closed the connection")]
    Ended,
    /// The server says no.
    #[error("the server says: {0}")]
    Refused(String),
    /// The server does not answer.
    #[error("the server does not answer")]
    Silent,
}

/// The side that reads.
pub(in crate::cluster) struct Incoming {
    socket: ReadHalf<Box<dyn Socket>>,
    buffer: BytesMut,
}

/// The side that writes.
pub(in crate::cluster) struct Outgoing {
    socket: WriteHalf<Box<dyn Socket>>,
    buffer: BytesMut,
}

/// One established connection to a NATS server. Reading and writing are cancel-safe.
pub(in crate::cluster) struct Session {
    pub(in crate::cluster) incoming: Incoming,
    pub(in crate::cluster) outgoing: Outgoing,
    /// What the server has said of itself when the connection began.
    pub(in crate::cluster) info: ServerInfo,
    pub(in crate::cluster) address: Address,
}

impl Incoming {
    pub(super) fn new(socket: ReadHalf<Box<dyn Socket>>) -> Self {
        Self { socket, buffer: BytesMut::new() }
    }

    /// What the server says next.
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

    /// Bytes that wait for [`Outgoing::flush`].
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

    /// Hands everything that waits to the kernel, as long as the server shows that it is there.
    ///
    /// # Errors
    /// [`SessionError::Silent`] too: a server that stands still reads nothing, and then nothing can be written.
    pub(in crate::cluster) async fn flush_while(&mut self, pulse: &Pulse) -> Result<(), SessionError> {
        loop {
            match timeout(PULSE, self.flush()).await {
                Ok(flushed) => return Ok(flushed?),
                Err(_) => pulse.tick()?,
            }
        }
    }

    /// Hands everything that waits to the kernel.
    pub(in crate::cluster) async fn flush(&mut self) -> io::Result<()> {
        while !self.buffer.is_empty() {
            if self.socket.write_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.socket.flush().await
    }
}

/// The two sides of a socket.
pub(super) fn sides(socket: Box<dyn Socket>) -> (Incoming, Outgoing) {
    let (reader, writer) = split(socket);
    (Incoming::new(reader), Outgoing::new(writer))
}

impl Incoming {
    /// The socket again, if nothing is left of what was read: for the change to TLS.
    pub(super) fn into_socket(self, outgoing: Outgoing) -> Option<Box<dyn Socket>> {
        self.buffer.is_empty().then(|| self.socket.unsplit(outgoing.socket))
    }
}
