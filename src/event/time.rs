//! Times as Go reads them: years up to 9999, offsets up to 23:59.

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

/// Go's zero `time.Time`, 0001-01-01T00:00:00Z.
const ZERO: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// Parses a time as strictly as Go's `time.RFC3339Nano`, since Go clients lose the whole event otherwise: capital `T`
/// and `Z`, no leap second.
///
/// Nearly all times are in UTC. Their digits are parsed here, and jiff only checks the calendar: its own parser accepts
/// many other forms and is slower, and the time of every event is parsed twice. The last hours of the year 9999, which
/// jiff's timestamps lack, become its last timestamp.
pub fn parse(text: impl AsRef<[u8]>) -> Option<Timestamp> {
    let (date_time, rest) = text.as_ref().split_first_chunk()?;
    let date_time = pairs(date_time).filter(|pairs| pairs[6] < 60)?;
    let (nanosecond, zone) = fraction(rest)?;
    let local = calendar(date_time, nanosecond)?;
    if zone == b"Z" { Some(moment(local)) } else { Some(shifted(local, seconds(zone)?)) }
}

/// Returns whether this is Go's zero `time.Time`, in any spelling: other clients write another offset, or a fraction.
pub(super) fn is_zero(text: &str) -> bool {
    // In every spelling the year is 1, or 0 west of Greenwich.
    text.starts_with("000") && parse(text) == Some(ZERO)
}

/// Parses a UTC offset `+hh:mm`, up to 23:59 as in Go, into seconds.
fn seconds(offset: &[u8]) -> Option<i64> {
    let &[sign @ (b'+' | b'-'), a, b, b':', c, d] = offset else { return None };
    let [a, b, c, d] = [a, b, c, d].map(|byte| i64::from(byte.wrapping_sub(b'0')));
    let (hours, minutes) = (10 * a + b, 10 * c + d);
    let fits = a.max(b).max(c).max(d) <= 9 && hours <= 23 && minutes <= 59;
    let seconds = 3600 * hours + 60 * minutes;
    fits.then_some(if sign == b'-' { -seconds } else { seconds })
}

/// Converts a local time that is `seconds` ahead of UTC.
fn shifted(local: DateTime, seconds: i64) -> Timestamp {
    let end = if seconds > 0 { Timestamp::MIN } else { Timestamp::MAX };
    local.checked_sub(SignedDuration::from_secs(seconds)).map_or(end, moment)
}

/// Returns century, year, month, day, hour, minute and second of `dddd-dd-ddTdd:dd:dd`.
fn pairs(text: &[u8; 19]) -> Option<[u8; 7]> {
    let &[c0, c1, y0, y1, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', i0, i1, b':', s0, s1] = text else {
        return None;
    };
    let mut greatest = 0;
    let pairs = [[c0, c1], [y0, y1], [m0, m1], [d0, d1], [h0, h1], [i0, i1], [s0, s1]].map(|[tens, ones]| {
        let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
        greatest = greatest.max(tens).max(ones);
        tens.wrapping_mul(10).wrapping_add(ones)
    });
    (greatest <= 9).then_some(pairs)
}

/// Parses an optional fraction of one to nine digits into nanoseconds. Returns these and the rest of the text.
fn fraction(text: &[u8]) -> Option<(i32, &[u8])> {
    let Some((b'.', mut rest)) = text.split_first() else { return Some((0, text)) };
    let (mut nanosecond, mut unit) = (0, 1_000_000_000);
    while let [digit @ b'0'..=b'9', tail @ ..] = rest {
        unit /= 10;
        if unit == 0 {
            return None;
        }
        nanosecond += i32::from(digit - b'0') * unit;
        rest = tail;
    }
    (unit < 1_000_000_000).then_some((nanosecond, rest))
}

/// Returns the date and time if the calendar has it.
fn calendar(pairs: [u8; 7], nanosecond: i32) -> Option<DateTime> {
    let year = i16::from(pairs[0]) * 100 + i16::from(pairs[1]);
    let [_, _, month, day, hour, minute, second] = pairs.map(u8::cast_signed);
    DateTime::new(year, month, day, hour, minute, second, nanosecond).ok()
}

