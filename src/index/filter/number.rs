//! The canonical text of a JSON number: numbers are equal exactly if their texts are.
//!
//! Numbers are compared as decimals, not as floats: `1`, `1.0` and `10e-1` are the same number, while integers that
//! differ only in the last digit stay different, however long they are.

/// Longest integer, in digits, that is written out with trailing zeros; from 1e21 on, they go into the exponent.
const PLAIN_DIGITS: i64 = 21;
/// Maximum number of zeros after the decimal point; beyond that an exponent is written.
const LEADING_ZEROS: i64 = 6;

/// Returns whether a valid JSON number is its own canonical text; a cheap check for the common case.
pub(super) fn is_canonical(raw: &[u8]) -> bool {
    let digits = raw.strip_prefix(b"-").unwrap_or(raw);
    raw != b"-0" && length(digits.len()) <= PLAIN_DIGITS && digits.iter().all(u8::is_ascii_digit)
}

/// Appends the canonical text of a valid JSON number.
pub(super) fn write_canonical(raw: &[u8], out: &mut Vec<u8>) {
    let (negative, magnitude) = match raw.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, raw),
    };
    let Some(decimal) = Decimal::read(magnitude) else {
        out.extend_from_slice(raw);
        return;
    };
    if negative && !decimal.digits.is_empty() {
        out.push(b'-');
    }
    decimal.write(out);
}

/// `digits * 10^exponent`; no zeros at either end, empty for zero.
struct Decimal {
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// Parses a number. Returns `None` if the exponent overflows; such numbers are equal only to their own text.
    fn read(raw: &[u8]) -> Option<Self> {
        let (mantissa, exponent) = match raw.iter().position(|b| matches!(b, b'e' | b'E')) {
            Some(at) => (&raw[..at], Some(&raw[at + 1..])),
            None => (raw, None),
        };
        let (whole, fraction) = match mantissa.iter().position(|b| *b == b'.') {
            Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
            None => (mantissa, &[][..]),
        };
        let mut digits: Vec<u8> = whole.iter().chain(fraction).copied().skip_while(|b| *b == b'0').collect();
        let zeros = digits.iter().rev().take_while(|b| **b == b'0').count();
        digits.truncate(digits.len() - zeros);
        if digits.is_empty() {
            return Some(Self { digits, exponent: 0 });
        }
        let given = exponent.map_or(Some(0), read_exponent)?;
        let exponent = given.checked_sub(length(fraction.len()))?.checked_add(length(zeros))?;
        Some(Self { digits, exponent })
    }

    fn write(&self, out: &mut Vec<u8>) {
        if self.digits.is_empty() {
            out.push(b'0');
            return;
        }
        let digits = &self.digits[..];
        // The position of the decimal point, counted from the first digit.
        let point = self.exponent.saturating_add(length(digits.len()));
        if self.exponent == 0 {
            out.extend_from_slice(digits);
        } else if self.exponent > 0 && point <= PLAIN_DIGITS {
            out.extend_from_slice(digits);
            zeros(self.exponent, out);
        } else if self.exponent < 0 && point > 0 {
            let (whole, fraction) = digits.split_at(digits.len() - below(self.exponent));
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        } else if self.exponent < 0 && point > -LEADING_ZEROS {
            out.extend_from_slice(b"0.");
            zeros(-point, out);
            out.extend_from_slice(digits);
        } else {
            out.extend_from_slice(digits);
            out.push(b'e');
            out.extend_from_slice(self.exponent.to_string().as_bytes());
        }
    }
}

fn read_exponent(raw: &[u8]) -> Option<i64> {
    std::str::from_utf8(raw).ok()?.parse().ok()
}

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Returns the number of digits after the point, for a negative exponent that is smaller than the number of digits.
fn below(exponent: i64) -> usize {
    usize::try_from(-exponent).expect("negative and small")
}

fn zeros(count: i64, out: &mut Vec<u8>) {
    out.resize(out.len() + usize::try_from(count).expect("small and not negative"), b'0');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(raw: &str) -> String {
        let mut out = Vec::new();
        write_canonical(raw.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn equal_numbers_have_one_text() {
        for (canon, spellings) in [
            ("1", &["1", "1.0", "1e0", "10e-1", "0.1e+1", "1E-0"][..]),
            ("0", &["0", "-0", "0.0", "-0.0e5", "0e99999999999999999999"]),
            ("1000", &["1000", "1e3", "1.000E+3"]),
            ("-12.5", &["-12.5", "-125e-1", "-0.125e2"]),
            ("0.00125", &["0.00125", "125e-5"]),
            ("1e-7", &["0.0000001", "1e-7"]),
            ("18446744073709551616", &["18446744073709551616", "18446744073709551616.0", "1.8446744073709551616e19"]),
            ("12345678901234567890123", &["12345678901234567890123", "12345678901234567890123.000"]),
            ("1e21", &["1000000000000000000000", "1e21"]),
            ("100000000000000000000", &["100000000000000000000", "1e20"]),
            ("123e400", &["123e400", "1.23e402"]),
        ] {
            for raw in spellings {
                assert_eq!(canonical(raw), canon, "{raw}");
                assert!(!is_canonical(raw.as_bytes()) || *raw == canon || raw.len() > 21, "{raw}");
            }
        }
    }

    #[test]
    fn the_cheap_test_agrees_with_the_long_way() {
        for raw in ["0", "7", "-7", "-0", "9223372036854775808", "1.5", "1e2", "1000000000000000000000", "-90"] {
            if is_canonical(raw.as_bytes()) {
                assert_eq!(canonical(raw), raw);
            }
        }
    }

    #[test]
    fn exponents_beyond_counting_keep_their_text() {
        assert_eq!(canonical("1e99999999999999999999"), "1e99999999999999999999");
        assert_eq!(canonical("-1e99999999999999999999"), "-1e99999999999999999999");
        assert_eq!(canonical("1.5e-9223372036854775808"), "1.5e-9223372036854775808");
    }
}
