//! Thousands of websocket clients on one thread.
//!
//! Contract: [`Swarm::poll`] reads what is available and passes every text message to a [`Sink`] as a slice of the
//! single read buffer; nothing is copied unless the end of a read splits a frame. Pings are answered; a close or an
//! error ends its connection and is reported to the sink. Not `Sync`: one thread owns a swarm.
//!
//! Why not one task per client: a reader that is woken a thousand times for a thousand frames costs as much as the
//! server under test, and then the reader is what is measured.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hydrant::event::{ANSWER_TYPE, Draft, EventError, EventFault};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::endpoint::{Endpoint, Stream};
use crate::frame::{self, Frame, Opcode};
use crate::inflate::Inflater;
use crate::sockets;
use crate::wire::{Incoming, Wire};

/// Size of the read buffer: a client's burst fits at K = 64 and 1 KB.
const BUFFER: usize = 256 << 10;

/// The token of other sockets ([`watch`]); the tokens of clients are their numbers.
const OTHER: Token = Token(usize::MAX);

/// Receives what arrives for the clients.
pub trait Sink {
    /// Called for an event for client `client`.
    fn text(&mut self, client: usize, payload: &[u8]);
    /// Called when a subscription was answered by something other than an event.
    fn answered(&mut self, _client: usize) {}
    /// Called when client `client` has lost its connection.
    fn closed(&mut self, client: usize, reason: &str);
}

#[derive(Debug)]
struct Client {
    stream: Stream,
    /// The beginning of an incomplete frame.
    cut: Vec<u8>,
    /// The beginning of an incomplete message of a stream.
    rest: Vec<u8>,
    open: bool,
}

/// What all clients share.
#[derive(Debug)]
struct Common {
    wire: Wire,
    deflate: bool,
    inflater: Inflater,
    buffer: Vec<u8>,
    bytes: u64,
}

/// Thousands of websocket clients driven by one thread. Not `Sync`.
#[derive(Debug)]
pub struct Swarm {
    clients: Vec<Client>,
    poll: Poll,
    events: Events,
    common: Common,
    subscriptions: u16,
    /// Number of times that a connection was read.
    pub visits: u64,
}

impl Swarm {
    /// Opens `count` websockets; `progress` is called after each.
    ///
    /// # Errors
    /// Fails with the first connection that fails.
    pub fn connect(endpoint: &Endpoint, count: usize, progress: &mut dyn FnMut()) -> Result<Self> {
        let mut swarm = Self::empty(endpoint.wire(), endpoint.deflate())?;
        for index in 0..count {
            let (stream, cut) = endpoint.websocket(index).with_context(|| format!("client {index} of {count}"))?;
            swarm.adopt(stream, cut)?;
            let greeting = endpoint.wire().greeting(&format!("client-{index}"));
            if !greeting.is_empty() {
                swarm.send(index, &greeting)?;
            }
            progress();
        }
        Ok(swarm)
    }

    /// Creates a swarm without clients.
    ///
    /// # Errors
    /// Fails if epoll is unavailable.
    pub fn empty(wire: Wire, deflate: bool) -> Result<Self> {
        let common = Common { wire, deflate, inflater: Inflater::default(), buffer: vec![0; BUFFER], bytes: 0 };
        Ok(Self {
            clients: Vec::new(),
            poll: Poll::new().context("cannot create a poll")?,
            events: Events::with_capacity(1_024),
            common,
            subscriptions: 0,
            visits: 0,
        })
    }

    /// Adds a connection that is already a websocket, with the bytes that have arrived on it.
    ///
    /// # Errors
    /// Fails if the kernel refuses to poll it.
    pub fn adopt(&mut self, stream: Stream, cut: Vec<u8>) -> Result<()> {
        let socket = stream.socket();
        socket.set_nonblocking(true)?;
        let mut source = SourceFd(&socket.as_raw_fd());
        self.poll.registry().register(&mut source, Token(self.clients.len()), Interest::READABLE)?;
        self.clients.push(Client { stream, cut, rest: Vec::new(), open: true });
        Ok(())
    }

    /// Returns the cipher of the first client; `None` without TLS.
    pub fn cipher(&self) -> Option<String> {
        self.clients.first().and_then(|client| client.stream.cipher())
    }

    /// Returns the number of bytes received so far by all clients, at the websocket level (inside TLS).
    pub fn bytes(&self) -> u64 {
        self.common.bytes
    }

