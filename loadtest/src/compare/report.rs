//! The results of `compare`.

use anyhow::Result;
use serde_json::{Value, json};

use crate::args::{CompareArgs, Kind, Peer, StallSize};
use crate::idle::{self, Weight};
use crate::report::{Figure, Machine, Outcome, Page, Report as Closed, Verdict};
use crate::server::System;
use crate::stall::{self, Runs};

/// All measurements.
#[derive(Debug)]
pub struct Report {
    machine: Machine,
    size: StallSize,
    /// Names and values.
    facts: Vec<(String, String)>,
    /// The closed loops with their titles.
    pub(super) closed: Vec<(&'static str, Closed)>,
    pub(super) stall: Vec<Runs>,
    pub(super) idle: Vec<Weight>,
    /// The kinds of work that could not be done to the end, with the reason.
    failures: Vec<(Kind, String)>,
}

pub(super) fn stall_size(args: &CompareArgs) -> StallSize {
    StallSize { healthy: 200, stalled: 50, megabytes: args.megabytes, payload: 1_024, k: 16 }
}

impl Report {
    pub(super) fn new(args: &CompareArgs, peers: &[Peer], machine: Machine) -> Self {
        let mut facts = vec![(System::Hydrant.name().to_owned(), System::Hydrant.version(&args.serve))];
        for peer in peers {
            let told = match &peer.program {
                None => "not installed: not measured".to_owned(),
                Some(program) => {
                    let cores: Vec<String> = peer.cores.iter().map(ToString::to_string).collect();
                    let cores =
                        if cores.is_empty() { "any core".to_owned() } else { format!("core {}", cores.join(", ")) };
                    format!("{}, {cores}{}", peer.system.version(program), processors(peer))
                }
            };
            facts.push((peer.system.name().to_owned(), told));
        }
        facts.push(("settings".to_owned(), settings(args)));
        Self {
            machine,
            size: stall_size(args),
            facts,
            closed: Vec::new(),
            stall: Vec::new(),
            idle: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Returns the verdict: whether hydrant has faults, and whether others have some.
    fn verdict(&self) -> String {
        let ours = if self.is_clean() { "hydrant: no faults" } else { "hydrant: faults, see below" };
        let is_good = self.closed.iter().all(|(_, closed)| closed.is_clean())
            && self.stall.iter().all(stall::is_clean)
            && self.idle.iter().all(idle::is_clean);
        let others = if self.is_clean() && !is_good { "; faults of others are below" } else { "" };
        let failed = if self.failures.is_empty() { "" } else { "; not everything could be measured" };
        format!("{ours}{others}{failed}")
    }

    /// Notes that hydrant could not do a kind of work to its end.
    pub(super) fn failed(&mut self, kind: Kind, error: &anyhow::Error) {
        self.failures.push((kind, format!("{error:#}")));
    }

    /// Returns whether nothing has been measured.
    pub(super) fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.stall.is_empty() && self.idle.is_empty()
    }

    /// Notes what a peer could not do.
    pub(super) fn leave_out(&mut self, what: String) {
        self.facts.push(("left out".to_owned(), what));
    }
}

/// Returns GOMAXPROCS as text. Unless it is set, Go uses the number of cores.
fn processors(peer: &Peer) -> String {
    if peer.system != System::Nats {
        return String::new();
    }
    let told = std::env::var("GOMAXPROCS").ok();
    told.map_or_else(|| format!(", GOMAXPROCS {}", peer.cores.len().max(1)), |told| format!(", GOMAXPROCS {told}"))
}

fn settings(args: &CompareArgs) -> String {
    let CompareArgs { connections, many, rounds, seconds, stall_rounds, megabytes, idle, rest, .. } = args;
    format!(
        "{connections} connections (selective also {many}; post by {}), {rounds} rounds of {seconds} s; stall \
         {stall_rounds} rounds of {megabytes} MB; idle {idle} connections, {rest} s of rest",
        super::posters(args)
    )
}

impl Outcome for Report {
    /// Only hydrant's faults count; those of the peers are merely shown.
    fn is_clean(&self) -> bool {
        let ours = System::Hydrant.name();
        let cases = self.closed.iter().flat_map(|(_, closed)| &closed.cases);
        let mut cases = cases.filter(|case| case.candidate.starts_with(ours));
        let mut runs = self.stall.iter().filter(|runs| runs.name == ours);
        let mut weights = self.idle.iter().filter(|weight| weight.name.starts_with(ours));
        cases.all(|case| case.counts.is_clean()) && runs.all(stall::is_clean) && weights.all(idle::is_clean)
    }

    fn failure(&self) -> Option<String> {
        let named = |(kind, reason): &(Kind, String)| format!("{}: {reason}", kind.name());
        let all: Vec<String> = self.failures.iter().map(named).collect();
        (!all.is_empty()).then(|| format!("not everything could be measured: {}", all.join("; ")))
    }

    fn page(&self) -> Page {
        let mut page = Page::new("hydrant-loadtest compare", &self.machine);
        for (name, value) in &self.facts {
            page.fact(name, value);
        }
        for (kind, reason) in &self.failures {
            page.fact("failed", format!("{}: {reason}", kind.name()));
        }
        page.sections.extend(self.closed.iter().map(|(title, closed)| closed.section(title)));
        if !self.stall.is_empty() {
            page.sections.push(stall::section(&self.size, &self.stall));
        }
        if !self.idle.is_empty() {
            page.sections.push(idle::section(&self.idle));
        }
        page.verdict = Some(Verdict { good: self.is_clean() && self.failures.is_empty(), text: self.verdict() });
        page
    }

    fn figures(&self) -> Vec<Figure> {
        let mut figures: Vec<Figure> = self.closed.iter().flat_map(|(_, closed)| closed.figures()).collect();
        figures.extend(stall::figures(&self.stall));
        figures.extend(idle::figures(&self.idle));
        figures
    }

    fn json(&self) -> Result<Value> {
        let mut closed = Vec::new();
        for (title, report) in &self.closed {
            let mut value = report.json()?;
            value["title"] = (*title).into();
            closed.push(value);
        }
        Ok(json!({
            "work": "compare", "machine": self.machine, "facts": self.facts, "closed": closed, "stall": self.stall,
            "idle": self.idle, "failed": self.failures,
        }))
    }
}
