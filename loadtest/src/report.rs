//! Results: medians and spreads, a table for people, JSON for programs.
//!
//! A figure is never printed without its K, and rounds whose floor was more than a tenth away from the median floor
//! (somebody else used the machine) are kept in the JSON but left out of the medians, and counted.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use crate::check::Counts;

/// How far a round's floor may be from the median for the round to count.
const STEADY: f64 = 0.10;

/// What a subcommand has found out.
pub trait Outcome {
    /// Nothing was lost, repeated, reordered or harmed.
    fn is_clean(&self) -> bool;

    /// Writes it for people.
    ///
    /// # Errors
    /// `out` takes no more.
    fn write_table(&self, out: &mut dyn Write) -> Result<()>;

    /// The same and more for programs.
    ///
    /// # Errors
    /// A value has no JSON form.
    fn json(&self) -> Result<Value>;
}

/// Writes an outcome's JSON to a file.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(outcome: &dyn Outcome, path: &Path) -> Result<()> {
    fs::write(path, format!("{:#}\n", outcome.json()?)).with_context(|| format!("cannot write {}", path.display()))
}

/// Median, least and greatest of some figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// Nothing for no figures.
pub fn spread(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let (&min, &max) = (sorted.first()?, sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
    Some(Spread { median, min, max })
}

/// One side of one round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Side {
    /// CPU time by delivery received.
    pub micros_per_delivery: f64,
    /// Turns in this round.
    pub turns: u64,
    /// Deliveries received in this round.
    pub deliveries: u64,
    /// Wall-clock time of the round.
    pub seconds: f64,
    /// Share of one core that was used; near 1 means that the writer, and not the reader, was the limit.
    pub core_share: f64,
}

impl From<crate::floor::Measured> for Side {
    fn from(measured: crate::floor::Measured) -> Self {
        let seconds = measured.elapsed.as_secs_f64();
        Self {
            micros_per_delivery: measured.micros(),
            turns: measured.turns,
            deliveries: measured.deliveries,
            seconds,
            core_share: measured.cpu.as_secs_f64() / seconds.max(1e-9),
        }
    }
}

/// One round: the server and the floor, one directly after the other.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Round {
    /// Nothing when there is no server, or its CPU time cannot be read.
    pub server: Option<Side>,
    /// Nothing when the floor was not asked for.
    pub floor: Option<Side>,
}

/// One kind of work over all rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Case {
    /// Bytes of an event as delivered, without the frame's header.
    pub payload: usize,
    /// Events by turn.
    pub k: u64,
    /// Connections.
    pub connections: usize,
    /// Whether every event has one receiver only.
    pub selective: bool,
    /// The rounds, all of them.
    pub rounds: Vec<Round>,
    /// What was received, over all rounds and the warm-up.
    pub counts: Counts,
    /// How often the server answered 429.
    pub busy: u64,
    /// Why the first connection that was lost was lost.
    pub trouble: Option<String>,
}

/// The figures of a case.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Server CPU by delivery, microseconds.
    pub server: Option<Spread>,
    /// The same of the floor.
    pub floor: Option<Spread>,
    /// Server by floor, round by round.
    pub ratio: Option<Spread>,
    /// Rounds that the figures are made of.
    pub steady_rounds: usize,
}

impl Case {
    /// Medians over the steady rounds; over all if fewer than three are steady.
    pub fn summary(&self) -> Summary {
        let micros = |side: Option<Side>| side.map(|side| side.micros_per_delivery);
        let middle = spread(self.rounds.iter().filter_map(|round| micros(round.floor))).map(|spread| spread.median);
        let is_steady = |round: &&Round| match (micros(round.floor), middle) {
            (Some(floor), Some(middle)) => (floor / middle - 1.0).abs() <= STEADY,
            _ => true,
        };
        let steady: Vec<&Round> = self.rounds.iter().filter(is_steady).collect();
        let used: Vec<&Round> = if steady.len() < 3 { self.rounds.iter().collect() } else { steady.clone() };
        let ratio = |round: &&Round| Some(micros(round.server)? / micros(round.floor)?);
        Summary {
            server: spread(used.iter().filter_map(|round| micros(round.server))),
            floor: spread(used.iter().filter_map(|round| micros(round.floor))),
            ratio: spread(used.iter().filter_map(ratio)),
            steady_rounds: steady.len(),
        }
    }
}

/// Everything that was measured, and where.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The subcommand.
    pub work: &'static str,
    /// The command line's arguments that matter, for running it again.
    pub settings: Value,
    /// The machine.
    pub machine: Machine,
    /// What the server says of itself (`GET /api/v3/info`), if there is one.
    pub server: Value,
    /// The results.
    pub cases: Vec<Case>,
}

/// Where it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Name of the processor.
    pub processor: String,
    /// Cores that we may use.
    pub cores: usize,
    /// Congestion control, which changes what a write costs.
    pub congestion_control: String,
    /// Load average before it began: other work on the machine.
    pub load_before: String,
}

