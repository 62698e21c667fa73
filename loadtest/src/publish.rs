//! Publishes events on one kept-alive connection, from a thread of its own: by `POST /api/v3/events`, or as the peers
//! do, in one write over TCP with a question behind it.
//!
//! Contract: one batch is on its way at a time; [`Publisher::send`] hands it over and does not wait,
//! [`Publisher::answered`] waits until the system has taken it. A 429 is obeyed and tried again, a bounded number of
//! times.
//!
//! Why a thread: the reader must go on reading while the server takes the batch, or its connections would be the slow
//! consumers that the test is not about.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mio::Waker;

use crate::cpu;
use crate::endpoint::{Endpoint, Stream};
use crate::http::{read_body, read_head, said};
use crate::wire::{Incoming, Wire};

/// How often a 429 is obeyed for one body.
const RETRIES_MAX: u32 = 20;

/// How long a peer may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A published batch.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    /// From the first byte sent to the last reply read.
    pub took: Duration,
    /// How often the server said that it was busy.
    pub busy: u32,
}

/// The sending thread's handle. The thread ends when this is dropped.
#[derive(Debug)]
pub struct Publisher {
    batches: SyncSender<Vec<Vec<u8>>>,
    results: Receiver<Result<Published>>,
    /// Told of each result, if somebody waits for it who waits for something else too.
    waker: Arc<OnceLock<Waker>>,
}

impl Publisher {
    /// Connects and starts the thread on `core`. `direct`: where the peer's own protocol is spoken without a websocket.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn start(endpoint: &Endpoint, direct: Option<SocketAddr>, core: Option<usize>) -> Result<Self> {
        let mut connection = match direct {
            None => Connection::Post { stream: endpoint.connect(0)?, endpoint: endpoint.clone() },
            Some(address) => Connection::Direct(Direct::open(address, endpoint.wire())?),
        };
        let (batches, inbox) = sync_channel::<Vec<Vec<u8>>>(1);
        let (outbox, results) = sync_channel(1);
        let waker = Arc::new(OnceLock::<Waker>::new());
        let told = Arc::clone(&waker);
        let work = move || {
            let pinned = cpu::pin(core);
            for batch in inbox {
                let result = match &pinned {
                    Ok(()) => connection.publish(&batch),
                    Err(e) => Err(anyhow::anyhow!("{e:#}")),
                };
                if outbox.send(result).is_err() || told.get().is_some_and(|waker| waker.wake().is_err()) {
                    return;
                }
            }
        };
        thread::Builder::new().name("publisher".to_owned()).spawn(work).context("cannot start a thread")?;
        Ok(Self { batches, results, waker })
    }

    /// Has this waker woken whenever there is a result.
    #[must_use]
    pub fn wakes(self, waker: Waker) -> Self {
        // A new publisher has none.
        let _ = self.waker.set(waker);
        self
    }

    /// Hands bodies over, to be published one after the other.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn send(&self, bodies: Vec<Vec<u8>>) -> Result<()> {
        self.batches.send(bodies).context("the publisher has ended")
    }

    /// The result of what was handed over; nothing if it has not come within `timeout`.
    ///
    /// # Errors
    /// The server refused it or cannot be reached any more.
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

impl Connection {
    fn publish(&mut self, bodies: &[Vec<u8>]) -> Result<Published> {
        let (begin, mut busy) = (Instant::now(), 0);
        for body in bodies {
            match self {
                Self::Post { stream, endpoint } => busy += insist(stream, endpoint, body)?,
                Self::Direct(direct) => direct.publish(body)?,
            }
        }
        Ok(Published { took: begin.elapsed(), busy })
    }
}

/// Posts until it is taken; returns how often the server was busy.
fn insist(stream: &mut Stream, endpoint: &Endpoint, body: &[u8]) -> Result<u32> {
    for busy in 0..RETRIES_MAX {
        let Some(pause) = post(stream, endpoint, body)? else { return Ok(busy) };
        thread::sleep(pause);
    }
    bail!("the server was busy {RETRIES_MAX} times: it cannot take what is published")
}

/// Nothing if the body was taken, otherwise how long to wait.
fn post(stream: &mut Stream, endpoint: &Endpoint, body: &[u8]) -> Result<Option<Duration>> {
    let kind = format!("Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n", body.len());
    let mut request = endpoint.head("POST", "/api/v3/events", &kind).into_bytes();
    request.extend_from_slice(body);
    if has_ended(stream) {
        *stream = endpoint.connect(0)?;
    }
    stream.write_all(&request).context("cannot publish")?;
    stream.flush()?;
    let (head, rest) = read_head(stream)?;
    let reply = read_body(stream, &head, rest)?;
    if head.status == 429 {
        let seconds = head.retry_after.unwrap_or(0).min(5);
        return Ok(Some(Duration::from_secs(seconds).max(Duration::from_millis(20))));
    }
    ensure!((200..300).contains(&head.status), "the server refuses events: {} {}", head.status, said(&reply));
    Ok(None)
}

/// Servers end connections that have been quiet for a while, as ours is when others have their turn.
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

    /// Writes a batch that ends with a question, and waits for its answer.
    fn publish(&mut self, batch: &[u8]) -> Result<()> {
        self.socket.write_all(batch).context("cannot publish")?;
        let mut chunk = [0; 4_096];
        loop {
            let got = self.socket.read(&mut chunk).context("no answer to what was published")?;
            ensure!(got > 0, "the peer ended the publisher's connection");
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
