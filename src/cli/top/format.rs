//! Formats numbers for people, short enough for a column. Pure.

/// Formats a count: whole numbers up to a million with separators, larger ones with three digits and a letter.
pub(super) fn count(n: u64) -> String {
    if n >= 1_000_000 {
        return scaled(n, 1000, ["", "k", "M", "G", "T", "P", "E"]).replace(' ', "");
    }
    if n >= 1000 { format!("{},{:03}", n / 1000, n % 1000) } else { n.to_string() }
}

/// Formats a rate, with one decimal below ten.
pub(super) fn rate(n: f64) -> String {
    if n > 0.0 && n < 9.95 {
        return format!("{n:.1}");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded, and never negative")]
    count(n.round() as u64)
}

/// Formats a number of bytes, in powers of 1,024.
pub(super) fn bytes(n: u64) -> String {
    scaled(n, 1024, ["B", "KB", "MB", "GB", "TB", "PB", "EB"])
}

fn scaled(n: u64, step: u32, units: [&str; 7]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let (mut value, mut unit) = (n as f64, 0);
    while value >= 999.5 && unit < units.len() - 1 {
        value /= f64::from(step);
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 99.95);
    format!("{value:.decimals$} {}", units[unit]).trim_end().to_owned()
}

/// Formats a duration.
pub(super) fn took(micros: f64) -> String {
    match micros {
        m if m < 999.5 => format!("{m:.0} µs"),
        m if m < 9_950.0 => format!("{:.1} ms", m / 1e3),
        m if m < 999_500.0 => format!("{:.0} ms", m / 1e3),
        m => format!("{:.1} s", m / 1e6),
    }
}

/// Formats an age.
pub(super) fn ago(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded down, and never negative")]
    let all = seconds.max(0.0) as u64;
    match (all / 86_400, all / 3600 % 24, all / 60 % 60, all % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m {s}s"),
        (0, h, m, _) => format!("{h}h {m}m"),
        (d, h, ..) => format!("{d}d {h}h"),
    }
}

/// Draws values as a row of bars, the newest at the right; the highest value fills the row.
pub(super) fn bars(values: &(impl DoubleEndedIterator<Item = f64> + Clone), columns: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let newest = || values.clone().rev().take(columns);
    let highest = newest().fold(0.0, f64::max);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 7")]
    let bar = |value: f64| BARS[if highest > 0.0 { (value / highest * 7.0).round() as usize } else { 0 }.min(7)];
    let row: Vec<char> = newest().map(bar).collect();
    row.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let counts = [0, 999, 1000, 12_345, 999_999, 1_000_000, 12_345_678, u64::MAX].map(count);
        assert_eq!(counts, ["0", "999", "1,000", "12,345", "999,999", "1.0M", "12.3M", "18.4E"]);
        assert_eq!([0.0, 0.04, 2.34, 9.96, 1204.4].map(rate), ["0", "0.0", "2.3", "10", "1,204"]);
        let shown = [0, 999, 1000, 1024, 1536, 12 << 20, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 B", "999 B", "1.0 KB", "1.0 KB", "1.5 KB", "12.0 MB", "16.0 EB"]);
        let shown = [0.0, 64.0, 1024.0, 1_800.0, 16_384.0, 1e6, 8.4e6].map(took);
        assert_eq!(shown, ["0 µs", "64 µs", "1.0 ms", "1.8 ms", "16 ms", "1.0 s", "8.4 s"]);
        let shown = [-1.0, 0.9, 59.0, 61.0, 3700.0, 90_000.0].map(ago);
        assert_eq!(shown, ["0s", "0s", "59s", "1m 1s", "1h 1m", "1d 1h"]);
    }

    #[test]
    fn bars_show_the_newest_at_the_right() {
        let values = [100.0, 0.0, 1.0, 7.0, 3.5];
        assert_eq!(bars(&values.into_iter(), 4), "▁▂█▅");
        assert_eq!(bars(&values.into_iter(), 9), "█▁▁▁▁");
        assert_eq!(bars(&[0.0, 0.0].into_iter(), 9), "▁▁");
        assert_eq!(bars(&std::iter::empty(), 9), "");
    }
}
