//! A client that reconnects, by non-blocking steps: connecting, upgrading, registering.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::endpoint::{Endpoint, Stream, unconnected};
use crate::frame::{self, Opcode};
use crate::http::parse_head;
use crate::idle::specs;

/// A text that all answers to a registration contain, and no event.
const ANSWER: &[u8] = br#""Type":"websocket","Action":"register""#;

/// A text that all answers to a message that was refused contain, and no event.
const REFUSAL: &[u8] = br#""Type":"websocket","Action":"error""#;

/// Maximum number of characters of a refusal's reason, by which failures are counted.
const REASON_MAX: usize = 200;

/// The progress of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not connected, and not trying.
    Away,
    Connecting,
    Upgrading,
    /// This number of registrations has been answered.
    Registering(usize),
    /// All registrations have been answered.
    Back,
}

/// The kind of a failed try.
pub(super) type Failure = String;

#[derive(Debug)]
pub(super) struct Client {
    pub(super) phase: Phase,
    pub(super) stream: Option<Stream>,
    /// When the current try began.
    pub(super) since: Instant,
    pub(super) tries: u32,
    index: usize,
    /// Bytes still to be sent.
    out: Vec<u8>,
    /// Bytes received but not yet parsed.
    input: Vec<u8>,
}

impl Client {
    pub(super) fn new(index: usize) -> Self {
        let (out, input) = (Vec::new(), Vec::new());
        Self { phase: Phase::Away, stream: None, since: Instant::now(), tries: 0, index, out, input }
    }

    /// Returns whether a try is in progress.
    pub(super) fn is_under_way(&self) -> bool {
        !matches!(self.phase, Phase::Away | Phase::Back)
    }

    /// Begins a try, the `number`th of all clients; the caller then polls the stream.
    pub(super) fn begin(&mut self, endpoint: &Endpoint, number: usize) -> Result<(), Failure> {
        self.leave();
        (self.since, self.tries) = (Instant::now(), self.tries + 1);
        let (address, tls) = endpoint.parts();
        let socket = unconnected(address, number).map_err(|e| kind(&e))?;
        socket.set_nonblocking(true).map_err(|e| kind(&e))?;
        match socket.connect(&address.into()) {
            Err(e) if e.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => return Err(kind(&e)),
            _ => {}
        }
        let socket: TcpStream = socket.into();
        // Without this option, commands wait for an acknowledgement; a refusal by the kernel has no other effect.
        let _ = socket.set_nodelay(true);
        self.stream = Some(match tls {
            None => Stream::Plain(socket),
            Some((config, name)) => {
                let session = rustls::ClientConnection::new(config.clone(), name.clone()).map_err(|e| e.to_string())?;
                Stream::Tls(Box::new(rustls::StreamOwned::new(session, socket)))
            }
        });
        self.out = endpoint.upgrade(self.index).into_bytes();
        self.phase = Phase::Connecting;
        Ok(())
    }

    /// Disconnects, and discards buffered bytes.
    pub(super) fn leave(&mut self) {
        self.phase = Phase::Away;
        self.stream = None;
        self.out.clear();
        self.input.clear();
    }

    /// Proceeds as far as possible without blocking.
    pub(super) fn advance(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        let Some(mut stream) = self.stream.take() else { return Ok(()) };
        let result = self.advance_on(&mut stream, buffer);
        self.stream = Some(stream);
        result
    }

    fn advance_on(&mut self, stream: &mut Stream, buffer: &mut [u8]) -> Result<(), Failure> {
        if self.phase == Phase::Connecting {
            if let Some(e) = stream.socket().take_error().map_err(|e| kind(&e))? {
                return Err(kind(&e));
            }
            if stream.socket().peer_addr().is_err() {
                return Ok(());
            }
            self.phase = Phase::Upgrading;
        }
        loop {
            self.send(stream)?;
            let got = match stream.read(buffer) {
                Ok(0) => return Err("ended".to_owned()),
                Ok(got) => got,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(kind(&e)),
            };
            self.input.extend_from_slice(&buffer[..got]);
            self.understand().map_err(|error| format!("{error:#}"))?;
        }
    }

