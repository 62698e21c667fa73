//! The overview: throughput, queues, losses, and the broker's surroundings.

use std::collections::BTreeMap;

use ratatui_core::style::Style;
use ratatui_core::text::{Line, Span};

use super::columns::{Column, Room, lay_out};
use super::style::Theme;
use crate::cli::text::printable;
use crate::cli::top::figures::{Shard, Status};
use crate::cli::top::format::{ago, bars, bytes, count, rate, took};
use crate::cli::top::state::State;
use crate::cli::top::trend::Rates;

/// Width of a label in columns.
const LABEL: usize = 12;
/// Width in columns of a rate with its unit and the space around it.
const RATE: usize = 13;
/// Minimum and maximum width of the charts in columns.
const CHART: [usize; 2] = [24, 60];

/// Returns the lines in two groups that may stand side by side: throughput and losses, and surroundings with the
/// shards.
pub(super) fn lines(
    state: &State,
    status: &Status,
    room: usize,
    theme: Theme,
) -> (Vec<Line<'static>>, Vec<Line<'static>>) {
    let rates = state.trend.rates();
    let mut left = flow(state, status, rates.as_ref(), room, theme);
    left.push(Line::default());
    left.extend(losses(status, theme));
    let mut right = around(status, theme);
    right.push(Line::default());
    right.extend(shards(status, rates.as_ref(), room, theme));
    (left, right)
}

fn labelled(label: &str, text: String, theme: Theme) -> Line<'static> {
    Line::from(vec![Span::styled(format!("{label:LABEL$}"), theme.head()), Span::raw(text)])
}

fn flow(state: &State, status: &Status, rates: Option<&Rates>, room: usize, theme: Theme) -> Vec<Line<'static>> {
    let chart = room.saturating_sub(LABEL + RATE + 2).clamp(CHART[0], CHART[1]);
    let of = |pick: fn(&Rates) -> f64| rates.map_or("-".to_owned(), |rates| rate(pick(rates)));
    let all: u64 = status.received.values().sum();
    let unit = |amount: String, unit: &str| format!("{amount:>8} {unit}");
    let received = of(|rates| rates.received_per_second);
    let delivered = of(|rates| rates.delivered_per_second);
    let sent = rates.map_or("-".to_owned(), |rates| bytes(whole(rates.delivered_bytes_per_second)));
    let work = rates.map_or("-".to_owned(), |rates| took(rates.filter_work_per_second / 1e3));
    let queue = &status.queue;
    let positive = |n: i64| u64::try_from(n).unwrap_or_default();
    vec![
        labelled("events in", format!("{}  {}", unit(received, "/s"), bars(&state.trend.received(), chart)), theme),
        labelled("", format!("{} in total: {}", count(all), by_label(&status.received)), theme),
        labelled("deliveries", format!("{}  {}", unit(delivered, "/s"), bars(&state.trend.delivered(), chart)), theme),
        labelled("", format!("{} in total, {sent}/s", count(status.delivered)), theme),
        labelled("latency", latency(rates), theme),
        labelled(
            "queued",
            format!(
                "{} events, {}; deepest {}, oldest {} ms; inbox {}",
                count(positive(queue.events)),
                bytes(positive(queue.bytes)),
                bytes(queue.deepest_bytes),
                count(queue.oldest_milliseconds),
                count(queue.inbox_events)
            ),
            theme,
        ),
        labelled("filters", format!("{work} of work per second"), theme),
        labelled(
            "clients",
            format!(
                "{} connections, {} registrations",
                count(positive(status.connections)),
                count(positive(status.registrations))
            ),
            theme,
        ),
    ]
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded, and never negative")]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

fn latency(rates: Option<&Rates>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let shown = |micros: Option<u64>| micros.map_or("-".to_owned(), |micros| took(micros as f64));
    let none = Rates::default();
    let rates = rates.unwrap_or(&none);
    format!(
        "p50 {}  p90 {}  p99 {}  p99.9 {}",
        shown(rates.p50_microseconds),
        shown(rates.p90_microseconds),
        shown(rates.p99_microseconds),
        shown(rates.p999_microseconds)
    )
}

/// Formats the counts that are not zero, highest first.
fn by_label(counts: &BTreeMap<String, u64>) -> String {
    let mut some: Vec<(&String, &u64)> = counts.iter().filter(|(_, n)| **n > 0).collect();
    some.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let text: Vec<String> = some.into_iter().map(|(name, n)| format!("{} {}", printable(name), count(*n))).collect();
    if text.is_empty() { "none".to_owned() } else { text.join(", ") }
}

fn losses(status: &Status, theme: Theme) -> Vec<Line<'static>> {
    let all = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    let refused =
        if status.refused > 0 { format!("{} events (inboxes full); ", count(status.refused)) } else { String::new() };
    let rejected = format!("{refused}connections: {}", by_label(&status.rejected));
    let rows = [
        ("dropped", by_label(&status.dropped), all(&status.dropped) > 0),
        ("slow", by_label(&status.slow_consumers), all(&status.slow_consumers) > 0),
        ("conflated", count(status.conflated), false),
        ("closed", by_label(&status.disconnects), false),
        ("refused", rejected, status.refused > 0),
    ];
    let row = |(label, text, is_bad): (&str, String, bool)| {
        let style = if is_bad { theme.attention() } else { Style::new() };
        Line::from(vec![Span::styled(format!("{label:LABEL$}"), theme.head()), Span::styled(text, style)])
    };
    let rows = lost(status).into_iter().chain(rows).map(row);
    std::iter::once(Line::styled("Since the start", Theme::quiet())).chain(rows).collect()
}