/// Converts a time in UTC. The calendar extends one day beyond jiff's timestamps, so the last hours of the year 9999
/// become the last timestamp.
fn moment(utc: DateTime) -> Timestamp {
    Offset::UTC.to_timestamp(utc).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches_shape(bytes: &[u8], shape: &[u8]) -> bool {
        let fits = |(b, s): (&u8, &u8)| if *s == b'd' { b.is_ascii_digit() } else { b == s };
        bytes.len() == shape.len() && bytes.iter().zip(shape).all(fits)
    }

    /// Like [`parse`], by jiff, after a check of the form.
    fn slowly(text: &str) -> Option<Timestamp> {
        let bytes = text.as_bytes();
        let shape = b"dddd-dd-ddTdd:dd:dd";
        if text.len() <= shape.len()
            || !text.is_char_boundary(19)
            || !matches_shape(&bytes[..19], shape)
            || &bytes[17..19] > b"59".as_slice()
        {
            return None;
        }
        let zone = text[19..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
        let fraction = &text[19..text.len() - zone.len()];
        let fraction_fits = fraction.is_empty()
            || (fraction.starts_with('.') && !fraction[1..].contains('.') && (2..=10).contains(&fraction.len()));
        let zone = zone.as_bytes();
        let zone_fits = zone == b"Z" || matches_shape(zone, b"+dd:dd") || matches_shape(zone, b"-dd:dd");
        if !fraction_fits || !zone_fits || (zone.len() == 6 && &zone[1..] > b"23:59".as_slice()) {
            return None;
        }
        let is_late = || text.starts_with("9999-12-3") && text[..19].parse::<DateTime>().is_ok();
        text.parse().ok().or_else(|| is_late().then_some(Timestamp::MAX))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn times_are_those_that_jiff_reads(
            text in concat!(
                r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]",
                r"(\.[0-9]{0,10})?(Z|z|[+-][0-2][0-9]:[0-6][0-9]|)"
            )
        ) {
            prop_assert_eq!(parse(&text), slowly(&text));
        }

        #[test]
        fn the_calendar_is_that_of_jiff(
            year in 0..=9999_u32, month in 0..=13_u32, day in 0..=32_u32, hour in 0..=25_u32,
            nanos in 0..1_000_000_000_u32
        ) {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:34:56.{nanos:09}Z");
            prop_assert_eq!(parse(&text), slowly(&text));
        }

        #[test]
        fn anything_else_is_none(text in r"[0-9TZ:.+ -]{0,40}|\PC{0,40}") {
            prop_assert_eq!(parse(&text), slowly(&text));
        }
    }

    #[test]
    fn years_are_taken_whole_and_offsets_end_at_23_59() {
        for text in ["0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-30T22:00:00Z"] {
            assert_eq!(parse(text), text.parse().ok(), "{text}");
        }
        for text in ["9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59-23:59", "9999-12-31T00:00:00Z"] {
            assert_eq!(parse(text), Some(Timestamp::MAX), "{text}");
        }
        assert_eq!(parse("9999-12-31T10:00:00+23:59"), "9999-12-30T10:01:00Z".parse().ok());
        assert_eq!(parse("2026-01-01T00:00:00+23:59"), "2025-12-31T00:01:00Z".parse().ok());
        for text in ["2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+23:60", "2026-01-01T00:00:00-25:00"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_zero_time_is_known_in_every_spelling() {
        for text in [
            "0001-01-01T00:00:00Z",
            "0001-01-01T00:00:00.0Z",
            "0001-01-01T00:00:00.000000000Z",
            "0001-01-01T00:00:00+00:00",
            "0001-01-01T00:00:00.000-00:00",
            "0001-01-01T23:59:00+23:59",
            "0000-12-31T16:07:00-07:53",
            "0000-12-31T19:00:00.00-05:00",
        ] {
            assert!(is_zero(text), "{text}");
        }
        let others =
            ["0001-01-01T00:00:00.000000001Z", "0001-01-01T00:00:00+00:01", "0001-01-01", "0001-01-02T00:00:00Z"];
        assert!(others.iter().all(|text| !is_zero(text)));
    }

    #[test]
    fn one_wrong_byte_is_told() {
        for at in 0..35 {
            for byte in 0..128 {
                let mut text = b"2026-11-24T04:22:08.335670491+02:00".to_vec();
                text[at] = byte;
                let text = String::from_utf8(text).unwrap();
                assert_eq!(parse(&text), slowly(&text), "{text}");
                let utc = text[..29].to_owned() + "Z";
                assert_eq!(parse(&utc), slowly(&utc), "{utc}");
            }
        }
    }
}
