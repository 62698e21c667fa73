//! The wall clock. Only this module reads it, so tests can pass the time to everything else.

use jiff::Timestamp;

/// Returns the wall clock time, for human readers: event times, expiries, log lines.
#[allow(clippy::disallowed_methods, reason = "this is the module that may")]
pub fn now() -> Timestamp {
    Timestamp::now()
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
