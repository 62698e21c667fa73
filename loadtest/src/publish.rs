//! Publishes events over kept-alive connections, usually one, from a separate thread: by `POST /api/v3/events`, or, for
//! peers, in one write over TCP that ends with a request to be answered.
//!
//! Contract: one batch is in progress at a time. [`Publisher::send`] passes it on without waiting, and
//! [`Publisher::answered`] waits until the system has accepted it. Each connection has at most one body in progress:
//! with C connections, C bodies are written before the first answer is awaited. After a 429 it waits and retries, a
//! bounded number of times.
//!
//! Why a thread: the reader must keep reading while the server accepts the batch. Otherwise its connections would
//! become slow consumers, which this test is not about.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::cpu;
use crate::endpoint::{Endpoint, Stream};
use crate::http::{read_body, read_head, said};
use crate::wire::{Incoming, Wire};

/// Maximum number of retries of one body after a 429.
const RETRIES_MAX: u32 = 20;

/// Time limit for a peer's answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The result of publishing a batch.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    /// Time from the first byte sent to the last reply read.
    pub took: Duration,
    /// Number of times that the server answered 429.
    pub busy: u32,
}

/// The handle of the sending thread. The thread ends when this is dropped.
#[derive(Debug)]
pub struct Publisher {
    batches: SyncSender<Vec<Vec<u8>>>,
    results: Receiver<Result<Published>>,
}

