//! Thousands of websocket clients on one thread.
//!
//! Contract: [`Swarm::poll`] reads what there is and hands every text message to a [`Sink`] as a slice of the one
//! read buffer; nothing is copied unless a frame is cut by the end of a read. Pings are answered, closes and errors end
//! the connection concerned and are told to the sink. Not `Sync`: one thread owns a swarm.
//!
//! Why not a task a client: a reader that is woken a thousand times for a thousand frames costs as much as the server
//! under test, and then it is the reader that is measured.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hydrant::event::{ANSWER_TYPE, Draft};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::endpoint::{Endpoint, Stream};
use crate::frame::{self, Opcode};

/// The read buffer; at K = 64 and 1 KB a client's burst fits.
const BUFFER: usize = 256 << 10;

/// What a client gets to hear.
pub trait Sink {
    /// A text message came to client `client`.
    fn text(&mut self, client: usize, payload: &[u8]);
    /// Client `client` has lost its connection.
    fn closed(&mut self, client: usize, reason: &str);
}

#[derive(Debug)]
struct Client {
    stream: Stream,
    /// The start of a frame whose end has not come.
    cut: Vec<u8>,
    open: bool,
}

/// See the module's text.
#[derive(Debug)]
pub struct Swarm {
    clients: Vec<Client>,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    /// Connections read from so far, each time counted.
    pub visits: u64,
}

impl Swarm {
    /// Opens `count` websockets; `progress` is called after each.
    ///
    /// # Errors
    /// The first that fails ends it.
    pub fn connect(endpoint: &Endpoint, count: usize, progress: &mut dyn FnMut()) -> Result<Self> {
        let mut swarm = Self {
            clients: Vec::with_capacity(count),
            poll: Poll::new().context("no epoll")?,
            events: Events::with_capacity(1_024),
            buffer: vec![0; BUFFER],
            visits: 0,
        };
        for index in 0..count {
            let (stream, cut) = endpoint.websocket(index).with_context(|| format!("client {index} of {count}"))?;
            swarm.adopt(stream, cut)?;
            progress();
        }
        Ok(swarm)
    }

    fn adopt(&mut self, stream: Stream, cut: Vec<u8>) -> Result<()> {
        let socket = socket(&stream);
        socket.set_nonblocking(true)?;
        let mut source = SourceFd(&socket.as_raw_fd());
        self.poll.registry().register(&mut source, Token(self.clients.len()), Interest::READABLE)?;
        self.clients.push(Client { stream, cut, open: true });
        Ok(())
    }

    /// Makes the kernel take only about `bytes` for each client that does not read.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn limit_receive_buffers(&self, bytes: usize) -> Result<()> {
        for client in &self.clients {
            socket2::SockRef::from(socket(&client.stream)).set_recv_buffer_size(bytes)?;
        }
        Ok(())
    }

    /// How many clients there are, open or not.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// There are no clients.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// The connection has ended, or the server takes no more; both are unexpected with short commands.
    pub fn send(&mut self, client: usize, text: &str) -> Result<()> {
        let mask = u32::try_from(client).unwrap_or_default().wrapping_mul(0x9E37_79B9).to_be_bytes();
        self.clients[client].send(Opcode::Text, text.as_bytes(), mask)
    }

    /// Waits for something to come, at most `patience`, and takes it.
    ///
    /// # Errors
    /// The kernel refuses to poll. What goes wrong on one connection is told to the sink.
    pub fn poll(&mut self, patience: Duration, sink: &mut dyn Sink) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other.context("cannot poll")?,
        }
        for event in &self.events {
            let index = event.token().0;
            let client = &mut self.clients[index];
            self.visits += 1;
            let result = client.drain(&mut self.buffer, event.is_read_closed(), &mut |text| sink.text(index, text));
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
    /// A registration is refused, a connection ends, or the answers are not there after `patience`.
    pub fn register(&mut self, patience: Duration, spec: impl Fn(usize) -> String) -> Result<()> {
        for client in 0..self.len() {
            self.send(client, &format!("register {}", spec(client)))?;
        }
        let mut answers = Answers { wanted: self.len(), trouble: None };
        let deadline = Instant::now() + patience;
        while answers.wanted > 0 {
            ensure!(Instant::now() < deadline, "{} registrations were not answered in {patience:?}", answers.wanted);
            self.poll(Duration::from_millis(100), &mut answers)?;
            if let Some(trouble) = answers.trouble {
                bail!("{trouble}");
            }
        }
        Ok(())
    }
}

