//! The wall clock and the monotonic clock. Only this module reads the wall clock, so tests can pass the time to
//! everything else.
//!
//! In this crate's own tests a thread may have a clock of its own (`simulated`): it stands still until it is moved,
//! so that a run can be repeated.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// Both clocks at one moment. Ages and deadlines are measured by the monotonic clock: whoever sets the wall clock must
/// neither end nor prolong them. The wall clock is for times that are shown, or compared with those of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The wall clock time.
    pub wall: Timestamp,
    /// The time of the monotonic clock.
    pub instant: Instant,
}

impl ClockReading {
    /// Returns the wall clock time of an earlier moment, as the clock is set now: never later than now.
    pub fn wall_at(self, earlier: Instant) -> Timestamp {
        let ago = self.instant.saturating_duration_since(earlier);
        let ago = SignedDuration::try_from(ago).unwrap_or(SignedDuration::MAX);
        self.wall.checked_sub(ago).unwrap_or(Timestamp::MIN)
    }
}

/// Returns the time of both clocks.
pub fn both() -> ClockReading {
    ClockReading { wall: now(), instant: instant() }
}

/// Returns the wall clock time, for what is shown or compared with the times of others: event times, expiries of tokens
/// and certificates, log lines. It may be set at any time; for ages use [`instant`].
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

    use jiff::{SignedDuration, Timestamp};

    use super::ClockReading;

    /// Where every simulated monotonic clock begins.
    static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

    thread_local! {
        static PASSED: Cell<Option<Duration>> = const { Cell::new(None) };
        static STEP: Cell<Duration> = const { Cell::new(Duration::ZERO) };
        static SET: Cell<SignedDuration> = const { Cell::new(SignedDuration::ZERO) };
    }

    /// Gives the thread a clock, or sets back the one that it has.
    pub(crate) fn begin() {
        PASSED.set(Some(Duration::ZERO));
        STEP.set(Duration::ZERO);
        SET.set(SignedDuration::ZERO);
    }

    /// Moves the clock.
    pub(crate) fn pass(time: Duration) {
        PASSED.set(PASSED.get().map(|passed| passed + time));
    }

    /// Sets by how much every reading moves the clock.
    pub(crate) fn set_step(step: Duration) {
        STEP.set(step);
    }

    /// Sets the wall clock, by its difference to a clock that was never set. The monotonic clock goes on.
    pub(crate) fn set_wall(difference: SignedDuration) {
        SET.set(difference);
    }

    /// Returns a moment without a clock, for callers that pass the time. Panics for a negative number of seconds.
    pub(crate) fn at(seconds: i64) -> ClockReading {
        let wall = Timestamp::from_second(1_700_000_000 + seconds).expect("of this century");
        ClockReading { wall, instant: *BEGINNING + Duration::from_secs(seconds.try_into().expect("not negative")) }
    }

    fn read() -> Option<Duration> {
        let passed = PASSED.get()?;
        PASSED.set(Some(passed + STEP.get()));
        Some(passed)
    }

    pub(super) fn now() -> Option<Timestamp> {
        // The first second of 2026.
        let begun = Timestamp::from_second(1_767_225_600).ok()?;
        begun.checked_add(read()?).ok()?.checked_add(SET.get()).ok()
    }

    pub(super) fn instant() -> Option<Instant> {
        Some(*BEGINNING + read()?)
    }
}
