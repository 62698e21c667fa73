//! Times as Go reads them.

use jiff::Timestamp;

/// As strict as Go's `time.RFC3339Nano`, which loses the whole event otherwise: capital `T` and `Z`, no leap second.
pub(super) fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shape = b"dddd-dd-ddTdd:dd:dd";
    if bytes.len() <= shape.len() || !matches_shape(&bytes[..shape.len()], shape) || &bytes[17..19] > b"59".as_slice() {
        return false;
    }
    let mut zone = &bytes[shape.len()..];
    if zone[0] == b'.' {
        let digits = zone[1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return false;
        }
        zone = &zone[1 + digits..];
    }
    let zone_fits = zone == b"Z" || matches_shape(zone, b"+dd:dd") || matches_shape(zone, b"-dd:dd");
    zone_fits && text.parse::<Timestamp>().is_ok()
}

fn matches_shape(bytes: &[u8], shape: &[u8]) -> bool {
    let fits = |(b, s): (&u8, &u8)| if *s == b'd' { b.is_ascii_digit() } else { b == s };
    bytes.len() == shape.len() && bytes.iter().zip(shape).all(fits)
}