/// Returns the row of what was lost on the way from endpoints and between nodes, if there are any.
fn lost(status: &Status) -> Option<(&'static str, String, bool)> {
    if status.upstreams.is_empty() && status.nats.is_none() {
        return None;
    }
    let gaps: u64 = status.upstreams.iter().map(|link| link.gaps).sum();
    let [lost_in, lost_out] = status.nats.as_ref().map_or([0; 2], |nats| [nats.lost_in, nats.lost_out]);
    let endpoints = (gaps > 0).then(|| format!("endpoints: {} gaps", count(gaps)));
    let is_between = lost_in > 0 || lost_out > 0;
    let nodes = is_between.then(|| format!("other nodes: {} events in, {} out", count(lost_in), count(lost_out)));
    let text = endpoints.into_iter().chain(nodes).collect::<Vec<_>>().join("; ");
    Some(if text.is_empty() { ("lost", "none".to_owned(), false) } else { ("lost", text, true) })
}

fn around(status: &Status, theme: Theme) -> Vec<Line<'static>> {
    let since = |time: &str| status.seconds_since(time).map_or(String::new(), |time| format!(" for {}", ago(time)));
    let state = |label: &str, name: &str, good: bool, words: [&str; 2], time: &str, error: &str| {
        let style = if good { theme.good() } else { theme.bad() };
        let text = format!("{}{}", words[usize::from(!good)], since(time));
        let error = if error.is_empty() { String::new() } else { format!(": {}", printable(error)) };
        let name = if name.is_empty() { String::new() } else { format!("{} ", printable(name)) };
        Line::from(vec![
            Span::styled(format!("{label:LABEL$}"), theme.head()),
            Span::raw(name),
            Span::styled(text, style),
            Span::raw(error),
        ])
    };
    let mut lines: Vec<Line<'static>> = Vec::new();
    for link in &status.upstreams {
        let words = ["connected", "not connected"];
        lines.push(state("endpoint", &link.endpoint, link.connected, words, &link.since, &link.error));
    }
    if let Some(nats) = &status.nats {
        let words = ["connected", "not connected"];
        lines.push(state("nats", "", nats.connected, words, &nats.since, nats.error.as_deref().unwrap_or_default()));
        if let Some(stream) = &nats.stream {
            let error = stream.error.as_deref().unwrap_or_default();
            lines.push(state("stream", &stream.name, stream.usable, ["usable", "not usable"], &stream.since, error));
        }
    }
    if let Some(source) = &status.identity {
        let words = ["readable", "not readable"];
        lines.push(state("identity", &source.endpoint, source.readable, words, &source.since, &source.error));
    }
    if lines.is_empty() {
        let is_demo = status.received.get("demo").is_some_and(|events| *events > 0);
        let from = if is_demo { "events come from the simulated fleet" } else { "events arrive by POST" };
        lines.push(labelled("around", format!("no endpoint, no other nodes: {from}"), theme));
    }
    let back = status.history_from.as_ref().and_then(|from| status.seconds_since(from));
    let history = back.map_or("no events retained".to_owned(), |back| format!("{} back", ago(back)));
    lines.push(labelled("history", format!("{history}, at {}", printable(&status.sequence)), theme));
    lines
}

/// A shard with its number, and the fraction of its time that it was busy.
struct Row<'a> {
    number: usize,
    shard: &'a Shard,
    busy: Option<f64>,
}

fn shards(status: &Status, rates: Option<&Rates>, terminal: usize, theme: Theme) -> Vec<Line<'static>> {
    let columns: [Column<Row<'_>, ()>; 4] = [
        Column { head: "Shard", is_number: false, dispensable: 0, least: 0, cell: |row, ()| row.number.to_string() },
        Column { head: "Events", is_number: true, dispensable: 1, least: 9, cell: |row, ()| count(row.shard.events) },
        Column {
            head: "Busy",
            is_number: true,
            dispensable: 0,
            least: 6,
            cell: |row, ()| row.busy.map_or("-".to_owned(), |busy| format!("{:.0} %", busy * 100.0)),
        },
        Column {
            head: "Longest turn",
            is_number: true,
            dispensable: 2,
            least: 12,
            cell: |row, ()| took(row.shard.longest_turn_milliseconds * 1e3),
        },
    ];
    let busy = |at: usize| rates.and_then(|rates| rates.busy.get(at).copied());
    let rows: Vec<Row<'_>> =
        status.shards.iter().enumerate().map(|(number, shard)| Row { number, shard, busy: busy(number) }).collect();
    let room = Room { columns: terminal, first: 8, theme };
    let table = lay_out(&columns, &rows, &(), "", |_| Style::new(), room);
    std::iter::once(table.head).chain(table.rows).collect()
}
