//! What a panic does. No input may cause one, so each is a bug (see the decision in `docs/adr`).
//!
//! Contract: a panic in the task of one connection ends that connection: tokio contains it. A panic where the server
//! cannot do without, marked by [`Vital`], ends the process by SIGABRT, with a last line that says what has panicked: a
//! shard that is dead would hold its connections without a word, a follower that is dead would keep removed users in.
//! Whoever supervises the process starts it again. Every panic is logged and counted ([`panics`]), and nothing that was
//! logged before is lost.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinError;

use super::flush;

/// So long the last lines get to leave; whoever does not read them does not hold up the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Panics of this process since [`report`] was called.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// From now on panics go to the log, counted, and not directly to standard error, which may be a pipe that nobody
/// reads.
pub fn report() {
    std::panic::set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    let thread = std::thread::current();
    let (thread, at) = (thread.name().unwrap_or("unnamed"), panic.location().map(ToString::to_string));
    let reason = panic.payload_as_str().unwrap_or("no message");
    tracing::error!(thread, at, reason, "panic");
}

/// Panics if the task did.
///
/// # Panics
/// With what the task panicked with.
pub fn pass_on(ended: Result<(), JoinError>) {
    // Otherwise it was cut off, which nobody does without reason.
    if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
        std::panic::resume_unwind(panic);
    }
}

/// Held where the server cannot go on after a panic; see the module's text.
#[derive(Debug)]
pub struct Vital(&'static str);

impl Vital {
    /// Marks what is running, by a name for the log.
    pub fn new(what: &'static str) -> Self {
        Self(what)
    }
}

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(what = self.0, "the server cannot go on without it: the process ends");
            flush(LAST_WORDS);
            std::process::abort();
        }
    }
}
