//! The same work for hydrant and for the installed peers.
//!
//! In the closed loops every system has the same number of clients, receives the same events in batches of the same
//! size, and runs on the same core. In each round all systems take turns, and the floor is measured at the end. A peer
//! publishes in its own best way: K publications in one write over plain TCP, followed by a request to be answered. In
//! `post` every event is published and answered by itself, over as many connections as hydrant's. The report names
//! peers that are not installed, and the reason why a peer is left out of some work, such as a missing feature or a
//! timeout; nothing is estimated.

mod report;

use std::time::Duration;

use anyhow::Result;

pub use self::report::Report;

use crate::args::{CompareArgs, Kind, Output, Peer, RunArgs, StallSize, Target, Work};
use crate::burst::{Candidate, Group, Open, Shape, Transport};
use crate::cpu::{self, Cores};
use crate::idle;
use crate::report::Machine;
use crate::server::System;
use crate::session::Session;
use crate::stall::{self, Runs};

/// Time limit for a turn of hydrant; what is missing then is lost.
const TURN: Duration = Duration::from_secs(30);

/// Events in a turn of `post`: eight for each of the usual number of connections.
const POSTED: u64 = 256;

/// Runs `compare`.
///
/// # Errors
/// Fails if the machine cannot do what was asked for, or if hydrant fails before anything has been measured.
pub fn run(args: &CompareArgs) -> Result<Report> {
    let cores = args.run.checked()?;
    let peers = args.peers.all(cores)?;
    let mut report = Report::new(args, &peers, Machine::here());
    let comparing = Comparing { args, cores, peers: peers.into_iter().filter(|peer| peer.program.is_some()).collect() };
    cpu::raise_file_limit(args.only.iter().map(|kind| comparing.files(*kind)).max().unwrap_or(0))?;
    one_by_one(&args.only, &mut report, |kind, report| comparing.measure(kind, report))?;
    Ok(report)
}

/// Measures each kind of work. If hydrant fails in one, the report says so, and keeps what has been measured.
///
/// # Errors
/// Fails with the first error if nothing has been measured by then.
fn one_by_one(
    kinds: &[Kind],
    report: &mut Report,
    mut measure: impl FnMut(Kind, &mut Report) -> Result<()>,
) -> Result<()> {
    for &kind in kinds {
        if let Err(error) = measure(kind, report) {
            if report.is_empty() {
                return Err(error);
            }
            report.failed(kind, &error);
        }
    }
    Ok(())
}

/// The parameters of a comparison.
struct Comparing<'a> {
    args: &'a CompareArgs,
    cores: Cores,
    /// The installed peers.
    peers: Vec<Peer>,
}