impl Machine {
    /// One line for people.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn write_line(&self, out: &mut dyn Write) -> Result<()> {
        writeln!(out, "{}, kernel {}, load before {}", self.processor, self.kernel, self.load_before)?;
        Ok(())
    }

    /// This machine, now. What cannot be read is empty.
    pub fn here() -> Self {
        let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let processor =
            line("/proc/cpuinfo").lines().find_map(|line| line.strip_prefix("model name").map(str::to_owned));
        Self {
            kernel: line("/proc/sys/kernel/osrelease"),
            processor: processor.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned(),
            cores: crate::cpu::allowed(0).map_or(0, |cores| cores.len()),
            congestion_control: line("/proc/sys/net/ipv4/tcp_congestion_control"),
            load_before: line("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }
}

impl Outcome for Report {
    fn is_clean(&self) -> bool {
        self.cases.iter().all(|case| case.counts.is_clean())
    }

    fn write_table(&self, out: &mut dyn Write) -> Result<()> {
        self.machine.write_line(out)?;
        writeln!(out, "CPU in microseconds by delivery received: median (least .. greatest)\n")?;
        writeln!(
            out,
            "{:>8} {:>5} {:>6}  {:<24} {:<24} {:<22} {:>7} {:>6} {:>12} {:>7}",
            "payload", "K", "conns", "server", "floor", "ratio", "rounds", "core", "deliveries", "faults"
        )?;
        for case in &self.cases {
            case.write_row(out)?;
        }
        for case in self.cases.iter().filter(|case| !case.counts.is_clean()) {
            let counts = serde_json::to_string(&case.counts)?;
            writeln!(out, "\nfaults at {} bytes, K = {}: {counts}", case.payload, case.k)?;
            if let Some(trouble) = &case.trouble {
                writeln!(out, "first connection lost: {trouble}")?;
            }
        }
        Ok(())
    }

    fn json(&self) -> Result<Value> {
        let mut value = serde_json::to_value(self)?;
        for (at, case) in self.cases.iter().enumerate() {
            value["cases"][at]["summary"] = serde_json::to_value(case.summary())?;
        }
        Ok(value)
    }
}

impl Case {
    fn write_row(&self, out: &mut dyn Write) -> Result<()> {
        let summary = self.summary();
        let counts = &self.counts;
        let faults = counts.lost + counts.duplicates + counts.reordered + counts.corrupt + counts.closed;
        let share = |round: &Round| Some(round.server.or(round.floor)?.core_share * 100.0);
        let core =
            spread(self.rounds.iter().filter_map(share)).map_or_else(String::new, |s| format!("{:.0}%", s.median));
        writeln!(
            out,
            "{:>8} {:>5} {:>6}  {:<24} {:<24} {:<22} {:>7} {:>6} {:>12} {:>7}",
            self.payload,
            self.k,
            self.connections,
            shown(summary.server, 3),
            shown(summary.floor, 3),
            shown(summary.ratio, 2),
            format!("{}/{}", summary.steady_rounds, self.rounds.len()),
            core,
            counts.received,
            faults
        )?;
        Ok(())
    }
}

fn shown(spread: Option<Spread>, digits: usize) -> String {
    let Some(Spread { median, min, max }) = spread else { return "-".to_owned() };
    format!("{median:.digits$} ({min:.digits$} .. {max:.digits$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(micros: f64) -> Side {
        Side { micros_per_delivery: micros, turns: 1, deliveries: 1, seconds: 1.0, core_share: 1.0 }
    }

    fn case(pairs: &[(f64, f64)]) -> Case {
        let rounds =
            pairs.iter().map(|&(server, floor)| Round { server: Some(side(server)), floor: Some(side(floor)) });
        Case {
            payload: 1_024,
            k: 16,
            connections: 10,
            selective: false,
            rounds: rounds.collect(),
            counts: Counts { received: 5, ..Counts::default() },
            busy: 0,
            trouble: None,
        }
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(spread([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread([4.0, 1.0]).map(|s| s.median), Some(2.5));
        assert_eq!(spread([]), None);
    }

    #[test]
    fn rounds_with_a_moved_floor_are_left_out() {
        let summary = case(&[(2.0, 1.0), (2.1, 1.0), (1.9, 1.0), (9.0, 3.0)]).summary();
        assert_eq!((summary.steady_rounds, summary.ratio.unwrap().median), (3, 2.0));
        assert_eq!(summary.server, spread([2.0, 2.1, 1.9]));
        let few = case(&[(2.0, 1.0), (9.0, 3.0)]).summary();
        assert_eq!((few.steady_rounds, few.ratio.unwrap().max), (0, 3.0));
    }

    #[test]
    fn ratios_are_made_round_by_round() {
        let ratio = case(&[(2.0, 1.0), (2.4, 1.05), (1.9, 0.95)]).summary().ratio.unwrap();
        assert_eq!((ratio.min, ratio.median), (2.0, 2.0));
    }

    #[test]
    fn table_and_json_tell_of_faults() {
        let mut bad = case(&[(2.0, 1.0)]);
        bad.counts.lost = 7;
        let report = Report {
            work: "burst",
            settings: Value::Null,
            machine: Machine::here(),
            server: Value::Null,
            cases: vec![case(&[(2.0, 1.0)]), bad],
        };
        assert!(!report.is_clean());
        let mut table = Vec::new();
        report.write_table(&mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        assert!(table.contains("2.00 (2.00 .. 2.00)") && table.contains("\"lost\":7"), "{table}");
        let file = tempfile::NamedTempFile::new().unwrap();
        write_json(&report, file.path()).unwrap();
        let json: Value = serde_json::from_slice(&fs::read(file.path()).unwrap()).unwrap();
        assert_eq!(json["cases"][1]["summary"]["ratio"]["median"], 2.0);
    }
}
