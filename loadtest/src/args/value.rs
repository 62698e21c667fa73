//! Values that the command line accepts.

use std::ops::RangeInclusive;

/// Lengths of an event as delivered, in bytes.
const PAYLOAD: RangeInclusive<usize> = 1..=16 << 20;

/// Parses the length of an event.
pub(super) fn payload(text: &str) -> Result<usize, String> {
    let length = text.parse().map_err(|error| format!("{error}"))?;
    if PAYLOAD.contains(&length) { Ok(length) } else { Err("must be from 1 to 16777216 (16 MiB)".to_owned()) }
}

/// Parses the duration of a round.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if seconds > 0.0 && seconds <= 3_600.0 { Ok(seconds) } else { Err("must be above 0 and at most 3600".to_owned()) }
}

/// Parses a tolerance.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=1_000_000.0).contains(&percent) { Ok(percent) } else { Err("must be from 0 to 1000000".to_owned()) }
}
