//! The value of `--since`. What no server accepts is refused before a connection is opened.

use thiserror::Error;

use super::position::Position;
use crate::auth::parse_ttl;
use crate::clock;
use crate::event::parse_time;

/// The text names no point in time.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("expected an age (10m, 2h), an RFC 3339 time (2026-01-02T03:04:05Z), or a position (EPOCH:SEQUENCE)")]
pub(in crate::cli) struct SinceError;

/// Parses `--since`: converts an age to the time that the server expects; returns a time or a position as it is.
///
/// # Errors
/// [`SinceError`].
pub(in crate::cli) fn since(text: &str) -> Result<String, SinceError> {
    let text = text.trim();
    if Position::parse(text).is_some() || parse_time(text).is_some() || text.parse::<jiff::Timestamp>().is_ok() {
        return Ok(text.to_owned());
    }
    let digits = text.strip_suffix(['s', 'm', 'h', 'd', 'w']).ok_or(SinceError)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SinceError);
    }
    let ago = parse_ttl(text).map_err(|_| SinceError)?;
    Ok(clock::now().checked_sub(ago).map_or_else(|_| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_so_long_ago_and_a_time_or_a_position_is_the_servers() {
        let ago = |text: &str| {
            let then = since(text).unwrap().parse().unwrap();
            clock::now().duration_since(then).as_secs()
        };
        assert!((600..660).contains(&ago("10m")));
        assert!((7200..7260).contains(&ago(" 2h ")));
        for text in ["2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-01t00:00:00+01", "18c5a3f2b1d00e47:7"] {
            assert_eq!(since(text).unwrap(), text);
        }
        assert_eq!(since("99999999999999d").unwrap(), "0001-01-01T00:00:00Z");
        for text in ["", " ", "0s", "5x", "600", "yesterday", "1a2b:77", "m", "99999999999999999999d"] {
            assert_eq!(since(text), Err(SinceError), "{text:?}");
        }
    }
}
