//! The results, and whether they keep the promise.

use anyhow::Result;
use clap::ValueEnum as _;
use serde::Serialize;
use serde_json::Value;

use super::starts::Outcomes;
use crate::args::Attack;
use crate::check::Counts;
use crate::latency::Quantiles;
use crate::report::{
    self, Bar, Chart, Figure, Machine, Outcome, Page, Section, Spread, Table, Verdict as PageVerdict, settings_line,
};

/// The promised limits on how much an attack may delay a healthy client's event.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Promise {
    /// Maximum increase of the 99th percentile by the attack, in microseconds.
    pub p99_us: u64,
    /// Maximum increase of the longest latency by the attack, in microseconds.
    pub max_us: u64,
}

impl Default for Promise {
    fn default() -> Self {
        Self { p99_us: 10_000, max_us: 50_000 }
    }
}

/// The healthy clients during one half.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Latency from the time an event was due to each of its deliveries.
    pub latency: Quantiles,
    /// Deliveries, and what was wrong with them.
    pub counts: Counts,
    /// Growth of the server's memory in bytes; `None` if its process is not known.
    pub growth: Option<u64>,
    /// The reason why the first lost connection was lost.
    pub first_error: Option<String>,
}

/// Whether the promise was kept under an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// The promise was kept.
    Kept,
    /// Nothing was lost, but a client waited for longer than promised.
    Slow,
    /// A healthy client lost something, or could not publish.
    Lost,
    /// The server's process ended.
    Ended,
    /// The attack was not tried.
    LeftOut,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Slow => "SLOW",
            Self::Lost => "LOST",
            Self::Ended => "PROCESS ENDED",
            Self::LeftOut => "left out",
        }
    }
}

/// The result of one attack.
#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    attack: Attack,
    without: Option<Measured>,
    with: Option<Measured>,
    /// What the attackers observed, by kind.
    outcomes: Outcomes,
    /// The attackers that were not ready when measuring began, by reason.
    unready: Outcomes,
    /// The error that prevented measuring the healthy clients.
    error: Option<String>,
    /// The reason why the attack was not tried.
    left_out: Option<String>,
    ended: bool,
}

