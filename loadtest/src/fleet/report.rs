//! The results of `fleet`.

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use super::pace::Sample;
use crate::report::{
    Chart, Figure, Line, Machine, Outcome, Page, Section, Spread, Table, Ticks, bytes, count, settings_line, spread,
};

/// The results at one rate, over all rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Rate {
    /// Events per second.
    pub rate: u32,
    /// Percentage of the highest rate, if that was measured.
    pub percent: Option<u32>,
    /// The server, by round.
    pub server: Vec<Sample>,
    /// The floor, by round; empty if it was not measured.
    pub floor: Vec<Sample>,
}

/// The results of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub(super) machine: Machine,
    pub(super) server: Value,
    pub(super) settings: Value,
    /// Number of clients.
    pub clients: usize,
    /// The highest rate, if it was measured.
    pub capacity: Option<Sample>,
    /// Results by rate.
    pub rates: Vec<Rate>,
}

type Pick = fn(&Sample) -> u64;

/// The displayed quantiles.
const QUANTILES: [(&str, Pick); 3] =
    [("p50", |s| s.latency.p50), ("p99", |s| s.latency.p99), ("p99.9", |s| s.latency.p999)];

/// Marks of the chart, by number of nines: 50 % is 0.3.
const NINES: [(f64, &str); 6] = [
    (std::f64::consts::LOG10_2, "50 %"),
    (1.0, "90 %"),
    (2.0, "99 %"),
    (3.0, "99.9 %"),
    (4.0, "99.99 %"),
    (5.0, "99.999 %"),
];

#[allow(clippy::cast_precision_loss, reason = "microseconds far below 2^52")]
fn median(samples: &[Sample], pick: Pick) -> Option<Spread> {
    spread(samples.iter().map(|sample| pick(sample) as f64))
}

impl Rate {
    pub(super) fn new(rate: u32, percent: Option<u32>) -> Self {
        Self { rate, percent, server: Vec::new(), floor: Vec::new() }
    }

    fn name(&self) -> String {
        let percent = self.percent.map_or_else(String::new, |percent| format!(" ({percent} %)"));
        format!("{}/s{percent}", count(u64::from(self.rate)))
    }

    /// Returns p99 of the server divided by that of the floor, round by round.
    #[allow(clippy::cast_precision_loss, reason = "microseconds far below 2^52")]
    fn p99_ratio(&self) -> Option<Spread> {
        let pairs = self.server.iter().zip(&self.floor);
        spread(pairs.map(|(server, floor)| server.latency.p99 as f64 / floor.latency.p99.max(1) as f64))
    }
}

fn row(name: &str, who: &str, samples: &[Sample], ratio: Option<Spread>) -> Vec<String> {
    let dash = || "-".to_owned();
    let figure = |spread: Option<Spread>, digits: usize| {
        spread.map_or_else(dash, |spread| format!("{:.digits$}", spread.median))
    };
    let whole = |spread: Option<Spread>| spread.map_or_else(dash, |spread| count(rounded(spread.median)));
    let of = |pick: fn(&Sample) -> Option<f64>| spread(samples.iter().filter_map(pick));
    let mut cells = vec![name.to_owned(), who.to_owned()];
    cells.extend(QUANTILES.map(|(_, pick)| whole(median(samples, pick))));
    cells.push(figure(ratio, 2));
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let rate = of(|sample| Some(sample.counts.received as f64 / sample.seconds));
    cells.push(whole(rate));
    cells.push(figure(of(|sample| Some(sample.frames_by_read)), 1));
    cells.push(figure(of(|sample| sample.micros_per_delivery), 2));
    let share = of(|sample| Some(sample.core_share? * 100.0));
    cells.push(share.map_or_else(dash, |share| format!("{:.0} %", share.median)));
    let resident = samples.iter().filter_map(|sample| sample.resident).max();
    cells.push(resident.map_or_else(dash, bytes));
    cells.push(count(samples.iter().map(|sample| sample.counts.faults()).sum()));
    cells
}

#[allow(clippy::cast_precision_loss, reason = "microseconds far below 2^52")]
fn stage_row(name: &str, who: &str, samples: &[Sample]) -> Vec<String> {
    let whole = |pick: fn(&Sample) -> Option<u64>| {
        let found = spread(samples.iter().filter_map(|sample| pick(sample).map(|micros| micros as f64)));
        found.map_or_else(|| "-".to_owned(), |found| count(rounded(found.median)))
    };
    let share = spread(samples.iter().map(|sample| sample.generator_share * 100.0));
    vec![
        name.to_owned(),
        who.to_owned(),
        whole(|sample| Some(sample.until_sent.p99)),
        whole(|sample| Some(sample.until_accepted).filter(|found| found.count > 0).map(|found| found.p99)),
        whole(|sample| sample.inside_p99),
        share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share.median)),
    ]
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a figure far below 2^52")]
fn rounded(figure: f64) -> u64 {
    figure.max(0.0).round() as u64
}

