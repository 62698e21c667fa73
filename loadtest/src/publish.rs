//! Publishes events by `POST /api/v3/events` on one kept-alive connection, from a thread of its own.
//!
//! Contract: one body is on its way at a time; [`Publisher::send`] hands it over and does not wait,
//! [`Publisher::answered`] waits for the reply. A 429 is obeyed and tried again, a bounded number of times.
//!
//! Why a thread: the reader must go on reading while the server takes the body, or its connections would be the slow
//! consumers that the test is not about.

use std::io::Write as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::cpu;
use crate::endpoint::{Endpoint, Stream, read_body, read_head, said};

/// How often a 429 is obeyed for one body.
const RETRIES_MAX: u32 = 20;

/// A published body.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    /// From the first byte sent to the reply read.
    pub took: Duration,
    /// How often the server said that it was busy.
    pub busy: u32,
}

/// The sending thread's handle. The thread ends when this is dropped.
#[derive(Debug)]
pub struct Publisher {
    bodies: SyncSender<Vec<u8>>,
    results: Receiver<Result<Published>>,
}

impl Publisher {
    /// Connects and starts the thread on `core`.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn start(endpoint: &Endpoint, core: Option<usize>) -> Result<Self> {
        let stream = endpoint.connect(0)?;
        let (bodies, inbox) = sync_channel::<Vec<u8>>(1);
        let (outbox, results) = sync_channel(1);
        let endpoint = endpoint.clone();
        let work = move || {
            let pinned = cpu::pin(core);
            let mut connection = Connection { stream, endpoint };
            for body in inbox {
                let result = match &pinned {
                    Ok(()) => connection.publish(&body),
                    Err(e) => Err(anyhow::anyhow!("{e:#}")),
                };
                if outbox.send(result).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("publisher".to_owned()).spawn(work).context("cannot start a thread")?;
        Ok(Self { bodies, results })
    }

    /// Hands a body of NDJSON over.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn send(&self, body: Vec<u8>) -> Result<()> {
        self.bodies.send(body).context("the publisher has ended")
    }

    /// The result of the body handed over; nothing if it has not come within `patience`.
    ///
    /// # Errors
    /// The server refused the body or cannot be reached any more.
    pub fn answered(&self, patience: Duration) -> Result<Option<Published>> {
        match self.results.recv_timeout(patience) {
            Ok(result) => result.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the publisher has ended"),
        }
    }
}

struct Connection {
    stream: Stream,
    endpoint: Endpoint,
}

impl Connection {
    fn publish(&mut self, body: &[u8]) -> Result<Published> {
        let begin = Instant::now();
        for busy in 0..RETRIES_MAX {
            let Some(pause) = self.post(body)? else { return Ok(Published { took: begin.elapsed(), busy }) };
            thread::sleep(pause);
        }
        bail!("the server was busy {RETRIES_MAX} times: it cannot take what is published")
    }

    /// Nothing if the body was taken, otherwise how long to wait.
    fn post(&mut self, body: &[u8]) -> Result<Option<Duration>> {
        let kind = format!("Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n", body.len());
        let mut request = self.endpoint.head("POST", "/api/v3/events", &kind).into_bytes();
        request.extend_from_slice(body);
        self.stream.write_all(&request).context("cannot publish")?;
        self.stream.flush()?;
        let (head, rest) = read_head(&mut self.stream)?;
        let reply = read_body(&mut self.stream, &head, rest)?;
        if head.status == 429 {
            let seconds = head.retry_after.unwrap_or(0).min(5);
            return Ok(Some(Duration::from_secs(seconds).max(Duration::from_millis(20))));
        }
        ensure!((200..300).contains(&head.status), "the server refuses events: {} {}", head.status, said(&reply));
        Ok(None)
    }
}
