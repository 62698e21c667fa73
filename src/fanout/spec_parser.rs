//! Decodes and parses expensive messages on a thread beside the shard's.
//!
//! Parsing 64 KiB of names or values, or compiling the automaton of a regular expression, takes up to some ten
//! milliseconds; decoding as much in deflated blocks or fragments takes some milliseconds. On the shard's thread every
//! connection would wait for that. Instead only the connection that sent the message waits, together with everything it
//! sent afterwards. The message takes effect when the shard receives the result. One that was decoded is then read like
//! any other, so a registration in it may become a second job.
//!
//! Contract: each connection has at most one job at a time, and a job is cancelled when its connection is gone
//! ([`SpecParser::cancel`]), so there are never more jobs than connections. Principals take turns: a job waits for at
//! most one job of each other principal, and for earlier jobs of its own. The shard never waits: each job takes a lock
//! for a few instructions.

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
use crate::websocket::decode::{DecodeError, LongMessage, Message};
use crate::websocket::deflate::Inflater;

/// The thread's nice value: deliveries and logins have priority.
const NICE: i32 = 5;

/// A message to read. The ticket distinguishes it from jobs of an earlier connection with the same number.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) conn: ConnId,
    pub(super) ticket: u64,
    pub(super) principal: Principal,
    pub(super) work: Work,
}

/// What is to be done with a message.
#[derive(Debug)]
pub(super) enum Work {
    Decode(LongMessage),
    Parse(String),
}

/// A job that is done.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) conn: ConnId,
    pub(super) ticket: u64,
    pub(super) result: WorkResult,
}

/// The result of a job.
#[derive(Debug)]
pub(super) enum WorkResult {
    Decoded(Result<Message, DecodeError>),
    /// The registration in this message.
    Parsed(String, ReadSpec),
}

impl Work {
    fn carry_out(self, limits: &Limits) -> WorkResult {
        match self {
            // An inflater is cheap compared with what such a message may take.
            Self::Decode(message) => WorkResult::Decoded(message.decode(&mut Inflater::default())),
            Self::Parse(message) => {
                let text = Command::parse(&message).map_or("", Command::spec);
                let spec = Spec::parse(text, limits);
                WorkResult::Parsed(message, spec)
            }
        }
    }
}

/// Queued jobs by principal; principals take turns.
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

    /// Removes a queued job. Returns false if it was already started.
    fn remove(&mut self, principal: &Principal, ticket: u64) -> bool {
        let Some(jobs) = self.jobs.get_mut(principal) else { return false };
        // Tickets are ascending.
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
    done: Mutex<Vec<Done>>,
    is_done: AtomicBool,
}

/// The thread that reads expensive messages for a shard. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct SpecParser {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl SpecParser {
    /// Starts the thread. It parses registrations within `limits` and calls `wake` when a result is ready.
    ///
    /// # Errors
    /// The system refuses to start a thread.
    pub(super) fn start(number: usize, limits: Limits, wake: Wake) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name(format!("parser-{number}")).spawn(move || {
            // Without this thread, connections would wait for their answers forever.
            let _vital = Vital::new("a parser of registrations");
            // If this fails, the thread parses at normal priority.
            let _ = rustix::process::nice(NICE);
            of_thread.run(&limits, &wake);
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Queues a job.
    pub(super) fn submit(&self, job: Job) {
        self.shared.queue.lock().push(job);
        self.shared.has_jobs.notify_one();
    }

    /// Cancels the job of a connection that is gone. Returns false if it is in progress or done.
    pub(super) fn cancel(&self, principal: &Principal, ticket: u64) -> bool {
        self.shared.queue.lock().remove(principal, ticket)
    }

    /// Returns the jobs done since the last call.
    pub(super) fn take(&self) -> Vec<Done> {
        if self.shared.is_done.swap(false, Ordering::AcqRel) {
            mem::take(&mut self.shared.done.lock())
        } else {
            Vec::new()
        }
    }
}

impl Shared {
    fn run(&self, limits: &Limits, wake: &Wake) {
        while let Some(job) = self.next() {
            self.carry_out(job, limits);
            wake.wake();
        }
    }

    fn carry_out(&self, Job { conn, ticket, work, .. }: Job, limits: &Limits) {
        let result = work.carry_out(limits);
        self.done.lock().push(Done { conn, ticket, result });
        self.is_done.store(true, Ordering::Release);
    }

    /// Waits for a job; returns `None` when the parser ends.
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
        // A panic has already ended the process.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A parser without a thread: the simulation decides when it parses.
#[cfg(test)]
impl SpecParser {
    /// Creates two handles of one parser: the shard's and the caller's.
    pub(crate) fn without_thread() -> [Self; 2] {
        let shared = Arc::<Shared>::default();
        [Arc::clone(&shared), shared].map(|shared| Self { shared, thread: None })
    }

    /// Does the next job. Returns whether there was one.
    pub(crate) fn parse_next(&self, limits: &Limits) -> bool {
        let job = self.shared.queue.lock().pop();
        job.map(|job| self.shared.carry_out(job, limits)).is_some()
    }

    /// Returns the number of queued jobs.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.queue.lock().jobs.values().map(VecDeque::len).sum()
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
            queue.push(Job { conn: ConnId(0), ticket, principal, work: Work::Parse(String::new()) });
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
            queue.push(Job { conn: ConnId(0), ticket, principal: of(name), work: Work::Parse(String::new()) });
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
            let work = Work::Parse(message.to_owned());
            parser.submit(Job { conn: ConnId(7), ticket, principal, work });
        }
        let mut done = Vec::new();
        while done.len() < 2 {
            receiver.recv().unwrap();
            done.extend(parser.take());
        }
        let is_good = |done: &Done| matches!(done.result, WorkResult::Parsed(_, Ok(_)));
        let told = done.iter().map(|done| (done.conn.0, done.ticket, is_good(done)));
        assert_eq!(told.collect::<Vec<_>>(), [(7, 0, true), (7, 1, false)]);
    }
}