    /// Limits the kernel's receive buffer to about `bytes` per client, for clients that do not read.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn limit_receive_buffers(&self, bytes: usize) -> Result<()> {
        for client in &self.clients {
            socket2::SockRef::from(client.stream.socket()).set_recv_buffer_size(bytes)?;
        }
        Ok(())
    }

    /// Returns the number of clients, open or not.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Returns whether there are no clients.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Sends a message.
    ///
    /// # Errors
    /// Fails if the connection has ended, or if the server does not read; neither is expected for short commands.
    pub fn send(&mut self, client: usize, message: &[u8]) -> Result<()> {
        let mask = u32::try_from(client).unwrap_or_default().wrapping_mul(0x9E37_79B9).to_be_bytes();
        self.clients[client].send(self.common.wire.opcode(), message, mask)
    }

    /// Waits until something arrives here or on a socket that is watched ([`watch`]), at most for `timeout`. Unlike
    /// [`Swarm::poll`], it does not round up to milliseconds.
    ///
    /// # Errors
    /// Fails if the kernel refuses to poll.
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        let mut polls = [PollFd::new(self.poll.registry().as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut polls, Some(TimeSpec::from_duration(timeout)), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(e) => Err(e).context("waiting for socket events failed"),
        }
    }

    /// Returns the registry of the poll, for [`watch`].
    ///
    /// # Errors
    /// Fails if no more files can be opened.
    pub fn registry(&self) -> Result<Registry> {
        self.poll.registry().try_clone().context("cannot share the poll")
    }

    /// Returns whether a client has its connection.
    pub fn is_open(&self, client: usize) -> bool {
        self.clients[client].open
    }

    /// Waits until something arrives, at most for `timeout`, and reads it.
    ///
    /// # Errors
    /// Fails if the kernel refuses to poll. Errors of one connection are reported to the sink.
    pub fn poll(&mut self, timeout: Duration, sink: &mut dyn Sink) -> Result<()> {
        sockets::wait(&mut self.poll, &mut self.events, timeout)?;
        for event in self.events.iter().filter(|event| event.token() != OTHER) {
            let index = event.token().0;
            let client = &mut self.clients[index];
            self.visits += 1;
            let result = client.drain(&mut self.common, event.is_read_closed(), &mut |heard| match heard {
                Incoming::Event(text) => sink.text(index, text),
                Incoming::Answered | Incoming::Question => sink.answered(index),
            });
            if let Err(e) = result
                && client.open
            {
                client.open = false;
                sink.closed(index, &format!("{e:#}"));
            }
        }
        Ok(())
    }

    /// Registers `spec(client)` on every client and waits until all have been answered.
    ///
    /// # Errors
    /// Fails if a registration is refused, a connection ends, or answers are missing after `timeout`.
    pub fn register(&mut self, timeout: Duration, spec: impl Fn(usize) -> String) -> Result<()> {
        self.subscriptions += 1;
        for client in 0..self.len() {
            self.send(client, &self.common.wire.subscribe(&spec(client), self.subscriptions))?;
        }
        let mut answers = Answers { wanted: self.len(), first_error: None };
        let deadline = Instant::now() + timeout;
        while answers.wanted > 0 {
            ensure!(Instant::now() < deadline, "{} registrations were not answered in {timeout:?}", answers.wanted);
            self.poll(Duration::from_millis(100), &mut answers)?;
            if let Some(first_error) = answers.first_error {
                bail!("{first_error}");
            }
        }
        Ok(())
    }
}

/// Has what happens on the socket `file` end the waits of a swarm.
///
/// # Errors
/// Fails if the kernel refuses to poll it.
pub fn watch(registry: &Registry, file: RawFd) -> Result<()> {
    let interest = Interest::READABLE | Interest::WRITABLE;
    registry.register(&mut SourceFd(&file), OTHER, interest).context("cannot watch a socket")
}

/// Counts the answers to commands.
struct Answers {
    wanted: usize,
    first_error: Option<String>,
}

impl Sink for Answers {
    fn text(&mut self, client: usize, payload: &[u8]) {
        // `Draft::read` deliberately rejects answers; their text is simple enough to search.
        let text = String::from_utf8_lossy(payload);
        let is_answer = matches!(Draft::read(&text), Err(EventError { fault: EventFault::Reserved, .. }));
        if is_answer && text.contains(&format!("\"Type\":\"{ANSWER_TYPE}\",\"Action\":\"register\"")) {
            self.wanted = self.wanted.saturating_sub(1);
        } else if is_answer {
            self.first_error.get_or_insert_with(|| format!("client {client}: {}", crate::http::said(payload)));
        }
    }

