//! The results of `floor`, `burst` and the closed loops of `compare`.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use super::page::LEFT_OUT;
use super::{
    Bar, Case, Chart, Figure, Machine, Outcome, Page, Pair, Section, Table, count, settings_line, shown, spread,
};

/// All measurements, and where they were made.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The subcommand.
    pub work: &'static str,
    /// The relevant arguments of the command line, to repeat the run.
    pub settings: Value,
    /// The machine.
    pub machine: Machine,
    /// What the servers report about themselves (`GET /api/v3/info`), if there are any.
    pub servers: Vec<Value>,
    /// The results.
    pub cases: Vec<Case>,
}

impl Report {
    /// Returns a section of a page: the table, the chart, the faults.
    pub fn section(&self, title: &str) -> Section {
        let mut section = Section::new(title);
        section.note("CPU time in microseconds per delivery received: median (least .. greatest) of the steady rounds");
        let heads = "payload|K|conns|over|who|CPU µs|floor|by floor|beside|by|rounds|core|wire B|deliveries|faults";
        let mut table = Table::new(heads);
        for case in &self.cases {
            table.row(self.row(case));
        }
        section.table = Some(table);
        section.charts.push(self.chart());
        for case in &self.cases {
            faults(case, &mut section);
        }
        section.distinct_notes();
        section
    }

    fn beside(&self, case: &Case) -> Option<Pair<'_>> {
        let name = case.beside.as_ref()?;
        let is = |other: &&Case| &other.candidate == name && other.work() == case.work();
        let beside = self.cases.iter().find(is)?;
        let case = self.cases.iter().find(|other| std::ptr::eq(*other, case))?;
        Some(Pair { case, beside })
    }

    fn row(&self, case: &Case) -> Vec<String> {
        let summary = case.summary();
        let share = case.rounds.iter().filter_map(|round| Some(round.server.or(round.floor)?.core_share * 100.0));
        let pair = self.beside(case).and_then(|pair| Some((pair.ratio()?, pair.beside.candidate.clone())));
        let dash = || "-".to_owned();
        let (beside, other) = pair.map_or_else(|| (dash(), dash()), |(ratio, name)| (shown(Some(ratio), 2), name));
        let is_left_out = case.left_out.is_some() && case.rounds.is_empty();
        vec![
            case.payload.to_string(),
            format!("{}{}", case.k, if case.single_post { " posts" } else { "" }),
            format!("{}{}", case.connections, if case.selective { " sel." } else { "" }),
            case.transport.clone(),
            case.candidate.clone(),
            if is_left_out { LEFT_OUT.to_owned() } else { shown(summary.server, 3) },
            shown(summary.floor, 3),
            shown(summary.ratio, 2),
            beside,
            other,
            format!("{}/{}", summary.steady_rounds, case.rounds.len()),
            spread(share).map_or_else(dash, |share| format!("{:.0} %", share.median)),
            case.wire_bytes.map_or_else(dash, |bytes| format!("{bytes:.0}")),
            count(case.counts.received),
            count(case.counts.faults()),
        ]
    }

    /// Returns groups of bars by kind of work: the candidates, and the floor.
    fn chart(&self) -> Chart {
        let mut groups: BTreeMap<usize, (String, Vec<Bar>)> = BTreeMap::new();
        let mut order = Vec::new();
        for case in &self.cases {
            let key = (case.work(), case.transport.contains("deflate"));
            let at = order.iter().position(|other| *other == key).unwrap_or_else(|| {
                order.push(key);
                order.len() - 1
            });
            let kind = if case.selective { "selective, " } else { "" };
            let title = format!("{kind}{} B, K = {}", case.payload, case.k);
            let (_, bars) = groups.entry(at).or_insert_with(|| (title, Vec::new()));
            let summary = case.summary();
            if let Some(floor) = summary.floor.filter(|_| bars.is_empty()) {
                bars.push(Bar::new("floor", floor));
            }
            let is_plain = case.transport == "plain" || case.candidate.contains(&case.transport);
            let more = if is_plain { String::new() } else { format!(", {}", case.transport) };
            let is_named = case.candidate.contains(&case.connections.to_string());
            let many = if case.selective && !is_named { format!(", {}", case.connections) } else { String::new() };
            bars.extend(summary.server.map(|server| Bar::new(&format!("{}{more}{many}", case.candidate), server)));
        }
        Chart::bars("Server CPU time per delivery", "µs", groups.into_values().collect())
    }
}

