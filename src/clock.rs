//! The wall clock, and the monotonic clock of the shards. Only this module reads the wall clock, so tests can pass the
//! time to everything else.
//!
//! In this crate's own tests a thread may have a clock of its own (`simulated`): it stands still until it is moved,
//! so that a run can be repeated.

use std::time::Instant;

use jiff::Timestamp;

/// Returns the wall clock time, for human readers: event times, expiries, log lines.
#[allow(clippy::disallowed_methods, reason = "this is the module that may")]
pub fn now() -> Timestamp {
    #[cfg(test)]
    if let Some(now) = simulated::now() {
        return now;
    }
    Timestamp::now()
}

/// Returns the time of the monotonic clock, for deadlines and durations.
#[inline]
pub fn instant() -> Instant {
    #[cfg(test)]
    if let Some(now) = simulated::instant() {
        return now;
    }
    Instant::now()
}

/// Returns the time `second` seconds after 1970, clamped to the times that can be represented. Pure.
pub fn at_second(second: i64) -> Timestamp {
    let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    // The earliest and latest times are not whole seconds.
    Timestamp::from_second(second.clamp(first, last)).unwrap_or(if second < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// A clock of the current thread instead of the real ones. Every reading moves it by a fixed step, as if the work
/// between two readings took that long.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::Cell;
    use std::sync::LazyLock;
    use std::time::{Duration, Instant};

    use jiff::Timestamp;

    /// Where every simulated monotonic clock begins.
    static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

    thread_local! {
        static PASSED: Cell<Option<Duration>> = const { Cell::new(None) };
        static STEP: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// Gives the thread a clock, or sets back the one that it has.
    pub(crate) fn begin() {
        PASSED.set(Some(Duration::ZERO));
        STEP.set(Duration::ZERO);
    }

    /// Moves the clock.
    pub(crate) fn pass(time: Duration) {
        PASSED.set(PASSED.get().map(|passed| passed + time));
    }

    /// Sets by how much every reading moves the clock.
    pub(crate) fn set_step(step: Duration) {
        STEP.set(step);
    }

    fn read() -> Option<Duration> {
        let passed = PASSED.get()?;
        PASSED.set(Some(passed + STEP.get()));
        Some(passed)
    }

    pub(super) fn now() -> Option<Timestamp> {
        // The first second of 2026.
        let begun = Timestamp::from_second(1_767_225_600).ok()?;
        begun.checked_add(read()?).ok()
    }

    pub(super) fn instant() -> Option<Instant> {
        Some(*BEGINNING + read()?)
    }
}
