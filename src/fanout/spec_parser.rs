//! Reads registrations that take long to read, on a thread beside the shard's.
//!
//! To parse 64 KiB of names or values, or to build the automaton of a regular expression, takes up to some ten
//! milliseconds. On the shard's thread everybody would wait for that. A connection whose registration is being read
//! waits, with all that it has said behind it; the registration counts from the moment on at which the shard has it.
//!
//! Contract: one job of a connection at a time, and none of one that is gone ([`SpecParser::cancel`]), so there are no
//! more than connections. Principals take turns, so nobody
//! waits for more than one job of each other principal and those of its own. The shard never waits: a lock is held for
//! a few instructions, once a job.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};

use super::execute::ReadSpec;
use super::outbox::ConnId;
use crate::auth::Principal;
use crate::broker::archive::Wake;
use crate::index::Spec;
use crate::index::filter::Limits;
use crate::logging::crash::Vital;
use crate::protocol::Command;

/// How nice the thread is to the others: deliveries and logins come first.
const NICE: i32 = 5;

/// A message to be read. The ticket tells it from those of a connection that had the number before.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) conn: ConnId,
    pub(super) ticket: u64,
    pub(super) principal: Principal,
    pub(super) message: String,
}

/// A message that was read.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) conn: ConnId,
    pub(super) ticket: u64,
    pub(super) message: String,
    pub(super) spec: ReadSpec,
}

/// Jobs by principal, each with its turn.
#[derive(Debug, Default)]
struct Queue {
    jobs: HashMap<Principal, VecDeque<Job>>,
    turns: VecDeque<Principal>,
    is_over: bool,
}

impl Queue {
    fn push(&mut self, job: Job) {
        let jobs = self.jobs.entry(job.principal.clone()).or_default();
        if jobs.is_empty() {
            self.turns.push_back(job.principal.clone());
        }
        jobs.push_back(job);
    }

    /// Takes a job back; false if it has gone already.
    fn remove(&mut self, principal: &Principal, ticket: u64) -> bool {
        let Some(jobs) = self.jobs.get_mut(principal) else { return false };
        // Tickets rise.
        let Ok(at) = jobs.binary_search_by_key(&ticket, |job| job.ticket) else { return false };
        jobs.remove(at);
        if jobs.is_empty() {
            self.jobs.remove(principal);
            self.turns.retain(|other| other != principal);
        }
        true
    }

    fn pop(&mut self) -> Option<Job> {
        let principal = self.turns.pop_front()?;
        let jobs = self.jobs.get_mut(&principal)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.jobs.remove(&principal);
        } else {
            self.turns.push_back(principal);
        }
        job
    }
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    has_jobs: Condvar,
    done: Mutex<Vec<Parsed>>,
    is_done: AtomicBool,
}

/// The thread that parses expensive registrations for a shard. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct SpecParser {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl SpecParser {
    /// Starts the thread, which reads within `limits` and wakes the shard's.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn start(number: usize, limits: Limits, wake: Wake) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name(format!("parser-{number}")).spawn(move || {
            // Connections would wait for it for good.
            let _vital = Vital::new("a parser of registrations");
            // At the priority of the others it reads as well.
            let _ = rustix::process::nice(NICE);
            of_thread.run(&limits, &wake);
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Takes a job.
    pub(super) fn submit(&self, job: Job) {
        self.shared.queue.lock().push(job);
        self.shared.has_jobs.notify_one();
    }

    /// Takes the job of a connection that is gone back. Returns false if it is being read or was read.
    pub(super) fn cancel(&self, principal: &Principal, ticket: u64) -> bool {
        self.shared.queue.lock().remove(principal, ticket)
    }

    /// What was read since the last call.
    pub(super) fn take(&self) -> Vec<Parsed> {
        if self.shared.is_done.swap(false, Ordering::AcqRel) {
            mem::take(&mut self.shared.done.lock())
        } else {
            Vec::new()
        }
    }
}

impl Shared {
    fn run(&self, limits: &Limits, wake: &Wake) {
        while let Some(Job { conn, ticket, message, .. }) = self.next() {
            let text = Command::parse(&message).map_or("", Command::spec);
            let spec = Spec::parse(text, limits);
            self.done.lock().push(Parsed { conn, ticket, message, spec });
            self.is_done.store(true, Ordering::Release);
            wake.wake();
        }
    }

    /// Waits for a job; nothing if it is over.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if queue.is_over {
                return None;
            }
            if let Some(job) = queue.pop() {
                return Some(job);
            }
            self.has_jobs.wait(&mut queue);
        }
    }
}

impl Drop for SpecParser {
    fn drop(&mut self) {
        self.shared.queue.lock().is_over = true;
        self.shared.has_jobs.notify_one();
        // A panic has ended the process already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_take_turns() {
        let mut queue = Queue::default();
        for (ticket, name) in (0..).zip(["a", "a", "a", "b", "a", "c"]) {
            let principal: Principal = format!("user:{name}").parse().unwrap();
            queue.push(Job { conn: ConnId(0), ticket, principal, message: String::new() });
        }
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|job| job.ticket).collect();
        assert_eq!(order, [0, 3, 5, 1, 2, 4]);
        assert!(queue.jobs.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn a_job_that_is_taken_back_leaves_nothing() {
        let mut queue = Queue::default();
        let of = |name: &str| format!("user:{name}").parse::<Principal>().unwrap();
        for (ticket, name) in (0..).zip(["a", "b", "a"]) {
            queue.push(Job { conn: ConnId(0), ticket, principal: of(name), message: String::new() });
        }
        assert!(queue.remove(&of("b"), 1) && !queue.remove(&of("b"), 1) && !queue.remove(&of("a"), 1));
        assert!(queue.remove(&of("a"), 0));
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|job| job.ticket).collect();
        assert_eq!(order, [2]);
        assert!(queue.jobs.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn what_is_read_comes_back() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let wake = Wake::new(move || sender.send(()).unwrap());
        let parser = SpecParser::start(0, Limits::default(), wake).unwrap();
        for (ticket, message) in (0..).zip(["register a.b.c.N=Re(^x)", "register a.b.c.N=Re(("]) {
            let principal = "user:a".parse().unwrap();
            parser.submit(Job { conn: ConnId(7), ticket, principal, message: message.to_owned() });
        }
        let mut parsed = Vec::new();
        while parsed.len() < 2 {
            receiver.recv().unwrap();
            parsed.extend(parser.take());
        }
        let told = parsed.iter().map(|parsed| (parsed.conn.0, parsed.ticket, parsed.spec.is_ok()));
        assert_eq!(told.collect::<Vec<_>>(), [(7, 0, true), (7, 1, false)]);
    }
}
