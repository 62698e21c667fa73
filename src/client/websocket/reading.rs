//! The task that reads a websocket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastwebsockets::{Frame, OpCode, Role, WebSocket, WebSocketError};
use tokio::io::{BufReader, Join, ReadHalf, Sink, join, sink};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::{Bounds, Outgoing, Socket};
use crate::client::endpoint::Target;
use crate::client::error::{ClientError, printable};
use crate::client::http::broken;

/// Bytes of messages that wait for the consumer; one message always fits.
const WAITING_BYTES: u32 = 1 << 20;
/// So much is read from the socket at once.
const READ_BYTES: usize = 64 << 10;

type Reader = WebSocket<Join<BufReader<ReadHalf<Socket>>, Sink>>;

/// A text with its share of [`WAITING_BYTES`], which is free again when the message is taken.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) text: String,
    _room: OwnedSemaphorePermit,
}

/// When the server was last heard of.
#[derive(Debug)]
pub(super) struct Heard {
    opened: Instant,
    /// Microseconds since then.
    last: AtomicU64,
    /// Binary messages, which nobody can use.
    binaries: AtomicU64,
}

impl Heard {
    pub(super) fn new() -> Self {
        Self { opened: Instant::now(), last: AtomicU64::new(0), binaries: AtomicU64::new(0) }
    }

    pub(super) fn ago(&self) -> Duration {
        self.opened.elapsed().saturating_sub(Duration::from_micros(self.last.load(Ordering::Relaxed)))
    }

    /// Binary messages so far.
    pub(super) fn binaries(&self) -> u64 {
        self.binaries.load(Ordering::Relaxed)
    }

    fn now(&self) {
        let micros = u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(micros, Ordering::Relaxed);
    }
}

/// The reading side. It writes nothing by itself: pongs and closes are the writer's.
fn reader(read: ReadHalf<Socket>, message_bytes: usize) -> Reader {
    let read = BufReader::with_capacity(READ_BYTES, read);
    let mut socket = WebSocket::after_handshake(join(read, sink()), Role::Client);
    socket.set_auto_pong(false);
    socket.set_auto_close(false);
    // The bound is the first length that is refused.
    socket.set_max_message_size(message_bytes.saturating_add(1));
    socket
}

/// The task that reads.
pub(super) struct Reading {
    socket: Reader,
    target: Target,
    bounds: Bounds,
    heard: Arc<Heard>,
    room: Arc<Semaphore>,
    /// The parts so far of a message that comes in parts. Joined here, because fastwebsockets' own joiner has no bound.
    parts: Option<Vec<u8>>,
    /// Whether a binary message is being passed over.
    in_binary: bool,
}

impl Reading {
    pub(super) fn new(read: ReadHalf<Socket>, target: Target, bounds: Bounds, heard: Arc<Heard>) -> Self {
        let socket = reader(read, bounds.message_bytes);
        let room = Arc::new(Semaphore::new(WAITING_BYTES as usize));
        Self { socket, target, bounds, heard, room, parts: None, in_binary: false }
    }

    /// Reads until the end, which is the last that comes in, or until nobody wants it any more.
    pub(super) async fn run(
        mut self,
        incoming: mpsc::Sender<Result<Message, ClientError>>,
        outgoing: mpsc::Sender<Outgoing>,
    ) {
        let end = loop {
            match self.next(&outgoing).await {
                Ok(None) => {}
                Ok(Some(text)) => {
                    let Some(message) = self.wait_for_room(text).await else { return };
                    if incoming.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
                Err(end) => break end,
            }
        };
        if let ClientError::Closed { .. } = end {
            let _ = outgoing.try_send(Outgoing::Close);
        }
        let _ = incoming.send(Err(end)).await;
    }

    async fn wait_for_room(&mut self, text: String) -> Option<Message> {
        let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX).min(WAITING_BYTES);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.ok()?;
        Some(Message { text, _room: room })
    }