impl Trial {
    /// Creates the result of an attack that was tried.
    pub(super) fn of(
        attack: Attack,
        without: Measured,
        with: Result<Measured>,
        outcomes: Outcomes,
        ended: bool,
    ) -> Self {
        let (with, error) = match with {
            Ok(with) => (Some(with), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Self { without: Some(without), with, outcomes, error, ended, ..Self::empty(attack) }
    }

    /// Adds the attackers that were not ready when measuring began.
    pub(super) fn with_unready(self, unready: Outcomes) -> Self {
        Self { unready, ..self }
    }

    /// Creates the result of an attack before which the healthy clients could not be measured.
    pub(super) fn failed(attack: Attack, error: &anyhow::Error) -> Self {
        Self { error: Some(format!("{error:#}")), ..Self::empty(attack) }
    }

    /// Creates the result of an attack that was not tried.
    pub(super) fn left_out(attack: Attack, why: &str) -> Self {
        Self { left_out: Some(why.to_owned()), ..Self::empty(attack) }
    }

    fn empty(attack: Attack) -> Self {
        let (outcomes, unready) = (Outcomes::new(), Outcomes::new());
        Self { attack, without: None, with: None, outcomes, unready, error: None, left_out: None, ended: false }
    }

    /// Returns how much longer events took, at p99 and at most, in microseconds.
    fn delay(&self) -> Option<[u64; 2]> {
        let latency = |half: &Option<Measured>| half.as_ref().map(|half| half.latency).filter(|found| found.count > 0);
        let (without, with) = (latency(&self.without)?, latency(&self.with)?);
        Some([with.p99.saturating_sub(without.p99), with.max.saturating_sub(without.max)])
    }

    fn verdict(&self, promise: Promise) -> Verdict {
        let is_clean = |half: &Option<Measured>| half.as_ref().is_some_and(|half| half.counts.is_clean());
        match self.delay() {
            _ if self.ended => Verdict::Ended,
            _ if self.left_out.is_some() => Verdict::LeftOut,
            Some([p99, max]) if is_clean(&self.without) && is_clean(&self.with) => {
                if p99 <= promise.p99_us && max <= promise.max_us { Verdict::Kept } else { Verdict::Slow }
            }
            _ => Verdict::Lost,
        }
    }

    fn row(&self, promise: Promise) -> Vec<String> {
        let dash = || "-".to_owned();
        let latency = |half: &Option<Measured>| {
            half.as_ref().filter(|half| half.latency.count > 0).map_or_else(dash, |half| {
                let Quantiles { p50, p99, max, .. } = half.latency;
                [p50, p99, max].map(millis).join(" / ")
            })
        };
        let delay = self.delay().map_or_else(|| [dash(), dash()], |delay| delay.map(millis));
        let growth = self.with.as_ref().and_then(|with| with.growth);
        let faults = self.with.as_ref().map(|with| with.counts.faults());
        let [p99, max] = delay;
        vec![
            self.attack.name(),
            latency(&self.without),
            latency(&self.with),
            p99,
            max,
            growth.map_or_else(dash, report::bytes),
            faults.map_or_else(dash, report::count),
            self.verdict(promise).word().to_owned(),
        ]
    }

    /// Returns what the attack was, and what its attackers observed.
    fn outcome_row(&self) -> Vec<String> {
        let help = self.attack.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        vec![self.attack.name(), help.unwrap_or_default(), list(&self.outcomes)]
    }

    fn figures(&self) -> Vec<Figure> {
        let name = self.attack.name();
        let figure =
            |what: &str, unit: &str, value: u64| Figure::once(format!("hostile, {name}: {what}"), unit, float(value));
        let Some(with) = &self.with else { return Vec::new() };
        let latency = with.latency;
        let times = [("p50", latency.p50), ("p99", latency.p99), ("max", latency.max)];
        let times = times.map(|(what, value)| figure(what, "us", value));
        times.into_iter().chain(with.growth.map(|bytes| figure("memory growth", "B", bytes))).collect()
    }
}

fn list(outcomes: &Outcomes) -> String {
    let all: Vec<String> = outcomes.iter().map(|(what, times)| format!("{} {what}", report::count(*times))).collect();
    all.join(", ")
}

/// Formats microseconds as milliseconds.
fn millis(micros: u64) -> String {
    format!("{:.1}", float(micros) / 1e3)
}

#[allow(clippy::cast_precision_loss, reason = "microseconds and bytes far below 2^52")]
fn float(value: u64) -> f64 {
    value as f64
}

/// The results of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub(super) machine: Machine,
    pub(super) server: Value,
    pub(super) settings: Value,
    pub(super) promise: Promise,
    /// Whether a slow delivery is a fault.
    pub(super) enforce: bool,
    pub(super) trials: Vec<Trial>,
}

impl Report {
    fn verdicts(&self) -> impl Iterator<Item = Verdict> {
        self.trials.iter().map(|trial| trial.verdict(self.promise))
    }

    fn count(&self, wanted: Verdict) -> usize {
        self.verdicts().filter(|verdict| *verdict == wanted).count()
    }

    fn section(&self) -> Section {
        let mut section = Section::new("Attacks");
        let Promise { p99_us, max_us } = self.promise;
        section.note(format!(
            "Milliseconds from when an event was due to its delivery to a healthy client: p50 / p99 / longest, without \
             and with the attack. The promise: the attack adds at most {} ms at p99 and {} ms to the longest, nothing \
             is lost, and the process keeps running.",
            p99_us / 1_000,
            max_us / 1_000
        ));
        let mut table =
            Table::new("attack|without, ms|with, ms|added at p99, ms|added at most, ms|memory growth|faults|promise");
        for trial in &self.trials {
            table.row(trial.row(self.promise));
        }
        section.table = Some(table);
        section.charts.push(self.chart());
        for trial in &self.trials {
            if !trial.unready.is_empty() {
                section.note(format!(
                    "{}: not all attackers were ready: {}",
                    trial.attack.name(),
                    list(&trial.unready)
                ));
            }
            self.faults(trial, &mut section);
        }
        section
    }

    fn outcomes(&self) -> Section {
        let mut section = Section::new("What the attackers received");
        let mut table = Table::new("attack|what it is|received or done");
        self.trials.iter().for_each(|trial| table.row(trial.outcome_row()));
        section.table = Some(table);
        section
    }

    fn chart(&self) -> Chart {
        let bar = |trial: &Trial| {
            let with = trial.with.as_ref().filter(|with| with.latency.count > 0)?;
            let value = float(with.latency.p99) / 1e3;
            Some(Bar::new(&trial.attack.name(), Spread { median: value, min: value, max: value }))
        };
        let bars = self.trials.iter().filter_map(bar).collect();
        Chart::bars("Latency of a healthy client at p99 during each attack", "ms", vec![(String::new(), bars)])
    }

