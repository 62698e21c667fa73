//! What is known of a connection before its client has presented valid credentials: whether it is idle.
//!
//! Contract: the code that serves the connection reports to it, from one task; any thread may read it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::reading::Reading;

/// After this long without a byte a connection may lose its slot.
pub(super) const SILENT: Duration = Duration::from_millis(250);

/// After this long without a complete request a connection may lose its slot.
pub(super) const SLOW: Duration = Duration::from_secs(2);

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Nothing has been received yet.
    Silent,
    /// Something has been received, but not yet a complete request.
    Waiting,
    /// A request is being processed.
    Busy,
}

/// The state of a connection, reported by the code that serves it.
#[derive(Debug)]
pub struct Signs {
    begun: Instant,
    phase: AtomicU8,
    /// When the phase began, in milliseconds after `begun`.
    since: AtomicU64,
    /// The number of requests received.
    requests: AtomicU64,
    /// Whether the client may still send data that will not be read.
    unread: AtomicBool,
    answer: AtomicU8,
    /// Whether the connection needs a slot, and whether its slot was given to another.
    needs_slot: AtomicBool,
    evicted: AtomicBool,
    /// The body of the current request, if it has one.
    body: Mutex<Option<Reading>>,
}

/// The state of the response to the last request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// All of it was passed to the kernel, or there was no request yet.
    Done,
    /// The request is being processed, or its response written.
    Open,
    /// Its last byte is in hyper's buffer.
    Written,
    /// The connection no longer speaks HTTP.
    Upgraded,
}

impl Signs {
    /// Creates the signs of a connection that begins now.
    pub fn new() -> Self {
        let phase = AtomicU8::new(Phase::Silent as u8);
        let answer = AtomicU8::new(Stage::Done as u8);
        let (since, requests) = (AtomicU64::new(0), AtomicU64::new(0));
        let (needs_slot, evicted) = (AtomicBool::new(true), AtomicBool::new(false));
        let (unread, body) = (AtomicBool::new(false), Mutex::new(None));
        Self { begun: Instant::now(), phase, since, requests, unread, answer, needs_slot, evicted, body }
    }

    /// Notes that data has been received.
    pub fn heard(&self) {
        if self.phase.load(Ordering::Relaxed) == Phase::Silent as u8 {
            self.enter(Phase::Waiting);
        }
    }

    /// Notes that bytes of a response have been sent: its body may take far longer than its head, and the connection is
    /// not idle while it makes progress.
    pub fn wrote(&self) {
        if self.phase.load(Ordering::Relaxed) == Phase::Waiting as u8 {
            self.enter(Phase::Waiting);
        }
    }

    /// Notes that a request has been received.
    pub fn busy(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.answer.store(Stage::Open as u8, Ordering::Relaxed);
        self.enter(Phase::Busy);
    }

    /// Returns the number of requests received so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Sets the reading state of the current request's body.
    pub(super) fn reads(&self, body: Option<Reading>) {
        *self.body.lock() = body;
    }

    /// Returns whether more of a body is expected.
    pub(super) fn awaits_body(&self) -> bool {
        self.body.lock().as_ref().is_some_and(Reading::waits)
    }

    /// Notes that the last byte of a response is in hyper's buffer.
    pub(super) fn written(&self) {
        self.answer.store(Stage::Written as u8, Ordering::Relaxed);
    }

    /// Returns whether the last byte of a response is in hyper's buffer.
    pub(super) fn is_written(&self) -> bool {
        self.answer.load(Ordering::Relaxed) == Stage::Written as u8
    }

    /// Notes that hyper's buffer is empty. Returns whether that was the end of a response.
    pub(super) fn flushed(&self) -> bool {
        let is_end = self.answer.load(Ordering::Relaxed) == Stage::Written as u8;
        if is_end {
            self.answer.store(Stage::Done as u8, Ordering::Relaxed);
        }
        is_end
    }

    /// Notes that the protocol has changed.
    pub(super) fn upgraded(&self) {
        self.answer.store(Stage::Upgraded as u8, Ordering::Relaxed);
    }

    /// Returns whether a request is being answered.
    pub(super) fn is_answering(&self) -> bool {
        let stage = self.answer.load(Ordering::Relaxed);
        stage == Stage::Open as u8 || stage == Stage::Written as u8
    }

    /// Returns whether no request is being answered: what hyper writes then answers a request that it could not parse.
    pub(super) fn is_between_requests(&self) -> bool {
        self.answer.load(Ordering::Relaxed) == Stage::Done as u8
    }

    /// Notes that the connection has given up its slot: its client has shown valid credentials, or it has ended.
    pub(super) fn free_slot(&self) {
        self.needs_slot.store(false, Ordering::Release);
    }

    /// Notes that the slot was given to another connection. Returns whether this one ends at once: not in the middle of
    /// a request, nor if it needs no slot.
    pub(super) fn evict(&self) -> bool {
        self.evicted.store(true, Ordering::Release);
        self.is_evicted() && !self.is_answering()
    }

    /// Returns whether the connection is without the slot that it needs, so that it ends with its response.
    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Acquire) && self.needs_slot.load(Ordering::Acquire)
    }

    /// Notes that the client may still send data that will not be read.
    pub(super) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Release);
    }

    /// Notes that the request was answered; `unread` says that part of its body is still to come, so the connection
    /// ends.
    pub fn answered(&self, unread: bool) {
        self.unread.store(unread, Ordering::Release);
        self.enter(Phase::Waiting);
    }

    /// Returns whether the client may still send data that will not be read.
    pub fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Acquire)
    }

    fn enter(&self, phase: Phase) {
        self.since.store(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn since(&self) -> Instant {
        self.begun + Duration::from_millis(self.since.load(Ordering::Relaxed))
    }

    /// Returns the time since which the connection has been between two requests, if it is.
    pub(super) fn free_since(&self) -> Option<Instant> {
        let is_waiting = self.phase.load(Ordering::Relaxed) == Phase::Waiting as u8;
        // The phase changes when the response is known, before it is sent.
        (self.requests() > 0 && is_waiting && self.is_between_requests()).then(|| self.since())
    }

    /// Returns since when the connection has been idle, if that is long enough to lose its slot.
    pub(super) fn idle_since(&self, now: Instant) -> Option<Instant> {
        let since = self.since();
        let most = match self.phase.load(Ordering::Relaxed) {
            phase if phase == Phase::Silent as u8 => SILENT,
            phase if phase == Phase::Waiting as u8 => SLOW,
            _ => return None,
        };
        (now.saturating_duration_since(since) >= most).then_some(since)
    }
}

/// The time at which a client last accepted a part of its current response.
#[derive(Debug, Clone)]
pub struct Accepting(Arc<Signs>);

impl Accepting {
    pub(super) fn new(signs: &Arc<Signs>) -> Self {
        Self(Arc::clone(signs))
    }

    /// Returns that time, or when the answer was known if nothing has been accepted yet.
    pub fn last(&self) -> Instant {
        self.0.since()
    }
}

impl Default for Signs {
    fn default() -> Self {
        Self::new()
    }
}
