//! The task that reads a websocket.
//!
//! Contract: it writes nothing by itself; it asks the writer for pongs and the close. The unread messages of the
//! consumer are bounded in bytes, so a slow consumer stops the reading, not the memory. The last item is the reason of
//! the end. Binary messages are only counted, and text messages over the limit are skipped, because an endpoint may
//! send them and the events after them still count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastwebsockets::OpCode;
use tokio::io::ReadHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::frames::{Frame, FrameError, Frames, MOST_SKIPPED, Payload};
use super::{Bounds, Outgoing, Socket};
use crate::client::endpoint::Target;
use crate::client::error::{ClientError, printable};
use crate::client::http::broken;
use crate::websocket::decode::is_close_code;

/// Codes of a close (RFC 6455, section 7.4): there was none, and those that this side says.
const NO_STATUS: u16 = 1005;
pub(super) const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const BAD_TEXT: u16 = 1007;

/// Bytes of messages that may be queued for the consumer; one message always fits.
const WAITING_BYTES: u32 = 1 << 20;

/// A message from the server.
#[derive(Debug)]
pub(super) enum Content {
    Text(String),
    /// The message was longer than allowed, and was discarded: its length in bytes.
    Skipped(u64),
}

/// A message with its share of [`WAITING_BYTES`], which is released when the message is consumed.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) content: Content,
    _room: OwnedSemaphorePermit,
}

/// The received parts of a fragmented message. They are joined here, because a message that is too long is skipped.
#[derive(Debug, Default)]
struct Parts {
    /// Empty once the message is too long.
    bytes: Vec<u8>,
    length: u64,
    skipped: bool,
}

/// When the server was last heard.
#[derive(Debug)]
pub(super) struct Heard {
    opened: Instant,
    /// Microseconds from `opened` to the last received bytes.
    last: AtomicU64,
    /// Number of binary messages, which are skipped.
    binaries: AtomicU64,
}

impl Heard {
    pub(super) fn new() -> Self {
        Self { opened: Instant::now(), last: AtomicU64::new(0), binaries: AtomicU64::new(0) }
    }

    pub(super) fn ago(&self) -> Duration {
        self.opened.elapsed().saturating_sub(Duration::from_micros(self.last.load(Ordering::Relaxed)))
    }

    fn count_binary(&self) {
        self.binaries.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of binary messages so far.
    pub(super) fn binaries(&self) -> u64 {
        self.binaries.load(Ordering::Relaxed)
    }

    fn now(&self) {
        let micros = u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(micros, Ordering::Relaxed);
    }
}

/// The task that reads.
pub(super) struct Reading {
    frames: Frames<ReadHalf<Socket>>,
    target: Target,
    bounds: Bounds,
    heard: Arc<Heard>,
    room: Arc<Semaphore>,
    parts: Option<Parts>,
    /// Whether a binary message is being skipped.
    in_binary: bool,
    /// With which code the connection is closed at the end; nothing where nobody would read it.
    reply: Option<u16>,
}

impl Reading {
    pub(super) fn new(read: ReadHalf<Socket>, target: Target, bounds: Bounds, heard: Arc<Heard>) -> Self {
        let frames = Frames::new(read, bounds.message_bytes, bounds.silence);
        let room = Arc::new(Semaphore::new(WAITING_BYTES as usize));
        Self { frames, target, bounds, heard, room, parts: None, in_binary: false, reply: None }
    }

