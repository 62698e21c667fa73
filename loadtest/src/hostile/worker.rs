//! The threads of an attack.
//!
//! They run on the healthy clients' core, at a lower priority: the attack uses what the core has left, and its own cost
//! does not appear as a delay of the server. Contract: [`Attackers::stop`] returns after the longest request of an
//! attacker; what an attacker observes is counted, and never ends the attack.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;

use super::starts::{Outcomes, Starts};
use crate::cpu;
use crate::endpoint::Endpoint;

/// The `nice` value of attackers, and of the endpoint they download from, in favour of the healthy clients on their
/// core.
pub(super) const NICE: i32 = 19;

/// Pause after a failure, before the next try.
const PAUSE: Duration = Duration::from_millis(20);

/// How long the threads may take to be ready.
const START_TIME: Duration = Duration::from_secs(20);

/// How much longer an attack goes on if nothing was observed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Attacks once, until the connection is lost or the worker should end. If it goes on until then, it says when the
/// thread is [ready](Worker::ready).
pub(super) type Job = fn(&Worker) -> Result<()>;

/// The target and the resources of the attackers.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The server, with the credentials of a user without any role.
    pub(super) guest: Endpoint,
    pub(super) core: Option<usize>,
    /// Maximum number of connections of the attack.
    pub(super) strength: usize,
}

/// State shared by all threads of an attack.
#[derive(Debug)]
struct Shared {
    origin: Origin,
    is_over: AtomicBool,
    connections: AtomicUsize,
    outcomes: Mutex<Outcomes>,
    starts: Starts,
}

/// The view of one thread.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    /// Number of this thread, below `workers`.
    pub(super) number: usize,
    workers: usize,
}

impl Worker {
    /// Returns the server, with the credentials of the user without any role.
    pub(super) fn guest(&self) -> &Endpoint {
        &self.shared.origin.guest
    }

    /// Returns the number of connections that this thread may have.
    pub(super) fn connections(&self) -> usize {
        self.shared.origin.strength.div_ceil(self.workers)
    }

    /// Returns whether the attack should end.
    pub(super) fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::SeqCst)
    }

    /// Returns the number of connections that the attack has opened so far, for [`Endpoint::connect`], and counts one
    /// more.
    pub(super) fn next_connection(&self) -> usize {
        self.shared.connections.fetch_add(1, Ordering::SeqCst)
    }

    /// Records that this thread has all its connections open, or has attacked once.
    pub(super) fn ready(&self) {
        self.shared.starts.ready(self.number);
    }

    /// Counts an observation or an action.
    pub(super) fn count(&self, what: impl Into<String>) {
        let mut outcomes = self.shared.outcomes.lock();
        *outcomes.entry(what.into()).or_default() += 1;
    }

    /// Waits, unless the attack should end.
    pub(super) fn pause(&self, time: Duration) {
        if !self.is_over() {
            thread::sleep(time);
        }
    }
}

/// An attack in progress.
#[derive(Debug)]
pub(super) struct Attackers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Attackers {
    /// Starts an attack: each of `workers` threads repeats `job` until the attack ends.
    ///
    /// # Errors
    /// Fails if a thread cannot be started.
    pub(super) fn start(workers: usize, job: Job, origin: &Origin) -> Result<Self> {
        let shared = Arc::new(Shared {
            origin: origin.clone(),
            is_over: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            outcomes: Mutex::default(),
            starts: Starts::new(workers),
        });
        let mut attackers = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        for number in 0..workers {
            let worker = Worker { shared: Arc::clone(&shared), number, workers };
            let thread = thread::Builder::new().name(format!("attacker-{number}"));
            attackers.threads.push(thread.spawn(move || work(job, &worker)).context("cannot start a thread")?);
        }
        Ok(attackers)
    }

    /// Waits for at most [`START_TIME`] until every thread is ready or has failed. Returns how many are not ready, by
    /// reason.
    pub(super) fn wait(&self) -> Outcomes {
        self.shared.starts.wait(START_TIME)
    }

    /// Ends the attack, and returns what was observed. On a busy machine it goes on for up to [`PATIENCE`] until there
    /// is something.
    pub(super) fn stop(mut self) -> Outcomes {
        let deadline = Instant::now() + PATIENCE;
        while self.shared.outcomes.lock().is_empty() && Instant::now() < deadline {
            thread::sleep(PAUSE);
        }
        self.end();
        let mut outcomes = self.shared.outcomes.lock();
        std::mem::take(&mut *outcomes)
    }

    fn end(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                let mut outcomes = self.shared.outcomes.lock();
                *outcomes.entry("attacker failed".to_owned()).or_default() += 1;
            }
        }
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        self.end();
    }
}

fn work(job: Job, worker: &Worker) {
    // Without the lower priority, the attack still runs.
    let _ = rustix::process::nice(NICE);
    if let Err(error) = cpu::pin(worker.shared.origin.core) {
        worker.count(format!("{error:#}"));
    }
    while !worker.is_over() {
        match job(worker) {
            Ok(()) => worker.ready(),
            Err(error) => {
                let kind = kind(&error);
                worker.shared.starts.failed(worker.number, kind.clone());
                worker.count(kind);
                worker.pause(PAUSE);
            }
        }
    }
}

/// Returns the kind of an error: the server's answer, or how the connection ended.
fn kind(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    if let Some((_, status)) = text.split_once("refused the websocket: ") {
        return format!("HTTP {}", status.split(' ').next().unwrap_or_default());
    }
    match error.root_cause().downcast_ref::<io::Error>() {
        Some(cause) if is_timeout(cause) => "no answer in time".to_owned(),
        Some(cause) => cause.kind().to_string(),
        None => text.chars().take(80).collect(),
    }
}

/// Returns whether a read only timed out or was interrupted.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_kind() {
        let refused = anyhow::anyhow!("http://127.0.0.1:1 refused the websocket: 429 slow down");
        assert_eq!(kind(&refused), "HTTP 429");
        let cut = anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset)).context("cannot send");
        assert_eq!(kind(&cut), "connection reset");
        assert_eq!(kind(&anyhow::anyhow!("closed 1008")), "closed 1008");
    }
}
