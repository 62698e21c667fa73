//! `--speed`: when the events of a recording are due, by their own times. Pure.
//!
//! The first event is due at once. Each later event is due after the difference between its time and the first event's,
//! divided by the speed; a late event is due at once. A pause of more than a day, or a time more than a day back,
//! restarts the count: either a clock was wrong, or nothing happened that is worth waiting for.

use std::str::FromStr;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use crate::event::parse_time;
use crate::json;

/// Events with times further apart than this restart the count.
const APART: SignedDuration = SignedDuration::from_hours(24);
/// Shorter waits are skipped: events this close together are sent together.
const LEAST: Duration = Duration::from_millis(10);

/// The speed at which a recording is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::cli) enum Speed {
    /// As fast as the server accepts events.
    Max,
    /// This many times the recorded speed.
    Times(f64),
}

/// The error for a text that is not a speed.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the speed must be a number from 0.001x to 1000000x, such as 1x or 10x, or max")]
pub(in crate::cli) struct SpeedError;

impl FromStr for Speed {
    type Err = SpeedError;

    fn from_str(text: &str) -> Result<Self, SpeedError> {
        if text.eq_ignore_ascii_case("max") {
            return Ok(Self::Max);
        }
        let times: f64 = text.strip_suffix(['x', 'X']).unwrap_or(text).parse().map_err(|_| SpeedError)?;
        if (0.001..=1e6).contains(&times) { Ok(Self::Times(times)) } else { Err(SpeedError) }
    }
}

/// Computes when the events of one recording are due.
#[derive(Debug)]
pub(super) struct Pace {
    speed: Speed,
    /// The event from which times are counted: when it was posted, and its own time.
    first: Option<(Instant, Timestamp)>,
    last: Timestamp,
}

impl Pace {
    pub(super) fn new(speed: Speed) -> Self {
        Self { speed, first: None, last: Timestamp::UNIX_EPOCH }
    }

    /// Returns how long to wait before an event is sent; `None` if it is due or has no time.
    pub(super) fn wait(&mut self, event: &str, now: Instant) -> Option<Duration> {
        let Speed::Times(times) = self.speed else { return None };
        let time = time(event)?;
        if time.duration_since(std::mem::replace(&mut self.last, time)).abs() > APART {
            self.first = None;
        }
        let (begun, first) = *self.first.get_or_insert((now, time));
        let since = Duration::try_from(time.duration_since(first)).ok()?;
        let due = begun.checked_add(since.div_f64(times))?;
        Some(due.saturating_duration_since(now)).filter(|wait| *wait >= LEAST)
    }
}

fn time(event: &str) -> Option<Timestamp> {
    let time = json::members(event).find(|member| member.name() == "Time")?;
    parse_time(json::as_string(time.value)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_read() {
        for (text, speed) in
            [("max", Speed::Max), ("1x", Speed::Times(1.0)), ("10X", Speed::Times(10.0)), ("0.5", Speed::Times(0.5))]
        {
            assert_eq!(text.parse(), Ok(speed));
        }
        for text in ["", "x", "0x", "-1x", "nan", "infx", "1e9x", "fast"] {
            assert_eq!(text.parse::<Speed>(), Err(SpeedError), "{text}");
        }
    }

    #[test]
    fn events_are_due_by_their_times_and_what_is_late_at_once() {
        let begun = Instant::now();
        let mut pace = Pace::new(Speed::Times(10.0));
        let mut wait = |after: u64, time: &str| {
            let wait = pace.wait(&format!(r#"{{"Time":"{time}"}}"#), begun + Duration::from_millis(after));
            wait.map(|wait| wait.as_millis())
        };
        assert_eq!(wait(0, "2026-01-01T00:00:00Z"), None);
        assert_eq!(wait(0, "2026-01-01T00:00:02Z"), Some(200));
        assert_eq!(wait(150, "2026-01-01T00:00:02.5+00:00"), Some(100));
        assert_eq!(wait(245, "2026-01-01T00:00:02.5Z"), None, "less than is waited for");
        assert_eq!(wait(900, "2026-01-01T00:00:03Z"), None, "late");
        assert_eq!(wait(900, "2026-01-01T00:00:01Z"), None, "out of order");
        assert_eq!(wait(900, "yesterday"), None);
        assert_eq!(wait(900, "2026-01-01T00:00:10Z"), Some(100), "still counted from the first");
        assert_eq!(wait(1000, "9999-01-01T00:00:00Z"), None, "a wrong clock");
        assert_eq!(wait(1000, "2026-01-01T00:00:11Z"), None, "and back: a new count");
        assert_eq!(wait(1000, "2026-01-01T00:00:12Z"), Some(100));
        assert_eq!(wait(1000, "9999-12-31T23:59:59Z"), None, "another wrong clock");
        assert_eq!(wait(1000, "2026-01-01T00:00:13Z"), None, "and back");
        assert_eq!(Pace::new(Speed::Max).wait(r#"{"Time":"2026-01-01T00:00:00Z"}"#, begun), None);
    }
}