impl Comparing<'_> {
    fn hydrant(&self, tls: bool) -> Target {
        Target::of(&self.args.serve, tls, &self.args.serve_arg)
    }

    /// Returns hydrant as a candidate.
    fn ours(&self, transport: Transport) -> Candidate {
        let tls = matches!(transport, Transport::Tls | Transport::TlsDeflate);
        Candidate {
            name: System::Hydrant.name().to_owned(),
            system: System::Hydrant,
            transport,
            clients: self.args.connections as usize,
            spec: None,
            open: Open::Target(Box::new(self.hydrant(tls))),
            beside: None,
        }
    }

    /// Returns hydrant, followed by the peers that are compared with it.
    fn all(&self, transport: Transport) -> Vec<Candidate> {
        let ours = self.ours(transport);
        let peers = self.peers.iter().filter_map(|peer| {
            let launch = peer.launch(matches!(transport, Transport::Tls | Transport::TlsDeflate))?;
            let name = peer.system.name().to_owned();
            Some(Candidate { name, system: peer.system, open: Open::Peer(launch), beside: Some(0), ..ours.clone() })
        });
        let peers: Vec<Candidate> = peers.collect();
        [ours].into_iter().chain(peers).collect()
    }

    /// Returns the candidates of a closed loop.
    fn candidates(&self, kind: Kind) -> Vec<Candidate> {
        match kind {
            // mosquitto does not support permessage-deflate.
            Kind::Deflate => {
                let mut candidates = self.all(Transport::Deflate);
                candidates.retain(|candidate| candidate.system != System::Mosquitto);
                candidates
            }
            // Plain hydrant is an additional candidate, with which hydrant over TLS is compared.
            Kind::Tls => {
                let mut candidates = self.all(Transport::Tls);
                let plain = candidates.len();
                let ours = self.ours(Transport::Plain);
                candidates.push(Candidate { name: format!("{}, plain", ours.name), ..ours });
                candidates[0].beside = Some(plain);
                candidates
            }
            Kind::Selective if self.args.many > 0 => {
                let mut candidates = self.all(Transport::Plain);
                let (clients, ours) = (self.args.many as usize, candidates[0].clone());
                let name = format!("{}, {clients}", ours.name);
                candidates.push(Candidate { name, clients, beside: Some(0), ..ours });
                candidates
            }
            _ => self.all(Transport::Plain),
        }
    }

    /// Returns how many files this process opens for a kind of work, at most.
    fn files(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Stall => stall::files(&self.stall_size()),
            Kind::Idle => idle::files(self.args.idle),
            _ => Group::files(&self.candidates(kind)),
        }
    }

    fn measure(&self, kind: Kind, report: &mut Report) -> Result<()> {
        let (title, name, shapes) = match kind {
            Kind::Stall => return self.stall(report),
            Kind::Idle => return self.idle(report),
            Kind::Plain => {
                let shapes = [(1_024, 1), (1_024, 16), (1_024, 64), (12_288, 16)];
                ("Plain", "plain", shapes.map(|(payload, k)| shape(payload, k)).to_vec())
            }
            Kind::Deflate => {
                let shapes = [1, 16].map(|k| Shape { deflate: true, ..shape(12_288, k) });
                ("permessage-deflate", "deflate", shapes.to_vec())
            }
            Kind::Tls => ("TLS", "TLS", vec![shape(1_024, 16)]),
            Kind::Selective => {
                ("One receiver by event", "selective", vec![Shape { selective: true, ..shape(1_024, 64) }])
            }
            // Every event by itself: a POST to hydrant, and to a peer one message with a request to be answered in a
            // write of its own.
            Kind::Post => {
                let shape = Shape { selective: true, single_post: true, ..shape(1_024, POSTED) };
                ("One event by POST", "post", vec![shape])
            }
        };
        report.closed.push((title, self.run(name, &shapes, &self.candidates(kind))?));
        Ok(())
    }

    fn run(&self, title: &'static str, shapes: &[Shape], candidates: &[Candidate]) -> Result<crate::report::Report> {
        let work = self.work(shapes);
        let mut group = Group::new(&work, title, self.cores);
        group.posters = if shapes.iter().all(|shape| shape.single_post) { posters(self.args) as usize } else { 1 };
        group.turn_timeout = TURN;
        group.peer_timeout = Duration::from_secs(u64::from(self.args.peer_patience));
        let (servers, cases) = group.run(shapes, candidates)?;
        let settings = serde_json::Value::Null;
        Ok(crate::report::Report { work: "compare", settings, machine: Machine::here(), servers, cases })
    }

    fn work(&self, shapes: &[Shape]) -> Work {
        Work {
            connections: self.args.connections,
            payload: Vec::new(),
            k: Vec::new(),
            rounds: self.args.rounds,
            seconds: self.args.seconds,
            turns: 1_000_000,
            selective: shapes.iter().any(|shape| shape.selective),
            run: RunArgs { output: Output::default(), ..self.args.run.clone() },
        }
    }

    fn stall(&self, report: &mut Report) -> Result<()> {
        let mut all = vec![Runs { name: System::Hydrant.name().to_owned(), rounds: Vec::new() }];
        all.extend(self.peers.iter().map(|peer| Runs { name: peer.system.name().to_owned(), rounds: Vec::new() }));
        let result = (0..self.args.stall_rounds).try_for_each(|_| self.stall_round(&mut all, report));
        // The rounds before a failure count.
        if all.iter().any(|runs| !runs.rounds.is_empty()) {
            report.stall = all;
        }
        result
    }

    fn stall_round(&self, all: &mut [Runs], report: &mut Report) -> Result<()> {
        let (size, hydrant) = (self.stall_size(), self.hydrant(false));
        let session = Session::open(&hydrant, self.cores)?;
        all[0].rounds.push(stall::once(&size, hydrant.user(), &session, self.cores.client)?);
        drop(session);
        for (peer, runs) in self.peers.iter().zip(&mut all[1..]) {
            let Some(launch) = peer.launch(false) else { continue };
            let once = |session: &Session| stall::once(&size, "bench", session, self.cores.client);
            match Session::peer(&launch).and_then(|session| once(&session)) {
                Ok(round) => runs.rounds.push(round),
                Err(error) => report.leave_out(format!("a round of stall, {}: {error:#}", runs.name)),
            }
        }
        Ok(())
    }

    fn stall_size(&self) -> StallSize {
        report::stall_size(self.args)
    }

    fn idle(&self, report: &mut Report) -> Result<()> {
        let size = [self.args.idle, self.args.rest];
        for tls in [false, true] {
            let name = |system: System| format!("{}{}", system.name(), if tls { ", TLS" } else { "" });
            let target = self.hydrant(tls);
            let session = Session::open(&target, self.cores)?;
            report.idle.push(idle::once(&name(System::Hydrant), size, target.user(), &session, self.cores.client)?);
            drop(session);
            for peer in &self.peers {
                let Some(launch) = peer.launch(tls) else { continue };
                let name = name(peer.system);
                let once = |session: &Session| idle::once(&name, size, "bench", session, self.cores.client);
                match Session::peer(&launch).and_then(|session| once(&session)) {
                    Ok(weight) => report.idle.push(weight),
                    Err(error) => report.leave_out(format!("idle, {name}: {error:#}")),
                }
            }
        }
        Ok(())
    }
}