impl Publisher {
    /// Opens `count` connections and starts the thread on `core`. `direct` is where the peer speaks its own protocol
    /// without a websocket.
    ///
    /// # Errors
    /// Fails if the server cannot be reached.
    pub fn start(endpoint: &Endpoint, direct: Option<SocketAddr>, count: usize, core: Option<usize>) -> Result<Self> {
        let open = |_| match direct {
            None => Ok(Connection::Post { stream: endpoint.connect(0)?, endpoint: endpoint.clone() }),
            Some(address) => Ok(Connection::Direct(Direct::open(address, endpoint.wire())?)),
        };
        let mut connections = (0..count.max(1)).map(open).collect::<Result<Vec<_>>>()?;
        let (batches, inbox) = sync_channel::<Vec<Vec<u8>>>(1);
        let (outbox, results) = sync_channel(1);
        let work = move || {
            let pinned = cpu::pin(core);
            for batch in inbox {
                let result = match &pinned {
                    Ok(()) => publish(&mut connections, &batch),
                    Err(e) => Err(anyhow::anyhow!("{e:#}")),
                };
                if outbox.send(result).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("publisher".to_owned()).spawn(work).context("cannot start a thread")?;
        Ok(Self { batches, results })
    }

    /// Queues bodies, to be published one after the other.
    ///
    /// # Errors
    /// Fails if the thread has ended.
    pub fn send(&self, bodies: Vec<Vec<u8>>) -> Result<()> {
        self.batches.send(bodies).context("the publisher has ended")
    }

    /// Returns the result of the queued bodies; `None` if there is none within `timeout`.
    ///
    /// # Errors
    /// Fails if the server refused the bodies or can no longer be reached.
    pub fn answered(&self, timeout: Duration) -> Result<Option<Published>> {
        match self.results.recv_timeout(timeout) {
            Ok(result) => result.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the publisher has ended"),
        }
    }
}

enum Connection {
    Post { stream: Stream, endpoint: Endpoint },
    Direct(Direct),
}

/// Publishes bodies, each connection one at a time.
fn publish(connections: &mut [Connection], bodies: &[Vec<u8>]) -> Result<Published> {
    let (begin, mut busy) = (Instant::now(), 0);
    for some in bodies.chunks(connections.len()) {
        for (connection, body) in connections.iter_mut().zip(some) {
            connection.send(body)?;
        }
        for (connection, body) in connections.iter_mut().zip(some) {
            busy += connection.finish(body)?;
        }
    }
    Ok(Published { took: begin.elapsed(), busy })
}

impl Connection {
    /// Writes a body.
    fn send(&mut self, body: &[u8]) -> Result<()> {
        match self {
            Self::Post { stream, endpoint } => post(stream, endpoint, body),
            Self::Direct(direct) => direct.socket.write_all(body).context("cannot publish"),
        }
    }

    /// Waits until the body that was sent last is accepted. Returns how often the server was busy.
    fn finish(&mut self, body: &[u8]) -> Result<u32> {
        match self {
            Self::Post { stream, endpoint } => insist(stream, endpoint, body),
            Self::Direct(direct) => direct.finish().map(|()| 0),
        }
    }
}

/// Waits until a body is accepted, posting it again if necessary; returns the number of times that the server was busy.
fn insist(stream: &mut Stream, endpoint: &Endpoint, body: &[u8]) -> Result<u32> {
    for busy in 0..RETRIES_MAX {
        let Some(pause) = decision(stream)? else { return Ok(busy) };
        thread::sleep(pause);
        post(stream, endpoint, body)?;
    }
    bail!("the server was busy {RETRIES_MAX} times: events are published faster than it accepts them")
}

/// Posts a body.
fn post(stream: &mut Stream, endpoint: &Endpoint, body: &[u8]) -> Result<()> {
    let kind = format!("Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n", body.len());
    let mut request = endpoint.head("POST", "/api/v3/events", &kind).into_bytes();
    request.extend_from_slice(body);
    if has_ended(stream) {
        *stream = endpoint.connect(0)?;
    }
    stream.write_all(&request).context("cannot publish")?;
    stream.flush().context("cannot publish")
}

/// Reads the answer to a POST. Returns `None` if it was accepted, otherwise how long to wait.
fn decision(stream: &mut Stream) -> Result<Option<Duration>> {
    let (head, rest) = read_head(stream)?;
    let reply = read_body(stream, &head, rest)?;
    if head.status == 429 {
        let seconds = head.retry_after.unwrap_or(0).min(5);
        return Ok(Some(Duration::from_secs(seconds).max(Duration::from_millis(20))));
    }
    ensure!((200..300).contains(&head.status), "the server refused events: {} {}", head.status, said(&reply));
    Ok(None)
}

/// Returns whether the server has closed the connection. Servers close idle connections, and this one is idle during
/// the turns of others.
fn has_ended(stream: &Stream) -> bool {
    let socket = stream.socket();
    let mut one = [0];
    let is_open = socket.set_nonblocking(true).is_ok()
        && matches!(socket.peek(&mut one), Err(e) if e.kind() == io::ErrorKind::WouldBlock);
    !(is_open && socket.set_nonblocking(false).is_ok())
}

/// A peer's own protocol over TCP.
struct Direct {
    socket: TcpStream,
    wire: Wire,
    rest: Vec<u8>,
}

impl Direct {
    fn open(address: SocketAddr, wire: Wire) -> Result<Self> {
        let mut socket = TcpStream::connect_timeout(&address, TIMEOUT).context("cannot connect for publishing")?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.write_all(&wire.greeting("publisher"))?;
        Ok(Self { socket, wire, rest: Vec::new() })
    }

    /// Waits for the answer to the request at the end of a batch.
    fn finish(&mut self) -> Result<()> {
        let mut chunk = [0; 4_096];
        loop {
            let got = self.socket.read(&mut chunk).context("cannot read the answer to a publish")?;
            ensure!(got > 0, "the peer closed the publisher's connection");
            self.rest.extend_from_slice(&chunk[..got]);
            let (mut answered, mut asked) = (false, false);
            let used = self.wire.split(&self.rest, &mut |heard| {
                answered |= heard == Incoming::Answered;
                asked |= heard == Incoming::Question;
                Ok(())
            })?;
            self.rest.drain(..used);
            if asked {
                self.socket.write_all(self.wire.alive())?;
            }
            if answered {
                return Ok(());
            }
        }
    }
}
