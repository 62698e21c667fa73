//! One established connection to a NATS server: a reading and a writing side.
//!
//! Contract: both sides are cancel-safe: a call dropped at any await can be repeated, and no data is lost or
//! duplicated.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::timeout;

use super::address::Address;
use super::op::{self, Op, OpError, Parser, ServerInfo};

/// Buffer space reserved for a read, in bytes.
const READ_BYTES: usize = 64 << 10;

/// Interval between two PINGs.
pub(in crate::cluster) const PULSE: Duration = Duration::from_secs(1);

/// Number of [`PULSE`] intervals without a sign of life after which a server counts as dead, so that `/readyz` reports
/// it within five seconds.
const SILENCE: u32 = 4;

/// Number of bytes per [`PULSE`] that count as a sign of life although they complete no operation: parts of a large
/// message over a slow link. Since messages are bounded, a server that takes or gives fewer holds no message for ever.
const PROGRESS: usize = 16 << 10;

/// Number of [`PULSE`] intervals in a row in which a server may take less than [`PROGRESS`] of what is to be written,
/// even if it says something.
const STALLS: u32 = 60;

/// Detects dead servers. Counts ticks instead of time, because a process that was suspended could not hear the server.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Pulse {
    /// Ticks without a sign of life.
    silent: AtomicU32,
    /// Bytes moved since the last tick.
    moved: AtomicUsize,
}

impl Pulse {
    /// Records that an operation arrived.
    pub(in crate::cluster) fn heard(&self) {
        self.silent.store(0, Ordering::Relaxed);
    }

    /// Records bytes of an operation that is not complete.
    fn moved(&self, bytes: usize) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Records that one [`PULSE`] has passed, so a PING is due.
    ///
    /// # Errors
    /// [`SessionError::Silent`] if there was no sign of life for too many ticks.
    pub(in crate::cluster) fn tick(&self) -> Result<(), SessionError> {
        if self.moved.swap(0, Ordering::Relaxed) >= PROGRESS {
            self.heard();
            return Ok(());
        }
        if self.silent.fetch_add(1, Ordering::Relaxed) + 1 > SILENCE { Err(SessionError::Silent) } else { Ok(()) }
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
    parser: Parser,
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
        Self { socket, buffer: BytesMut::new(), parser: Parser::default() }
    }

    /// Reads the server's next operation.
    pub(in crate::cluster) async fn next(&mut self) -> Result<Op, SessionError> {
        self.next_with(&Pulse::default()).await
    }

