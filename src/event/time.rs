//! Times as Go reads them.

use jiff::Timestamp;

/// As strict as Go's `time.RFC3339Nano`, which loses the whole event otherwise: capital `T` and `Z`, no leap second.
pub(super) fn is_rfc3339(text: &str) -> bool {
    let Some((date_time, rest)) = text.as_bytes().split_first_chunk() else { return false };
    if !matches_shape(date_time, b"dddd-dd-ddTdd:dd:dd") || &date_time[17..] > b"59".as_slice() {
        return false;
    }
    let Some(zone) = behind_fraction(rest) else { return false };
    match zone {
        b"Z" if is_ordinary(date_time) => true,
        b"Z" => text.parse::<Timestamp>().is_ok(),
        _ => {
            let is_offset = matches_shape(zone, b"+dd:dd") || matches_shape(zone, b"-dd:dd");
            is_offset && text.parse::<Timestamp>().is_ok()
        }
    }
}

/// Whether month, day, hour and minute are such as every month and every day have. These are most times, and there is nothing
/// about them that jiff could object to.
fn is_ordinary(date_time: &[u8; 19]) -> bool {
    let digits = |at: usize| u16::from_be_bytes([date_time[at], date_time[at + 1]]);
    let within = |at, least, most| (u16::from_be_bytes(least)..=u16::from_be_bytes(most)).contains(&digits(at));
    // From the year 1000 on: far from the first that jiff knows.
    date_time[0] != b'0'
        && within(5, *b"01", *b"12")
        && within(8, *b"01", *b"28")
        && within(11, *b"00", *b"23")
        && within(14, *b"00", *b"59")
}

/// What follows the fraction of a second, if that has one to nine digits or is not there.
fn behind_fraction(rest: &[u8]) -> Option<&[u8]> {
    let Some((b'.', fraction)) = rest.split_first() else { return Some(rest) };
    let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
    (1..=9).contains(&digits).then(|| &fraction[digits..])
}

fn matches_shape(bytes: &[u8], shape: &[u8]) -> bool {
    let fits = |(b, s): (&u8, &u8)| if *s == b'd' { b.is_ascii_digit() } else { b == s };
    bytes.len() == shape.len() && bytes.iter().zip(shape).all(fits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same without a short cut.
    fn slowly(text: &str) -> bool {
        let bytes = text.as_bytes();
        let shape = b"dddd-dd-ddTdd:dd:dd";
        if bytes.len() <= shape.len() || !matches_shape(&bytes[..19], shape) || &bytes[17..19] > b"59".as_slice() {
            return false;
        }
        let zone = text[19..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
        let fraction = &text[19..text.len() - zone.len()];
        let fraction_fits = fraction.is_empty()
            || (fraction.starts_with('.') && !fraction[1..].contains('.') && (2..=10).contains(&fraction.len()));
        let zone = zone.as_bytes();
        let zone_fits = zone == b"Z" || matches_shape(zone, b"+dd:dd") || matches_shape(zone, b"-dd:dd");
        fraction_fits && zone_fits && text.parse::<Timestamp>().is_ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_short_cut_changes_nothing(
            text in r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{0,10})?(Z|z|[+-][0-2][0-9]:[0-6][0-9]|)"
        ) {
            prop_assert_eq!(is_rfc3339(&text), slowly(&text));
        }

        #[test]
        fn every_date_is_judged_as_jiff_does(year in 0..=9999_u32, month in 0..=13_u32, day in 0..=32_u32, hour in 0..=25_u32) {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:00:00Z");
            prop_assert_eq!(is_rfc3339(&text), text.parse::<Timestamp>().is_ok());
        }
    }
}