    /// The next frame; the text of a message if it ends one.
    async fn next(&mut self, outgoing: &mpsc::Sender<Outgoing>) -> Result<Option<String>, ClientError> {
        let frame = self.frame().await?;
        self.heard.now();
        match frame.opcode {
            OpCode::Text if frame.fin && self.parts.is_none() => self.text(frame.payload.to_vec()).map(Some),
            OpCode::Binary if self.parts.is_none() => {
                self.heard.binaries.fetch_add(1, Ordering::Relaxed);
                self.in_binary = !frame.fin;
                Ok(None)
            }
            OpCode::Continuation if self.in_binary => {
                self.in_binary = !frame.fin;
                Ok(None)
            }
            OpCode::Text | OpCode::Binary | OpCode::Continuation => self.join(&frame),
            OpCode::Close => Err(closed(&frame.payload)),
            OpCode::Ping => {
                // If the writer is that far behind, an older pong is still to be sent, and one will do.
                let _ = outgoing.try_send(Outgoing::Pong(frame.payload.to_vec()));
                Ok(None)
            }
            OpCode::Pong => Ok(None),
        }
    }

    async fn frame(&mut self) -> Result<Frame<'static>, ClientError> {
        // Giving up a read halfway is harmless here: the connection is given up with it.
        match timeout(self.bounds.silence, self.socket.read_frame()).await {
            Ok(Ok(frame)) => Ok(frame),
            Ok(Err(WebSocketError::UnexpectedEOF)) => Err(self.broken("it ended without a close")),
            Ok(Err(WebSocketError::FrameTooLarge)) => Err(self.too_long()),
            Ok(Err(e)) => Err(broken(&self.target, &e)),
            Err(_) => {
                let endpoint = self.target.endpoint.to_string();
                Err(ClientError::Silent { endpoint, after: self.bounds.silence })
            }
        }
    }

    fn join(&mut self, frame: &Frame<'static>) -> Result<Option<String>, ClientError> {
        if (frame.opcode == OpCode::Text) != self.parts.is_none() {
            return Err(self.broken("the parts of a message are out of order"));
        }
        let mut parts = self.parts.take().unwrap_or_default();
        if parts.len() + frame.payload.len() > self.bounds.message_bytes {
            return Err(self.too_long());
        }
        parts.extend_from_slice(&frame.payload);
        if frame.fin {
            return self.text(parts).map(Some);
        }
        self.parts = Some(parts);
        Ok(None)
    }

    fn text(&self, bytes: Vec<u8>) -> Result<String, ClientError> {
        String::from_utf8(bytes).map_err(|e| broken(&self.target, &e))
    }

    fn too_long(&self) -> ClientError {
        self.broken(&format!("a message is longer than {} bytes", self.bounds.message_bytes))
    }

    fn broken(&self, reason: &str) -> ClientError {
        ClientError::Broken { endpoint: self.target.endpoint.to_string(), reason: reason.to_owned() }
    }
}

fn closed(payload: &[u8]) -> ClientError {
    const NO_STATUS: u16 = 1005;
    match payload {
        [high, low, reason @ ..] => ClientError::Closed {
            code: u16::from_be_bytes([*high, *low]),
            reason: printable(&String::from_utf8_lossy(reason)),
        },
        _ => ClientError::Closed { code: NO_STATUS, reason: String::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_are_read_with_and_without_a_reason() {
        let shown = |payload: &[u8]| closed(payload).to_string();
        assert_eq!(shown(b"\x03\xf5slow"), "the server closed the connection: 1013 (slow)");
        assert_eq!(shown(b"\x03\xe9"), "the server closed the connection: 1001");
        assert_eq!(shown(b""), "the server closed the connection: 1005");
        assert!(closed(b"\x03\xf0").is_final());
        assert!(!closed(b"\x03\xf5").is_final());
    }
}