/// Returns the number of connections that publish in `post`.
fn posters(args: &CompareArgs) -> u32 {
    args.peers.post.count(32)
}

fn shape(payload: usize, k: u64) -> Shape {
    Shape { payload, k, selective: false, deflate: false, single_post: false }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::report::Outcome as _;

    fn args() -> CompareArgs {
        use clap::Parser as _;
        let line = ["hydrant-loadtest", "compare", "--serve", "/no/hydrant", "--no-peers"];
        match crate::args::Cli::try_parse_from(line).unwrap().command {
            Some(crate::args::Command::Compare(args)) => args,
            other => unreachable!("compare was asked for, not {other:?}"),
        }
    }

    fn closed() -> (&'static str, crate::report::Report) {
        let settings = serde_json::Value::Null;
        let (machine, servers, cases) = (Machine::here(), Vec::new(), Vec::new());
        ("Plain", crate::report::Report { work: "compare", settings, machine, servers, cases })
    }

    #[test]
    fn what_was_measured_before_and_after_a_failure_is_kept() {
        let mut report = Report::new(&args(), &[], Machine::here());
        let kinds = [Kind::Plain, Kind::Idle, Kind::Post];
        let measure = |kind, report: &mut Report| {
            anyhow::ensure!(kind != Kind::Idle, "no more files");
            report.closed.push(closed());
            Ok(())
        };
        one_by_one(&kinds, &mut report, measure).unwrap();
        assert_eq!(report.closed.len(), 2);
        assert_eq!(report.failure().unwrap(), "not everything could be measured: idle: no more files");
        let page = report.page();
        assert!(page.facts.contains(&("failed".to_owned(), "idle: no more files".to_owned())), "{:?}", page.facts);
        assert!(!page.verdict.unwrap().good);
    }

    #[test]
    fn a_failure_before_anything_was_measured_ends_the_run() {
        let mut report = Report::new(&args(), &[], Machine::here());
        let mut asked = Vec::new();
        let measure = |kind, _: &mut Report| {
            asked.push(kind);
            Err(anyhow!("it does not start"))
        };
        assert!(one_by_one(&[Kind::Plain, Kind::Idle], &mut report, measure).is_err());
        assert_eq!(asked, [Kind::Plain]);
    }

    #[test]
    fn the_files_of_all_kinds_are_known_before_the_first() {
        let args = args();
        let comparing = Comparing { args: &args, cores: Cores::ANY, peers: Vec::new() };
        let files = |kind| comparing.files(kind) - crate::burst::OTHER_FILES;
        // The floor has two for each of the first candidate's clients.
        assert_eq!(files(Kind::Plain), 3_000);
        assert_eq!(files(Kind::Tls), 4_000);
        assert_eq!(files(Kind::Selective), 8_000);
        assert_eq!(files(Kind::Stall), 250);
        assert_eq!(files(Kind::Idle), 4_200);
    }
}
