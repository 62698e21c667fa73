//! What time it is. The only module that reads the wall clock, so that everything else can be told the time by a test.

use jiff::Timestamp;

/// The wall clock, for what people read: event times, expiries, log lines.
#[allow(clippy::disallowed_methods, reason = "this is the module that may")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