    /// Reads until the end, whose error is sent last, or until the receiver is dropped.
    pub(super) async fn run(
        mut self,
        incoming: mpsc::Sender<Result<Message, ClientError>>,
        outgoing: mpsc::Sender<Outgoing>,
    ) {
        let end = loop {
            match self.next(&outgoing).await {
                Ok(None) => {}
                Ok(Some(content)) => {
                    let Some(message) = self.wait_for_room(content).await else { return };
                    if incoming.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
                Err(end) => break end,
            }
        };
        if let Some(code) = self.reply {
            let _ = outgoing.try_send(Outgoing::Close(code));
        }
        let _ = incoming.send(Err(end)).await;
    }

    async fn wait_for_room(&mut self, content: Content) -> Option<Message> {
        let bytes = if let Content::Text(text) = &content { text.len() } else { 0 };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(WAITING_BYTES);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.ok()?;
        Some(Message { content, _room: room })
    }

    /// Reads the next frame; returns the message if the frame completes one.
    async fn next(&mut self, outgoing: &mpsc::Sender<Outgoing>) -> Result<Option<Content>, ClientError> {
        let frame = self.frame().await?;
        match (frame.opcode, &frame.payload) {
            (OpCode::Binary | OpCode::Continuation, _) if self.passes_over(&frame) => Ok(None),
            (OpCode::Text | OpCode::Binary | OpCode::Continuation, _) => self.join(&frame),
            (OpCode::Close, Payload::Whole(payload)) => Err(self.closed(payload)),
            (OpCode::Ping, Payload::Whole(payload)) => {
                // If the writer lags that far, an older pong is still queued, and one suffices.
                let _ = outgoing.try_send(Outgoing::Pong(payload.to_vec()));
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Returns whether a frame belongs to a binary message; such messages are only counted.
    fn passes_over(&mut self, frame: &Frame) -> bool {
        let begins = frame.opcode == OpCode::Binary && self.parts.is_none();
        let is_binary = begins || self.in_binary;
        if begins {
            self.heard.count_binary();
        }
        self.in_binary = is_binary && !frame.fin;
        is_binary
    }

    async fn frame(&mut self) -> Result<Frame, ClientError> {
        // Cancelling a read midway is harmless here: the connection ends with it.
        self.frames.next(|| self.heard.now()).await.map_err(|error| match error {
            FrameError::Silent => {
                let endpoint = self.target.endpoint.to_string();
                ClientError::Silent { endpoint, after: self.bounds.silence }
            }
            error => {
                if matches!(error, FrameError::Rule(_)) {
                    self.reply = Some(PROTOCOL_ERROR);
                }
                broken(&self.target, &error)
            }
        })
    }

    fn join(&mut self, frame: &Frame) -> Result<Option<Content>, ClientError> {
        if (frame.opcode == OpCode::Text) != self.parts.is_none() {
            return Err(self.broken("the fragments of a message are out of order"));
        }
        let mut parts = self.parts.take().unwrap_or_default();
        parts.add(&frame.payload, self.bounds.message_bytes);
        if parts.length > MOST_SKIPPED {
            return Err(self.broken(&format!("a message is longer than {MOST_SKIPPED} bytes")));
        }
        if !frame.fin {
            self.parts = Some(parts);
            return Ok(None);
        }
        if parts.skipped {
            return Ok(Some(Content::Skipped(parts.length)));
        }
        let text = String::from_utf8(parts.bytes).map_err(|error| {
            self.reply = Some(BAD_TEXT);
            broken(&self.target, &error)
        })?;
        Ok(Some(Content::Text(text)))
    }

    /// Answers the server's close frame with its own code (RFC 6455, section 5.5.1), and returns the reason of the end.
    fn closed(&mut self, payload: &[u8]) -> ClientError {
        match read_close(payload) {
            Ok((code, reason)) => {
                self.reply = Some(if code == NO_STATUS { NORMAL } else { code });
                ClientError::Closed { code, reason: printable(reason).into_owned() }
            }
            Err(code) => {
                self.reply = Some(code);
                self.broken("the close frame is malformed")
            }
        }
    }

    fn broken(&mut self, reason: &str) -> ClientError {
        self.reply.get_or_insert(PROTOCOL_ERROR);
        ClientError::Broken { endpoint: self.target.endpoint.to_string(), reason: reason.to_owned() }
    }
}

impl Parts {
    fn add(&mut self, payload: &Payload, allowed: usize) {
        match payload {
            Payload::Whole(bytes) if !self.skipped && self.bytes.len() + bytes.len() <= allowed => {
                self.bytes.extend_from_slice(bytes);
                self.length += bytes.len() as u64;
            }
            Payload::Whole(bytes) => self.skip(bytes.len() as u64),
            Payload::Skipped(length) => self.skip(*length),
        }
    }

    fn skip(&mut self, length: u64) {
        self.length = self.length.saturating_add(length);
        (self.bytes, self.skipped) = (Vec::new(), true);
    }
}

/// Parses code and reason of a close frame; the error is the code to answer with.
fn read_close(payload: &[u8]) -> Result<(u16, &str), u16> {
    match payload {
        [] => Ok((NO_STATUS, "")),
        [high, low, reason @ ..] if is_close_code(u16::from_be_bytes([*high, *low])) => {
            let reason = std::str::from_utf8(reason).map_err(|_| BAD_TEXT)?;
            Ok((u16::from_be_bytes([*high, *low]), reason))
        }
        _ => Err(PROTOCOL_ERROR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_are_read_with_and_without_a_reason() {
        assert_eq!(read_close(b"\x03\xf5slow"), Ok((1013, "slow")));
        assert_eq!(read_close(b"\x03\xe9"), Ok((1001, "")));
        assert_eq!(read_close(b""), Ok((1005, "")));
        for (payload, code) in [(&b"\x03"[..], 1002), (b"\x03\xed", 1002), (b"\x00\x00", 1002), (b"\x03\xe8\xff", 1007)]
        {
            assert_eq!(read_close(payload), Err(code), "{payload:?}");
        }
    }
}
