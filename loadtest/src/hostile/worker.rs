//! The threads of an attack.
//!
//! They run on the healthy clients' core, at a lower priority: the attack gets what the core has left, and what it
//! costs its own process does not look like the server's delay. Contract: [`Attackers::stop`] returns after the longest
//! request of an attacker; what an attacker hears is counted, and nothing that it hears ends the attack.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;

use crate::cpu;
use crate::endpoint::Endpoint;

/// How nice an attacker is to the healthy clients on its core.
const NICE: i32 = 10;

/// Before the next try when one has failed.
const PAUSE: Duration = Duration::from_millis(20);

/// What attackers heard, by kind.
pub(super) type Outcomes = BTreeMap<String, u64>;

/// Attacks once, until the connection is lost or the worker is to end.
pub(super) type Job = fn(&Worker) -> Result<()>;

/// Where and as whom the attackers come.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The server, with the credentials of a user without any role.
    pub(super) guest: Endpoint,
    pub(super) core: Option<usize>,
    /// Connections of the attack at most.
    pub(super) strength: usize,
}

/// What all threads of an attack share.
#[derive(Debug)]
struct Shared {
    origin: Origin,
    is_over: AtomicBool,
    connections: AtomicUsize,
    outcomes: Mutex<Outcomes>,
}

/// One thread's view.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    /// Its number among `workers`.
    pub(super) number: usize,
    workers: usize,
}

impl Worker {
    /// The server, as the user without any role.
    pub(super) fn guest(&self) -> &Endpoint {
        &self.shared.origin.guest
    }

    /// Connections that this thread may have.
    pub(super) fn connections(&self) -> usize {
        self.shared.origin.strength.div_ceil(self.workers)
    }

    /// The attack is to end.
    pub(super) fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::SeqCst)
    }

    /// How many connections the attack has made so far, for [`Endpoint::connect`].
    pub(super) fn next_connection(&self) -> usize {
        self.shared.connections.fetch_add(1, Ordering::SeqCst)
    }

    /// Counts something that was heard or done.
    pub(super) fn count(&self, what: impl Into<String>) {
        let mut outcomes = self.shared.outcomes.lock();
        *outcomes.entry(what.into()).or_default() += 1;
    }

    /// Waits, unless the attack is to end.
    pub(super) fn pause(&self, time: Duration) {
        if !self.is_over() {
            thread::sleep(time);
        }
    }
}

/// An attack under way.
#[derive(Debug)]
pub(super) struct Attackers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Attackers {
    /// Begins an attack: each of `workers` threads does `job` until the attack is to end.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn start(workers: usize, job: Job, origin: &Origin) -> Result<Self> {
        let shared = Arc::new(Shared {
            origin: origin.clone(),
            is_over: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            outcomes: Mutex::default(),
        });
        let mut attackers = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        for number in 0..workers {
            let worker = Worker { shared: Arc::clone(&shared), number, workers };
            let thread = thread::Builder::new().name(format!("attacker-{number}"));
            attackers.threads.push(thread.spawn(move || work(job, &worker)).context("cannot start a thread")?);
        }
        Ok(attackers)
    }

    /// Ends the attack; what was heard.
    pub(super) fn stop(mut self) -> Outcomes {
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
    // An attack at full priority is better than none.
    let _ = rustix::process::nice(NICE);
    if let Err(error) = cpu::pin(worker.shared.origin.core) {
        worker.count(format!("{error:#}"));
    }
    while !worker.is_over() {
        if let Err(error) = job(worker) {
            worker.count(kind(&error));
            worker.pause(PAUSE);
        }
    }
}

/// An error's kind: what the server said, or how the connection ended.
fn kind(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    if let Some((_, status)) = text.split_once("refuses a websocket: ") {
        return format!("HTTP {}", status.split(' ').next().unwrap_or_default());
    }
    match error.root_cause().downcast_ref::<io::Error>() {
        Some(cause) if is_timeout(cause) => "no answer in time".to_owned(),
        Some(cause) => cause.kind().to_string(),
        None => text.chars().take(80).collect(),
    }
}

/// A read that came to nothing.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_kind() {
        let refused = anyhow::anyhow!("http://127.0.0.1:1 refuses a websocket: 429 slow down");
        assert_eq!(kind(&refused), "HTTP 429");
        let cut = anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset)).context("cannot send");
        assert_eq!(kind(&cut), "connection reset");
        assert_eq!(kind(&anyhow::anyhow!("closed 1008")), "closed 1008");
    }
}
