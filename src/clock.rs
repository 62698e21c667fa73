//! The wall clock. Only this module reads it, so tests can pass the time to everything else.

use jiff::Timestamp;

/// The wall clock, for what people read: event times, expiries, log lines.
#[allow(clippy::disallowed_methods, reason = "this is the module that may")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The time so many seconds after 1970; the first or the last that can be represented if it is beyond them. Pure.
pub fn at_second(second: i64) -> Timestamp {
    let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    // The very ends have no whole second.
    Timestamp::from_second(second.clamp(first, last)).unwrap_or(if second < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}
