//! `--stats`: counts events by type, with a line per second and a summary at the end.
//!
//! On a terminal each line overwrites the previous one. The number of types is bounded, because a server may send any
//! types.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Instant;

use crate::cli::text::{cut, number_of, printable};
use crate::clock::ClockReading;
use crate::json;

/// Maximum number of types that are counted separately.
const MOST_TYPES: usize = 1000;
/// The name under which all further types are counted.
const OTHERS: &str = "(others)";
/// Under which events are counted whose Type is empty.
const UNNAMED: &str = "(none)";
/// Width of a line in a pipe, in columns.
const COLUMNS: usize = 160;

/// The view of `--stats`: counts by type since the start and since the last line.
#[derive(Debug)]
pub(super) struct Stats {
    /// Width of the terminal in columns, if the output is one.
    edge: Option<usize>,
    begun: Instant,
    last: Instant,
    types: HashMap<String, Count>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    all: u64,
    /// The counts since the last line.
    new: u64,
}

impl Stats {
    pub(super) fn new(edge: Option<usize>, now: Instant) -> Self {
        Self { edge, begun: now, last: now, types: HashMap::new() }
    }

    /// Counts an event.
    pub(super) fn event(&mut self, event: &str) {
        let kind = json::members(event).find(|member| member.name() == "Type");
        let kind = kind.map_or_else(String::new, |kind| printable(&json::unquote(kind.value)).into_owned());
        let kind = if kind.is_empty() { UNNAMED.to_owned() } else { kind };
        let known = self.types.len() < MOST_TYPES || self.types.contains_key(&kind);
        let count = self.types.entry(if known { kind } else { OTHERS.to_owned() }).or_default();
        count.all += 1;
        count.new += 1;
    }

    /// Appends the line for the time since the last one.
    pub(super) fn tick(&mut self, now: ClockReading, out: &mut Vec<u8>) {
        let seconds = now.instant.saturating_duration_since(self.last).as_secs_f64();
        self.last = now.instant;
        let all: u64 = self.types.values().map(|count| count.all).sum();
        let new: u64 = self.types.values().map(|count| count.new).sum();
        let time = now.wall.strftime("%H:%M:%S");
        let mut line = format!("{time}  {} ev/s, {all} in total", rate(new, seconds));
        for (kind, count) in self.sorted(|count| count.new).into_iter().filter(|(_, count)| count.new > 0) {
            write!(line, "  {kind} {}", rate(count.new, seconds)).expect("a string takes everything");
        }
        self.types.values_mut().for_each(|count| count.new = 0);
        let line = cut(&line, self.edge.map_or(COLUMNS, |edge| edge.saturating_sub(1)));
        // The cursor returns to the start of the line, so that a message overwrites the line instead of following it.
        let line = if self.edge.is_some() { format!("\u{1b}[K{line}\r") } else { format!("{line}\n") };
        out.extend_from_slice(line.as_bytes());
    }

    /// Appends the summary.
    pub(super) fn end(&mut self, now: ClockReading, out: &mut Vec<u8>) {
        let seconds = now.instant.saturating_duration_since(self.begun).as_secs_f64();
        let all: u64 = self.types.values().map(|count| count.all).sum();
        let mut text = String::from(if self.edge.is_some() { "\u{1b}[K" } else { "" });
        let events = number_of(all, "event");
        writeln!(text, "{events} in {seconds:.1} s, {} per second", rate(all, seconds)).expect("as above");
        for (kind, count) in self.sorted(|count| count.all) {
            writeln!(text, "{:>10}  {:>9}/s  {kind}", count.all, rate(count.all, seconds)).expect("as above");
        }
        out.extend_from_slice(text.as_bytes());
    }

    /// Returns the types, most events first.
    fn sorted(&self, by: impl Fn(&Count) -> u64) -> Vec<(&str, Count)> {
        let mut all: Vec<(&str, Count)> = self.types.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
        all.sort_by(|(a, x), (b, y)| by(y).cmp(&by(x)).then_with(|| a.cmp(b)));
        all
    }
}

/// Formats events per second, with one decimal below ten.
#[expect(clippy::cast_precision_loss, reason = "a rate is rounded anyway")]
fn rate(events: u64, seconds: f64) -> String {
    let rate = events as f64 / seconds.max(1e-3);
    if events > 0 && rate < 9.95 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::simulated::at;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rates_are_those_of_the_last_second_and_the_summary_of_all() {
        let mut stats = Stats::new(None, at(0).instant);
        (0..20).for_each(|_| stats.event(r#"{"Type":"machines"}"#));
        stats.event(r#"{"Type":"jobs"}"#);
        assert_eq!(text(|out| stats.tick(at(1), out)), "22:13:21  21 ev/s, 21 in total  machines 20  jobs 1.0\n");
        stats.event("{}");
        assert_eq!(text(|out| stats.tick(at(3), out)), "22:13:23  0.5 ev/s, 22 in total  (none) 0.5\n");
        let expected = "22 events in 10.0 s, \
         2.2 per second\n        20        2.0/s  machines\n         1        0.1/s  (none)\n         1        0.1/s  \
            jobs\n";
        assert_eq!(text(|out| stats.end(at(10), out)), expected);
    }

    #[test]
    fn on_a_terminal_each_line_takes_the_place_of_the_last_and_fits() {
        let mut stats = Stats::new(Some(20), at(0).instant);
        stats.event(r#"{"Type":"a-type-with-a-long-name"}"#);
        let line = text(|out| stats.tick(at(1), out));
        let inner = line.strip_prefix("\u{1b}[K").and_then(|line| line.strip_suffix('\r')).unwrap();
        assert!(inner.chars().count() < 20 && inner.ends_with('…'), "{inner}");
    }

    #[test]
    fn types_are_bounded() {
        let mut stats = Stats::new(None, at(0).instant);
        (0..3000).for_each(|n| stats.event(&format!(r#"{{"Type":"t{n}"}}"#)));
        stats.event(r#"{"Type":"t1"}"#);
        assert_eq!((stats.types.len(), stats.types[OTHERS].all, stats.types["t1"].all), (MOST_TYPES + 1, 2000, 2));
    }
}
