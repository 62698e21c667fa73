//! One websocket of an attacker: sends commands, and counts what arrives.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::worker::{Worker, is_timeout};
use crate::endpoint::{Endpoint, Stream};
use crate::frame::{self, Opcode};

/// Time limit for a write to a server that does not read.
const WRITE_TIMEOUT: Duration = Duration::from_millis(500);

/// Size of the kernel's receive buffer for an attacker, in bytes.
const RECEIVE_BUFFER: usize = 8 << 10;

/// An attacker's websocket.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    input: Vec<u8>,
    /// Number of commands that were answered.
    pub(super) answers: u64,
}

impl Socket {
    /// Connects and upgrades to a websocket.
    ///
    /// # Errors
    /// Fails if the server refuses or does not answer in time.
    pub(super) fn open(endpoint: &Endpoint, worker: &Worker) -> Result<Self> {
        let (stream, input) = endpoint.websocket(worker.next_connection())?;
        stream.socket().set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self { stream, input, answers: 0 })
    }

    /// Makes the kernel's receive buffer as small as possible.
    pub(super) fn shrink(&self) -> Result<()> {
        Ok(socket2::SockRef::from(self.stream.socket()).set_recv_buffer_size(RECEIVE_BUFFER)?)
    }

    /// Sends commands in one write.
    ///
    /// # Errors
    /// Fails if the connection has ended, or if the server does not read.
    pub(super) fn send(&mut self, commands: impl IntoIterator<Item = String>) -> Result<()> {
        let mut bytes = Vec::new();
        for command in commands {
            frame::write_masked(Opcode::Text, command.as_bytes(), [7, 1, 3, 5], &mut bytes)?;
        }
        self.write(&bytes)
    }

    /// Sends raw bytes.
    ///
    /// # Errors
    /// Fails like [`Socket::send`].
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot send")?;
        self.stream.flush().context("cannot send")
    }

    /// Reads for at most `time`, until a total of `enough` commands have been answered.
    ///
    /// # Errors
    /// Fails if the connection has ended.
    pub(super) fn read(&mut self, time: Duration, enough: u64, worker: &Worker) -> Result<()> {
        let deadline = Instant::now() + time;
        while self.answers < enough && !worker.is_over() {
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(());
            }
            self.read_once(rest.min(Duration::from_millis(100)), worker)?;
        }
        Ok(())
    }

    /// Reads once, waiting for at most `timeout`.
    ///
    /// # Errors
    /// Fails if the connection has ended.
    pub(super) fn read_once(&mut self, timeout: Duration, worker: &Worker) -> Result<()> {
        self.stream.socket().set_read_timeout(Some(timeout))?;
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => bail!("connection closed"),
            Ok(got) => self.input.extend_from_slice(&chunk[..got]),
            Err(e) if is_timeout(&e) => return Ok(()),
            Err(e) => return Err(e).context("cannot read"),
        }
        self.understand(worker)
    }

    fn understand(&mut self, worker: &Worker) -> Result<()> {
        let (mut at, mut pongs) = (0, Vec::new());
        while let Some(frame) = frame::first(&self.input[at..])? {
            match frame.opcode {
                Opcode::Ping => frame::write_masked(Opcode::Pong, frame.payload, [0; 4], &mut pongs)?,
                Opcode::Close => {
                    let reason = frame::close_reason(frame.payload);
                    bail!("closed {}", reason.split(' ').next().unwrap_or_default());
                }
                _ => {
                    let what = answer(frame.payload);
                    self.answers += u64::from(what != "event");
                    worker.count(what);
                }
            }
            at += frame.len;
        }
        self.input.drain(..at);
        if pongs.is_empty() { Ok(()) } else { self.write(&pongs) }
    }
}

/// Returns the kind of a message.
fn answer(text: &[u8]) -> &'static str {
    let has = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
    if !has(br#""Type":"websocket""#) {
        "event"
    } else if has(br#""Action":"error""#) {
        "refused"
    } else {
        "accepted"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_events() {
        let text = |kind, action| format!(r#"{{"Time":"","Type":"{kind}","Action":"{action}","Key":"k"}}"#);
        assert_eq!(answer(text("websocket", "register").as_bytes()), "accepted");
        assert_eq!(answer(text("websocket", "error").as_bytes()), "refused");
        assert_eq!(answer(text("connections", "create").as_bytes()), "event");
    }
}