    fn answered(&mut self, _client: usize) {
        self.wanted = self.wanted.saturating_sub(1);
    }

    fn closed(&mut self, client: usize, reason: &str) {
        self.first_error.get_or_insert_with(|| format!("client {client} was disconnected: {reason}"));
    }
}

impl Client {
    fn send(&mut self, opcode: Opcode, payload: &[u8], mask: [u8; 4]) -> Result<()> {
        let mut bytes = Vec::with_capacity(payload.len() + 8);
        frame::write_masked(opcode, payload, mask, &mut bytes)?;
        self.stream.write_all(&bytes).context("cannot send")?;
        self.stream.flush().context("cannot send")
    }

    /// Reads until nothing more is available. If `ended`, the peer has closed: reads to the end.
    fn drain(&mut self, common: &mut Common, ended: bool, on: &mut dyn FnMut(Incoming<'_>)) -> Result<()> {
        let mut buffer = std::mem::take(&mut common.buffer);
        let result = self.drain_into(&mut buffer, common, ended, on);
        common.buffer = buffer;
        result
    }

    fn drain_into(
        &mut self,
        buffer: &mut [u8],
        common: &mut Common,
        ended: bool,
        on: &mut dyn FnMut(Incoming<'_>),
    ) -> Result<()> {
        loop {
            let kept = self.cut.len();
            if kept >= buffer.len() {
                return self.drain_long(common, on);
            }
            buffer[..kept].copy_from_slice(&self.cut);
            let got = match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(got) => got,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e).context("cannot read"),
            };
            common.bytes += got as u64;
            let used = self.take(&buffer[..kept + got], common, on)?;
            self.cut.clear();
            self.cut.extend_from_slice(&buffer[used..kept + got]);
            // A short read has emptied a plain socket; epoll reports when there is more.
            let emptied = kept + got < buffer.len() && matches!(self.stream, Stream::Plain(_));
            if emptied && !ended {
                return Ok(());
            }
        }
    }

    /// Reads a frame longer than the buffer, assembling it in `cut`.
    fn drain_long(&mut self, common: &mut Common, on: &mut dyn FnMut(Incoming<'_>)) -> Result<()> {
        let mut bytes = std::mem::take(&mut self.cut);
        let mut chunk = vec![0; BUFFER];
        let outcome = loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break Err(anyhow::anyhow!("the server closed the connection")),
                Ok(got) => {
                    common.bytes += got as u64;
                    bytes.extend_from_slice(&chunk[..got]);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(e) => break Err(e).context("cannot read"),
            }
        };
        let used = self.take(&bytes, common, on)?;
        self.cut = bytes.split_off(used);
        outcome
    }

    /// Processes the complete frames in `bytes`; returns their number of bytes.
    fn take(&mut self, bytes: &[u8], common: &mut Common, on: &mut dyn FnMut(Incoming<'_>)) -> Result<usize> {
        let mut at = 0;
        while let Some(frame) = frame::first(&bytes[at..])? {
            match frame.opcode {
                Opcode::Text | Opcode::Binary | Opcode::Continuation => self.data(&frame, common, on)?,
                Opcode::Ping => self.send(Opcode::Pong, frame.payload, [7; 4])?,
                Opcode::Pong => {}
                Opcode::Close => bail!("closed: {}", frame::close_reason(frame.payload)),
            }
            at += frame.len;
        }
        Ok(at)
    }

    /// Processes the messages of a data frame.
    fn data(&mut self, frame: &Frame<'_>, common: &mut Common, on: &mut dyn FnMut(Incoming<'_>)) -> Result<()> {
        common.wire.check(frame, common.deflate)?;
        let message = if frame.deflated { common.inflater.message(frame.payload)? } else { frame.payload };
        let mut questions = 0;
        let mut hear = |heard: Incoming<'_>| {
            match heard {
                Incoming::Question => questions += 1,
                other => on(other),
            }
            Ok(())
        };
        if self.rest.is_empty() {
            let used = common.wire.split(message, &mut hear)?;
            self.rest.extend_from_slice(&message[used..]);
        } else {
            self.rest.extend_from_slice(message);
            let used = common.wire.split(&self.rest, &mut hear)?;
            self.rest.drain(..used);
        }
        for _ in 0..questions {
            self.send(common.wire.opcode(), common.wire.alive(), [7; 4])?;
        }
        Ok(())
    }
}