/// Counts the answers to commands.
struct Answers {
    wanted: usize,
    trouble: Option<String>,
}

impl Sink for Answers {
    fn text(&mut self, client: usize, payload: &[u8]) {
        // `Draft::read` refuses answers as events, on purpose; their text is simple enough to look at.
        let text = String::from_utf8_lossy(payload);
        let is_answer = matches!(Draft::read(&text), Err(hydrant::event::EventError::Reserved));
        if is_answer && text.contains(&format!("\"Type\":\"{ANSWER_TYPE}\",\"Action\":\"register\"")) {
            self.wanted = self.wanted.saturating_sub(1);
        } else if is_answer {
            self.trouble.get_or_insert_with(|| format!("client {client}: {}", crate::endpoint::said(payload)));
        }
    }

    fn closed(&mut self, client: usize, reason: &str) {
        self.trouble.get_or_insert_with(|| format!("client {client} was disconnected: {reason}"));
    }
}

fn socket(stream: &Stream) -> &std::net::TcpStream {
    match stream {
        Stream::Plain(socket) => socket,
        Stream::Tls(session) => session.get_ref(),
    }
}

impl Client {
    fn send(&mut self, opcode: Opcode, payload: &[u8], mask: [u8; 4]) -> Result<()> {
        let mut bytes = Vec::with_capacity(payload.len() + 8);
        frame::write_masked(opcode, payload, mask, &mut bytes)?;
        self.stream.write_all(&bytes).context("cannot send")?;
        self.stream.flush().context("cannot send")
    }

    /// Reads until there is nothing more. `ended`: the peer has closed, so read on to the end.
    fn drain(&mut self, buffer: &mut [u8], ended: bool, on_text: &mut dyn FnMut(&[u8])) -> Result<()> {
        loop {
            let kept = self.cut.len();
            if kept >= buffer.len() {
                return self.drain_long(on_text);
            }
            buffer[..kept].copy_from_slice(&self.cut);
            let got = match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => bail!("the server ended the connection"),
                Ok(got) => got,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e).context("cannot read"),
            };
            let used = self.take(&buffer[..kept + got], on_text)?;
            self.cut.clear();
            self.cut.extend_from_slice(&buffer[used..kept + got]);
            // A short read of a plain socket has emptied it; epoll tells when there is more.
            let emptied = kept + got < buffer.len() && matches!(self.stream, Stream::Plain(_));
            if emptied && !ended {
                return Ok(());
            }
        }
    }

    /// A frame that is longer than the buffer: it is put together in `cut`.
    fn drain_long(&mut self, on_text: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut bytes = std::mem::take(&mut self.cut);
        let mut chunk = vec![0; BUFFER];
        let outcome = loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break Err(anyhow::anyhow!("the server ended the connection")),
                Ok(got) => bytes.extend_from_slice(&chunk[..got]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(e) => break Err(e).context("cannot read"),
            }
        };
        let used = self.take(&bytes, on_text)?;
        self.cut = bytes.split_off(used);
        outcome
    }

    /// Takes the whole frames of `bytes`; returns how many bytes that was.
    fn take(&mut self, bytes: &[u8], on_text: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let mut at = 0;
        while let Some(frame) = frame::first(&bytes[at..])? {
            match frame.opcode {
                Opcode::Text => on_text(frame.payload),
                Opcode::Ping => self.send(Opcode::Pong, frame.payload, [7; 4])?,
                Opcode::Pong => {}
                Opcode::Close => bail!("closed: {}", frame::close_reason(frame.payload)),
            }
            at += frame.len;
        }
        Ok(at)
    }
}