/// Adds what went wrong, and what the server counted.
fn faults(case: &Case, section: &mut Section) {
    if let Some(encodings) = &case.encodings {
        let counts: Vec<String> = encodings.0.iter().map(|(name, count)| format!("{name} {count:.3}")).collect();
        section.note(format!("{}: counted by event by the server itself: {}", case.name(), counts.join(", ")));
    }
    if let Some(cipher) = &case.cipher {
        section.note(format!("{}: {cipher}", case.candidate));
    }
    if !case.counts.is_clean() {
        section.fault(format!("{}: {}", case.name(), case.counts));
        if let Some(first_error) = &case.first_error {
            section.fault(format!("first connection lost: {first_error}"));
        }
    }
    if let Some(why) = &case.left_out {
        section.note(format!("{}: left out from round {} on: {why}", case.name(), case.rounds.len() + 1));
    }
    if case.busy > 0 {
        section.note(format!("{}: answered 429 {} times", case.name(), case.busy));
    }
}

impl Outcome for Report {
    fn is_clean(&self) -> bool {
        self.cases.iter().all(|case| case.counts.is_clean())
    }

    fn page(&self) -> Page {
        let mut page = Page::new(&format!("hydrant-loadtest {}", self.work), &self.machine);
        for server in &self.servers {
            let name = server["candidate"].as_str().unwrap_or_default();
            page.fact(name, server["info"]["version"].as_str().unwrap_or("unknown version"));
        }
        page.fact("settings", settings_line(&self.settings));
        page.sections.push(self.section("Closed loop"));
        page
    }

    fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for case in &self.cases {
            let (name, summary) = (case.name(), case.summary());
            let server = summary.server.map(|server| Figure::of(format!("{name}: CPU by delivery"), "us", server));
            let ratio = summary.ratio.map(|ratio| Figure::of(format!("{name}: by floor"), "x", ratio));
            figures.extend(server.into_iter().chain(ratio));
        }
        figures
    }

    fn json(&self) -> Result<Value> {
        let mut value = serde_json::to_value(self)?;
        for (at, case) in self.cases.iter().enumerate() {
            value["cases"][at]["summary"] = serde_json::to_value(case.summary())?;
            let pair = self.beside(case).and_then(|pair| pair.ratio());
            value["cases"][at]["summary"]["beside"] = serde_json::to_value(pair)?;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::super::case::sample;
    use super::super::publish;
    use super::*;
    use crate::args::Output;

    #[test]
    fn table_json_and_page_tell_of_faults_and_ratios() {
        let (good, bad) = (sample(2.0, 0), Case { k: 64, ..sample(2.0, 7) });
        let tls = Case { candidate: "TLS".to_owned(), beside: Some("server".to_owned()), ..sample(3.0, 0) };
        let (settings, servers) = (Value::Null, Vec::new());
        let cases = vec![good, tls, bad];
        let report = Report { work: "burst", settings, machine: Machine::here(), servers, cases };
        assert!(!report.is_clean());
        let directory = tempfile::tempdir().unwrap();
        let [json, html] = ["a.json", "a.html"].map(|name| directory.path().join(name));
        let output = Output { json: Some(json.clone()), html: Some(html.clone()) };
        let mut table = Vec::new();
        publish(&report, &output, &mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        assert!(table.contains("2.00 (2.00 .. 2.00)") && table.contains("7 lost"), "{table}");
        assert!(table.contains("1.50 (1.50 .. 1.50)  server"), "{table}");
        let json: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
        assert_eq!(json["cases"][2]["summary"]["ratio"]["median"], 2.0);
        assert_eq!(json["cases"][1]["summary"]["beside"]["median"], 1.5);
        assert_eq!(json["figures"].as_array().unwrap().len(), 6);
        assert!(std::fs::read_to_string(html).unwrap().contains("7 lost"));
    }

    /// An output that nobody reads, and one that fails otherwise.
    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn files_are_written_even_if_nobody_reads_the_text() {
        let (settings, servers) = (Value::Null, Vec::new());
        let cases = vec![sample(2.0, 0)];
        let report = Report { work: "burst", settings, machine: Machine::here(), servers, cases };
        let directory = tempfile::tempdir().unwrap();
        for (kind, is_good) in [(io::ErrorKind::BrokenPipe, true), (io::ErrorKind::StorageFull, false)] {
            let [json, html] = ["a.json", "a.html"].map(|name| directory.path().join(format!("{kind:?}{name}")));
            let output = Output { json: Some(json.clone()), html: Some(html.clone()) };
            assert_eq!(publish(&report, &output, &mut Broken(kind)).is_ok(), is_good);
            assert!(json.exists() && html.exists());
        }
    }
}
