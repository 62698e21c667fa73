//! Times as Go reads them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// As strict as Go's `time.RFC3339Nano`, which loses the whole event otherwise: capital `T` and `Z`, no leap second.
///
/// Nearly all times are in UTC. Of these the digits are read here and only the calendar is asked of jiff, whose own parser knows
/// many other forms and takes longer; the time of every event is read twice on its way.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let (date_time, rest) = text.as_bytes().split_first_chunk()?;
    let date_time = pairs(date_time).filter(|pairs| pairs[6] < 60)?;
    match fraction(rest)? {
        (nanosecond, b"Z") => utc(date_time, nanosecond),
        // Six bytes of this form that jiff takes are an offset as Go has it.
        (_, [b'+' | b'-', _, _, b':', _, _]) => text.parse().ok().or_else(|| last(text)),
        _ => None,
    }
}

/// Century, year, month, day, hour, minute and second of `dddd-dd-ddTdd:dd:dd`.
fn pairs(text: &[u8; 19]) -> Option<[u8; 7]> {
    let [.., b'-', _, _, b'-', _, _, b'T', _, _, b':', _, _, b':', _, _] = text else { return None };
    let mut greatest = 0;
    let pairs = [0, 2, 5, 8, 11, 14, 17].map(|at| {
        let [tens, ones] = [text[at], text[at + 1]].map(|byte| byte.wrapping_sub(b'0'));
        greatest = greatest.max(tens).max(ones);
        tens.wrapping_mul(10).wrapping_add(ones)
    });
    (greatest <= 9).then_some(pairs)
}

/// The nanoseconds that a fraction of one to nine digits says, if there is one, and what follows.
fn fraction(text: &[u8]) -> Option<(i32, &[u8])> {
    let Some((b'.', mut rest)) = text.split_first() else { return Some((0, text)) };
    let (mut nanosecond, mut unit) = (0, 1_000_000_000);
    while let [digit @ b'0'..=b'9', behind @ ..] = rest {
        unit /= 10;
        if unit == 0 {
            return None;
        }
        nanosecond += i32::from(digit - b'0') * unit;
        rest = behind;
    }
    (unit < 1_000_000_000).then_some((nanosecond, rest))
}

/// This time in UTC, if the calendar has it.
fn utc(pairs: [u8; 7], nanosecond: i32) -> Option<Timestamp> {
    let year = i16::from(pairs[0]) * 100 + i16::from(pairs[1]);
    let [_, _, month, day, hour, minute, second] = pairs.map(u8::cast_signed);
    let date_time = DateTime::new(year, month, day, hour, minute, second, nanosecond).ok()?;
    Some(Offset::UTC.to_timestamp(date_time).unwrap_or(Timestamp::MAX))
}

/// The last time that can be told, which is a day before the last that Go writes: for what is meant to be never.
fn last(text: &str) -> Option<Timestamp> {
    // Good or bad for the same reasons as a year before.
    let before = format!("9998{}", text.strip_prefix("9999").filter(|rest| rest.starts_with("-12-3"))?);
    before.parse::<Timestamp>().ok().map(|_| Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches_shape(bytes: &[u8], shape: &[u8]) -> bool {
        let fits = |(b, s): (&u8, &u8)| if *s == b'd' { b.is_ascii_digit() } else { b == s };
        bytes.len() == shape.len() && bytes.iter().zip(shape).all(fits)
    }

    /// The same by jiff, after a look at the form.
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
        if fraction_fits && zone_fits { text.parse().ok().or_else(|| last(text)) } else { None }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn times_are_those_that_jiff_reads(
            text in r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{0,10})?(Z|z|[+-][0-2][0-9]:[0-6][0-9]|)"
        ) {
            prop_assert_eq!(parse(&text), slowly(&text));
        }

        #[test]
        fn the_calendar_is_that_of_jiff(
            year in 0..=9999_u32, month in 0..=13_u32, day in 0..=32_u32, hour in 0..=25_u32, nanos in 0..1_000_000_000_u32
        ) {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:34:56.{nanos:09}Z");
            prop_assert_eq!(parse(&text), text.parse().ok().or_else(|| last(&text)));
        }

        #[test]
        fn anything_else_is_none(text in r"[0-9TZ:.+ -]{0,40}|\PC{0,40}") {
            prop_assert_eq!(parse(&text), slowly(&text));
        }
    }

    #[test]
    fn the_ends_of_the_calendar_are_told_as_near_as_can_be() {
        for text in ["0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-30T22:00:00Z"] {
            assert_eq!(parse(text), Some(text.parse().unwrap()), "{text}");
        }
        for text in ["9999-12-31T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59-01:00"] {
            assert_eq!(parse(text), Some(Timestamp::MAX), "{text}");
        }
        for text in ["9999-12-32T00:00:00Z", "9999-12-31T24:00:00Z", "9999-12-31T00:00:00+99:00"] {
            assert_eq!(parse(text), None, "{text}");
        }
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
