//! Figures with their spread, and their formatting.

use serde::Serialize;

/// Median, minimum and maximum of some figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle figure, or the mean of the two in the middle.
    pub median: f64,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
}

/// Returns the spread; `None` without figures.
pub fn spread(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let (&min, &max) = (sorted.first()?, sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
    Some(Spread { median, min, max })
}

/// Formats the median with minimum and maximum.
pub(crate) fn shown(spread: Option<Spread>, digits: usize) -> String {
    let Some(Spread { median, min, max }) = spread else { return "-".to_owned() };
    format!("{median:.digits$} ({min:.digits$} .. {max:.digits$})")
}

/// Formats a count with separators of thousands.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a value with three significant digits, or with all digits before the decimal point.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "far below 2^52 and not negative")]
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ if value < 0.0 => format!("{value:.0}"),
        _ => count(value.round() as u64),
    }
}

/// Like [`short`], for round values: without trailing zeros.
pub(crate) fn round(value: f64) -> String {
    let text = short(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Formats a number of bytes: kilobytes, megabytes and gigabytes are powers of ten.
#[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
pub(crate) fn bytes(count: u64) -> String {
    let (divisor, unit) = match count {
        0..1_000 => (1.0, "B"),
        1_000..1_000_000 => (1e3, "KB"),
        1_000_000..1_000_000_000 => (1e6, "MB"),
        _ => (1e9, "GB"),
    };
    let value = count as f64 / divisor;
    let digits = if divisor < 2.0 || value >= 100.0 { 0 } else { 1 + usize::from(value < 10.0) };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let shown = [0, 999, 1_000, 12_345, 1_234_567].map(count);
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn three_digits_matter() {
        let shown = [0.0, 0.206, 3.386, 20.0, 64.49, 944.4, 96_319.0].map(short);
        assert_eq!(shown, ["0", "0.206", "3.39", "20.0", "64.5", "944", "96,319"]);
        assert_eq!([0.5, 20.0, 1.0, 100.0].map(round), ["0.5", "20", "1", "100"]);
    }

    #[test]
    fn bytes_have_the_unit_that_fits() {
        let shown = [0, 600, 6_654, 58_494, 6_500_400, 943_600_000, 2_500_000_000].map(bytes);
        assert_eq!(shown, ["0 B", "600 B", "6.65 KB", "58.5 KB", "6.50 MB", "944 MB", "2.50 GB"]);
    }
}