impl Report {
    fn section(&self) -> Section {
        let mut section = Section::new("Open loop");
        let rounds = self.rates.first().map_or(0, |rate| rate.server.len());
        section.note(format!(
            "{} clients; latency in µs from when an event was due to each of its deliveries, {}",
            self.clients,
            if rounds == 1 { "one round".to_owned() } else { format!("median of {rounds} rounds") }
        ));
        let heads = "rate|who|p50|p99|p99.9|p99 by floor|deliveries/s|frames by read|CPU µs|core|memory|faults";
        let mut table = Table::new(heads);
        if let Some(capacity) = &self.capacity {
            #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
            let rate = capacity.events as f64 / capacity.seconds;
            section.note(format!(
                "Greatest rate with two batches in progress: {} events/s. Where the server used less than 100 % of a \
                 core, the readers were the limit",
                count(rounded(rate))
            ));
            table.row(row("greatest rate", "server", std::slice::from_ref(capacity), None));
        }
        for rate in &self.rates {
            table.row(row(&rate.name(), "server", &rate.server, rate.p99_ratio()));
            if !rate.floor.is_empty() {
                table.row(row(&rate.name(), "floor", &rate.floor, None));
            }
        }
        section.table = Some(table);
        section.charts.push(self.chart());
        for sample in self.all() {
            if !sample.counts.is_clean() {
                section.fault(format!("at {}/s: {}", sample.rate, sample.counts));
            }
            if let Some(first_error) = &sample.first_error {
                section.fault(format!("first connection lost: {first_error}"));
            }
            if sample.busy > 0 {
                section.note(format!("at {}/s the server answered 429 {} times", sample.rate, sample.busy));
            }
        }
        section
    }

    /// Returns where an event spends its time, and whether the generator was the limit.
    fn stages(&self) -> Section {
        let mut section = Section::new("Where the time goes");
        section.note(
            "p99 in µs, median of the rounds: from due until sent (the generator is busy, or the POST before is not \
             answered yet), from sent until accepted, and inside the server from intake until the kernel, as the bound \
             of a bucket. The rest is the reader's. Near 100 % of a core the generator is the limit",
        );
        let mut table = Table::new("rate|who|until sent|until accepted|inside the server|generator's core");
        for rate in &self.rates {
            for (who, samples) in [("server", &rate.server), ("floor", &rate.floor)] {
                if !samples.is_empty() {
                    table.row(stage_row(&rate.name(), who, samples));
                }
            }
        }
        section.table = Some(table);
        section
    }

    fn all(&self) -> impl Iterator<Item = &Sample> {
        let rates = self.rates.iter().flat_map(|rate| rate.server.iter().chain(&rate.floor));
        self.capacity.iter().chain(rates)
    }

    /// Returns the chart of latency by nines, for the last round.
    #[allow(clippy::cast_precision_loss, reason = "microseconds far below 2^52")]
    fn chart(&self) -> Chart {
        let line = |name: String, samples: &[Sample], colour, dashed| {
            let nines = &samples.last()?.nines;
            let points = nines.iter().map(|&(nines, micros)| (nines, micros.max(1) as f64)).collect();
            Some(Line { name, points, colour, dashed })
        };
        let lines = self.rates.iter().enumerate().flat_map(|(at, rate)| {
            let floor = line(format!("floor, {}/s", count(u64::from(rate.rate))), &rate.floor, at + 1, true);
            [line(rate.name(), &rate.server, at + 1, false), floor].into_iter().flatten()
        });
        Chart::Lines {
            title: "Latency of the last round".to_owned(),
            x: Ticks::Named("share of all deliveries that arrived within the latency".to_owned(), NINES.to_vec()),
            y: Ticks::Logarithmic("µs".to_owned()),
            lines: lines.collect(),
        }
    }
}

impl Outcome for Report {
    fn is_clean(&self) -> bool {
        self.all().all(|sample| sample.counts.is_clean())
    }

    fn page(&self) -> Page {
        let mut page = Page::new("hydrant-loadtest fleet", &self.machine);
        page.fact("server", self.server["version"].as_str().unwrap_or("unknown version"));
        page.fact("settings", settings_line(&self.settings));
        page.sections.extend([self.section(), self.stages()]);
        page
    }

    fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for rate in &self.rates {
            // A percentage is the same work in every run; its rate is not.
            let name = rate.percent.map_or_else(|| format!("{}/s", rate.rate), |percent| format!("{percent} %"));
            for (quantile, pick) in QUANTILES {
                let found = median(&rate.server, pick);
                figures.extend(found.map(|found| Figure::of(format!("fleet at {name}: {quantile}"), "us", found)));
            }
            let ratio = rate.p99_ratio();
            figures.extend(ratio.map(|ratio| Figure::of(format!("fleet at {name}: p99 by floor"), "x", ratio)));
        }
        figures
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::to_value(self)?)
    }
}