    fn send(&mut self, stream: &mut Stream) -> Result<(), Failure> {
        while !self.out.is_empty() {
            match stream.write(&self.out) {
                Ok(sent) => drop(self.out.drain(..sent)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(kind(&e)),
            }
        }
        match stream.flush() {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(kind(&e)),
            _ => Ok(()),
        }
    }

    fn understand(&mut self) -> Result<()> {
        if self.phase == Phase::Upgrading {
            let Some((head, length)) = parse_head(&self.input)? else { return Ok(()) };
            if head.status != 101 {
                bail!("HTTP {}", head.status);
            }
            self.input.drain(..length);
            for spec in specs(self.index) {
                frame::write_masked(Opcode::Text, format!("register {spec}").as_bytes(), [7; 4], &mut self.out)?;
            }
            self.phase = Phase::Registering(0);
        }
        let mut at = 0;
        while let Some(frame) = frame::first(&self.input[at..])? {
            match (frame.opcode, self.phase) {
                (Opcode::Text, Phase::Registering(answers)) if has(frame.payload, ANSWER) => {
                    let all = answers + 1 == specs(self.index).len();
                    self.phase = if all { Phase::Back } else { Phase::Registering(answers + 1) };
                }
                (Opcode::Text, Phase::Registering(_)) if has(frame.payload, REFUSAL) => {
                    bail!("registration refused{}", self.reason(frame.payload));
                }
                (Opcode::Ping, _) => frame::write_masked(Opcode::Pong, frame.payload, [7; 4], &mut self.out)?,
                (Opcode::Close, _) => {
                    let reason = frame::close_reason(frame.payload);
                    bail!("closed {}", reason.split(' ').next().unwrap_or_default());
                }
                _ => {}
            }
            at += frame.len;
        }
        self.input.drain(..at);
        Ok(())
    }

    /// Returns why a registration was refused, without what only this client has registered, so that refusals can be
    /// counted by kind.
    fn reason(&self, answer: &[u8]) -> String {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let messages = answer["Object"]["Messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let text: Vec<&str> = messages.iter().filter_map(Value::as_str).collect();
        let plain = |text: String, spec: String| text.replace(&spec, "SPEC");
        let text = specs(self.index).into_iter().fold(text.join("; "), plain);
        if text.is_empty() { text } else { format!(": {}", text.chars().take(REASON_MAX).collect::<String>()) }
    }
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Returns an error of the system in few words, so that errors can be counted by kind.
fn kind(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        io::ErrorKind::ConnectionReset => "reset".to_owned(),
        io::ErrorKind::BrokenPipe => "broken pipe".to_owned(),
        io::ErrorKind::UnexpectedEof => "ended".to_owned(),
        io::ErrorKind::TimedOut => "timed out".to_owned(),
        io::ErrorKind::InvalidData => "TLS".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that has sent its registrations and receives this text.
    fn hearing(text: &str) -> (Client, Result<()>) {
        let mut client = Client::new(7);
        client.phase = Phase::Registering(2);
        client.input = [&[0x81, 126], &u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
        let result = client.understand();
        (client, result)
    }

    #[test]
    fn a_refused_registration_is_a_failure_with_its_reason() {
        let spec = &specs(7)[1];
        let answer = hydrant::protocol::answer::refused(
            &format!("register {spec}"),
            &format!("{spec}: too many registrations"),
            "user:rocketskates",
            hydrant::clock::now(),
        );
        let error = hearing(answer.json()).1.unwrap_err().to_string();
        assert_eq!(error, "registration refused: SPEC: too many registrations");
        let short = r#"{"Type":"websocket","Action":"error","Key":"","Object":null}"#;
        assert_eq!(hearing(short).1.unwrap_err().to_string(), "registration refused");
        let (client, result) = hearing(r#"{"Type":"websocket","Action":"register","Key":"","Object":null}"#);
        assert!(result.is_ok() && client.phase == Phase::Back);
    }
}
