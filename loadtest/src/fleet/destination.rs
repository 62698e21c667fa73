//! The destinations of due events: a server, or the floor, which is one thread that writes prebuilt frames.
//!
//! The floor receives frames and their receivers over a channel. It is woken once for a batch, as a broker is, collects
//! what else has been queued meanwhile, and makes one `writev` per connection. It has no index, no filters, no HTTP and
//! no queues.

use std::io::{IoSlice, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::poster::Poster;
use crate::client::Swarm;
use crate::cpu;
use crate::endpoint::Stream;
use crate::wire::Wire;

/// Batches that may be queued for the floor's writer.
const BATCHES: usize = 1_024;

/// Maximum number of slices in one `writev`.
const SLICES_MAX: usize = 1_024;

/// How long a socket may be full before this counts as a failure.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A due event.
#[derive(Debug)]
pub(super) struct Due {
    /// Its text or, for the floor, its frame.
    pub(super) bytes: Arc<[u8]>,
    pub(super) receivers: Vec<usize>,
}

/// The destination of due events: a server, or the floor.
#[derive(Debug)]
pub(super) enum Destination {
    Server(Box<Poster>),
    Floor(Writer),
}

impl Destination {
    /// Begins to send a batch, which will be answered.
    pub(super) fn send(&mut self, batch: Vec<Due>) -> Result<()> {
        match self {
            Self::Server(poster) => {
                let mut body = Vec::with_capacity(batch.iter().map(|due| due.bytes.len() + 1).sum());
                for due in &batch {
                    body.extend_from_slice(&due.bytes);
                    body.push(b'\n');
                }
                poster.send(&body).context("cannot publish")
            }
            Self::Floor(writer) => writer.send(batch),
        }
    }

    /// Returns whether the answer to a batch takes time.
    pub(super) fn answers_late(&self) -> bool {
        matches!(self, Self::Server(_))
    }

    /// Proceeds. Returns how often the server was busy, once it has accepted the batch.
    pub(super) fn answered(&mut self) -> Result<Option<u32>> {
        match self {
            Self::Server(poster) => poster.answered(),
            Self::Floor(_) => Ok(Some(0)),
        }
    }
}

/// The floor's thread.
#[derive(Debug)]
pub(super) struct Writer {
    batches: Option<SyncSender<Vec<Due>>>,
    thread: Option<JoinHandle<Result<()>>>,
    nanos: Arc<AtomicU64>,
}

impl Writer {
    /// Opens `count` loopback connections and starts the thread on `core`; the swarm has the readers' ends.
    pub(super) fn start(count: usize, core: Option<usize>) -> Result<(Self, Swarm)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on the loopback interface")?;
        let mut swarm = Swarm::empty(Wire::Drp, false)?;
        let mut sockets = Vec::new();
        for _ in 0..count {
            let near = TcpStream::connect(listener.local_addr()?).context("cannot connect over loopback")?;
            let (far, _) = listener.accept()?;
            far.set_nodelay(true)?;
            far.set_write_timeout(Some(TIMEOUT))?;
            sockets.push(far);
            swarm.adopt(Stream::Plain(near), Vec::new())?;
        }
        let (batches, inbox) = sync_channel(BATCHES);
        let nanos = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&nanos);
        let work = move || {
            cpu::pin(core)?;
            write(&mut sockets, &inbox, &told)
        };
        let thread = thread::Builder::new().name("floor-writer".to_owned()).spawn(work)?;
        Ok((Self { batches: Some(batches), thread: Some(thread), nanos }, swarm))
    }

    fn send(&self, batch: Vec<Due>) -> Result<()> {
        let batches = self.batches.as_ref().context("the writer of the floor measurement has ended")?;
        batches.try_send(batch).map_err(|_| anyhow!("the writer of the floor measurement is too slow or has failed"))
    }

    /// Returns the CPU time of the writer so far.
    pub(super) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::SeqCst))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // A failure of the thread has already appeared as missing deliveries.
            let _ = thread.join();
        }
    }
}

fn write(sockets: &mut [TcpStream], inbox: &Receiver<Vec<Due>>, nanos: &AtomicU64) -> Result<()> {
    let mut waiting: Vec<Vec<Arc<[u8]>>> = sockets.iter().map(|_| Vec::new()).collect();
    while let Ok(first) = inbox.recv() {
        let mut dirty = Vec::new();
        for due in first.into_iter().chain(inbox.try_iter().flatten()) {
            for receiver in due.receivers {
                if waiting[receiver].is_empty() {
                    dirty.push(receiver);
                }
                waiting[receiver].push(Arc::clone(&due.bytes));
            }
        }
        for at in dirty {
            let frames = std::mem::take(&mut waiting[at]);
            for frames in frames.chunks(SLICES_MAX) {
                write_all(&mut sockets[at], frames)?;
            }
        }
        nanos.store(u64::try_from(cpu::thread_time()?.as_nanos())?, Ordering::SeqCst);
    }
    Ok(())
}

fn write_all(socket: &mut TcpStream, frames: &[Arc<[u8]>]) -> Result<()> {
    let mut slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let written = socket.write_vectored(rest).context("cannot write over loopback")?;
        ensure!(written > 0, "a loopback connection accepts no data");
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}