    fn faults(&self, trial: &Trial, section: &mut Section) {
        let name = trial.attack.name();
        match trial.verdict(self.promise) {
            Verdict::Kept => {}
            Verdict::LeftOut => {
                section.note(format!("{name} was left out: {}", trial.left_out.as_deref().unwrap_or("?")));
            }
            Verdict::Slow => section.fault(format!("{name}: deliveries took longer than promised")),
            Verdict::Lost | Verdict::Ended => {
                let halves = [("without", &trial.without), ("with", &trial.with)];
                for (half, measured) in halves.into_iter().filter_map(|(half, found)| Some((half, found.as_ref()?))) {
                    let why =
                        measured.first_error.as_deref().map_or_else(String::new, |why| format!("; the first: {why}"));
                    if !measured.counts.is_clean() {
                        section.fault(format!("{name}, {half} the attack: {}{why}", measured.counts));
                    }
                }
                if let Some(error) = &trial.error {
                    section.fault(format!("{name}: {error}"));
                }
                if trial.ended {
                    section.fault(format!("{name}: the server's process has ended"));
                }
            }
        }
    }
}

impl Outcome for Report {
    fn is_clean(&self) -> bool {
        self.verdicts().all(|verdict| match verdict {
            Verdict::Kept | Verdict::LeftOut => true,
            Verdict::Slow => !self.enforce,
            Verdict::Lost | Verdict::Ended => false,
        })
    }

    fn page(&self) -> Page {
        let mut page = Page::new("hydrant-loadtest hostile", &self.machine);
        page.fact("server", self.server["version"].as_str().unwrap_or("unknown version"));
        page.fact("settings", settings_line(&self.settings));
        page.sections.extend([self.section(), self.outcomes()]);
        let tried = self.trials.len() - self.count(Verdict::LeftOut);
        let text = format!("The promise was kept under {} of {tried} attacks", self.count(Verdict::Kept));
        page.verdict = Some(PageVerdict { good: self.count(Verdict::Kept) == tried, text });
        page
    }

    fn figures(&self) -> Vec<Figure> {
        self.trials.iter().flat_map(Trial::figures).collect()
    }

    fn json(&self) -> Result<Value> {
        let mut value = serde_json::to_value(self)?;
        let trials = value["trials"].as_array_mut().into_iter().flatten();
        for (shown, verdict) in trials.zip(self.verdicts()) {
            shown["verdict"] = serde_json::to_value(verdict)?;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(p99: u64, max: u64, lost: u64) -> Measured {
        let latency = Quantiles { count: 1, p50: 1, p99, p999: p99, max };
        Measured { latency, counts: Counts { lost, ..Counts::default() }, growth: Some(5), first_error: None }
    }

    fn verdict(without: Measured, with: Result<Measured>, ended: bool) -> Verdict {
        Trial::of(Attack::Regex, without, with, Outcomes::new(), ended).verdict(Promise::default())
    }

    #[test]
    fn the_promise_is_about_what_an_attack_adds() {
        let quiet = || half(2_000, 9_000, 0);
        assert_eq!(verdict(quiet(), Ok(half(12_000, 59_000, 0)), false), Verdict::Kept);
        assert_eq!(verdict(quiet(), Ok(half(12_001, 9_000, 0)), false), Verdict::Slow);
        assert_eq!(verdict(quiet(), Ok(half(2_000, 59_001, 0)), false), Verdict::Slow);
        assert_eq!(verdict(quiet(), Ok(half(1_000, 1_000, 0)), false), Verdict::Kept);
        assert_eq!(verdict(quiet(), Ok(half(2_000, 9_000, 1)), false), Verdict::Lost);
        assert_eq!(verdict(quiet(), Err(anyhow::anyhow!("no answer")), false), Verdict::Lost);
        assert_eq!(verdict(quiet(), Ok(quiet()), true), Verdict::Ended);
        assert_eq!(Trial::left_out(Attack::Slots, "it needs --files").verdict(Promise::default()), Verdict::LeftOut);
    }

    #[test]
    fn to_be_slow_is_a_fault_only_if_asked_for() {
        let slow = Trial::of(Attack::Regex, half(1, 1, 0), Ok(half(90_000, 90_000, 0)), Outcomes::new(), false);
        let report = |enforce, trials| Report {
            machine: Machine::here(),
            server: Value::Null,
            settings: Value::Null,
            promise: Promise::default(),
            enforce,
            trials,
        };
        assert!(report(false, vec![slow.clone()]).is_clean());
        let strict = report(true, vec![slow]);
        assert!(!strict.is_clean());
        assert!(strict.page().verdict.is_some_and(|verdict| verdict.text.contains("0 of 1")));
        assert_eq!(strict.json().unwrap()["trials"][0]["verdict"], "slow");
    }
}