    /// Reads the server's next operation. Until it is complete, its parts are signs of life.
    pub(in crate::cluster) async fn next_with(&mut self, pulse: &Pulse) -> Result<Op, SessionError> {
        loop {
            if let Some(op) = self.parser.next(&mut self.buffer)? {
                pulse.heard();
                return Ok(op);
            }
            self.buffer.reserve(READ_BYTES);
            match self.socket.read_buf(&mut self.buffer).await? {
                0 => return Err(SessionError::Ended),
                bytes => pulse.moved(bytes),
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

    /// Writes all buffered data to the socket, as long as the server shows signs of life. That it takes data is one.
    ///
    /// # Errors
    /// [`SessionError::Silent`] too: a server that hangs reads nothing, so nothing can be written.
    pub(in crate::cluster) async fn flush_while(&mut self, pulse: &Pulse) -> Result<(), SessionError> {
        let (mut is_blocked, mut stalls) = (false, 0);
        loop {
            let before = self.buffer.len();
            if let Ok(flushed) = timeout(PULSE, self.flush()).await {
                return Ok(flushed?);
            }
            let written = before - self.buffer.len();
            // At first the kernel takes it, which shows nothing about the server.
            if std::mem::replace(&mut is_blocked, true) {
                pulse.moved(written);
            }
            stalls = if written < PROGRESS { stalls + 1 } else { 0 };
            if stalls > STALLS {
                return Err(SessionError::Silent);
            }
            pulse.tick()?;
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
impl Session {
    /// Creates a connection whose server is the returned end.
    pub(in crate::cluster) fn in_memory() -> (Self, tokio::io::DuplexStream) {
        let (socket, server) = tokio::io::duplex(64 << 10);
        let (incoming, outgoing) = sides(Box::new(socket));
        let address = "nats://server:4222".parse().expect("an address");
        (Self { incoming, outgoing, info: ServerInfo::default(), address }, server)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::time::{Instant, interval, sleep};

    use super::*;

    /// A connection whose buffers hold 64 KiB, and the end of the server.
    fn connection() -> ((Incoming, Outgoing), DuplexStream) {
        let (socket, server) = duplex(64 << 10);
        (sides(Box::new(socket)), server)
    }

    /// Takes this many bytes a second.
    async fn take(server: &mut DuplexStream, bytes: usize) {
        let mut taken = vec![0; bytes];
        while server.read_exact(&mut taken).await.is_ok() {
            sleep(PULSE).await;
        }
    }

    /// Sends a message of a mebibyte at this many bytes a second.
    async fn give(server: &mut DuplexStream, bytes: usize) {
        server.write_all(b"MSG a 1 1048576\r\n").await.unwrap();
        for part in vec![b'x'; 1 << 20].chunks(bytes) {
            server.write_all(part).await.unwrap();
            sleep(PULSE).await;
        }
        server.write_all(b"\r\n").await.unwrap();
        std::future::pending::<()>().await;
    }

    /// Ticks as the sending side does.
    async fn ticks(pulse: &Pulse) -> SessionError {
        let mut ticks = interval(PULSE);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if let Err(error) = pulse.tick() {
                return error;
            }
        }
    }

    /// Writes an event of a mebibyte to a server that takes so much a second. Returns the result and the seconds.
    async fn write(bytes: usize, pulse: &Pulse) -> (Result<(), SessionError>, u64) {
        let ((_incoming, mut outgoing), mut server) = connection();
        outgoing.publish("a", None, b"", &vec![b'x'; 1 << 20]);
        let began = Instant::now();
        let written = tokio::select! {
            written = outgoing.flush_while(pulse) => written,
            () = take(&mut server, bytes) => unreachable!("the connection stands"),
        };
        (written, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_event_is_written_over_a_slow_link() {
        for bytes in [100_000, PROGRESS] {
            let (written, seconds) = write(bytes, &Pulse::default()).await;
            assert!(written.is_ok() && seconds > 8, "{bytes}: {written:?} after {seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_next_to_nothing_is_given_up() {
        let (written, seconds) = write(1000, &Pulse::default()).await;
        assert!(matches!(written, Err(SessionError::Silent)) && seconds <= 5, "{written:?} after {seconds} s");
        // It says something now and then, such as what other nodes send.
        let pulse = Pulse::default();
        let speaks = async {
            loop {
                pulse.heard();
                sleep(PULSE / 2).await;
            }
        };
        let (written, seconds) = tokio::select! {
            written = write(1000, &pulse) => written,
            () = speaks => unreachable!("for ever"),
        };
        assert!(matches!(written, Err(SessionError::Silent)) && seconds <= 65, "{written:?} after {seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_message_is_read_over_a_slow_link_and_one_that_trickles_is_not() {
        for (bytes, comes) in [(100_000, true), (PROGRESS, true), (1000, false)] {
            let ((mut incoming, _outgoing), mut server) = connection();
            let pulse = Pulse::default();
            let began = Instant::now();
            let came = tokio::select! {
                op = incoming.next_with(&pulse) => op.is_ok(),
                SessionError::Silent = ticks(&pulse) => false,
                () = give(&mut server, bytes) => unreachable!("it sends no more"),
            };
            let seconds = began.elapsed().as_secs();
            assert!(came == comes && (came || seconds <= 5), "{bytes}: {came} after {seconds} s");
        }
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up_within_five_seconds() {
        let pulse = Pulse::default();
        let ticks = |pulse: &Pulse| (1..100).find(|_| pulse.tick().is_err()).expect("it is given up");
        assert!(PULSE * ticks(&pulse) <= Duration::from_secs(5));
        pulse.heard();
        assert_eq!(ticks(&pulse), SILENCE + 1, "whatever comes is a sign of life");
    }
}
