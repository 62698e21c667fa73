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

use anyhow::{Context as _, Result};

pub use self::report::Report;

use crate::args::{CompareArgs, Kind, Output, Peer, RunArgs, StallSize, Target, Work};
use crate::burst::{Candidate, Group, Open, Shape, Transport};
use crate::cpu::Cores;
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
/// Fails if a server cannot be started, or refuses.
pub fn run(args: &CompareArgs) -> Result<Report> {
    let cores = args.run.checked()?;
    let peers = args.peers.all(cores)?;
    let mut report = Report::new(args, &peers, Machine::here());
    let comparing = Comparing { args, cores, peers: peers.into_iter().filter(|peer| peer.program.is_some()).collect() };
    for kind in &args.only {
        match kind {
            Kind::Plain => report.closed.push(("Plain", comparing.plain()?)),
            Kind::Deflate => report.closed.push(("permessage-deflate", comparing.deflate()?)),
            Kind::Tls => report.closed.push(("TLS", comparing.tls()?)),
            Kind::Selective => report.closed.push(("One receiver by event", comparing.selective()?)),
            Kind::Post => report.closed.push(("One event by POST", comparing.post()?)),
            Kind::Stall => comparing.stall(&mut report)?,
            Kind::Idle => comparing.idle(&mut report)?,
        }
    }
    Ok(report)
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

    /// Returns hydrant, followed by the peers that are compared with it.
    fn candidates(&self, transport: Transport) -> Vec<Candidate> {
        let tls = matches!(transport, Transport::Tls | Transport::TlsDeflate);
        let ours = Candidate {
            name: System::Hydrant.name().to_owned(),
            system: System::Hydrant,
            transport,
            clients: self.args.connections as usize,
            spec: None,
            open: Open::Target(Box::new(self.hydrant(tls))),
            beside: None,
        };
        let peers = self.peers.iter().filter_map(|peer| {
            let launch = peer.launch(tls)?;
            let name = peer.system.name().to_owned();
            Some(Candidate { name, system: peer.system, open: Open::Peer(launch), beside: Some(0), ..ours.clone() })
        });
        let peers: Vec<Candidate> = peers.collect();
        [ours].into_iter().chain(peers).collect()
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

    fn plain(&self) -> Result<crate::report::Report> {
        let shapes = [(1_024, 1), (1_024, 16), (1_024, 64), (12_288, 16)].map(|(payload, k)| shape(payload, k));
        self.run("plain", &shapes, &self.candidates(Transport::Plain))
    }

    /// Runs the work with permessage-deflate, without mosquitto, which does not support it.
    fn deflate(&self) -> Result<crate::report::Report> {
        let shapes = [1, 16].map(|k| Shape { deflate: true, ..shape(12_288, k) });
        let mut candidates = self.candidates(Transport::Deflate);
        candidates.retain(|candidate| candidate.system != System::Mosquitto);
        self.run("deflate", &shapes, &candidates)
    }

    /// Runs the work over TLS, with plain hydrant as an additional candidate, with which hydrant over TLS is compared.
    fn tls(&self) -> Result<crate::report::Report> {
        let mut candidates = self.candidates(Transport::Tls);
        let plain = candidates.len();
        let ours = self.candidates(Transport::Plain).into_iter().next().context("hydrant is always there")?;
        candidates.push(Candidate { name: format!("{}, plain", ours.name), ..ours });
        candidates[0].beside = Some(plain);
        self.run("TLS", &[shape(1_024, 16)], &candidates)
    }

    fn selective(&self) -> Result<crate::report::Report> {
        let shape = Shape { selective: true, ..shape(1_024, 64) };
        let mut candidates = self.candidates(Transport::Plain);
        if self.args.many > 0 {
            let (clients, ours) = (self.args.many as usize, candidates[0].clone());
            candidates.push(Candidate { name: format!("{}, {clients}", ours.name), clients, beside: Some(0), ..ours });
        }
        self.run("selective", &[shape], &candidates)
    }

    /// Publishes every event by itself: a POST to hydrant, and to a peer one message with a request to be answered in a
    /// write of its own.
    fn post(&self) -> Result<crate::report::Report> {
        let shape = Shape { selective: true, single_post: true, ..shape(1_024, POSTED) };
        self.run("post", &[shape], &self.candidates(Transport::Plain))
    }

    fn stall(&self, report: &mut Report) -> Result<()> {
        let size = self.stall_size();
        let mut all = vec![Runs { name: System::Hydrant.name().to_owned(), rounds: Vec::new() }];
        all.extend(self.peers.iter().map(|peer| Runs { name: peer.system.name().to_owned(), rounds: Vec::new() }));
        for _ in 0..self.args.stall_rounds {
            let session = Session::open(&self.hydrant(false), self.cores)?;
            all[0].rounds.push(stall::once(&size, self.hydrant(false).user(), &session, self.cores.client)?);
            drop(session);
            for (peer, runs) in self.peers.iter().zip(&mut all[1..]) {
                let Some(launch) = peer.launch(false) else { continue };
                let once = |session: &Session| stall::once(&size, "bench", session, self.cores.client);
                match Session::peer(&launch).and_then(|session| once(&session)) {
                    Ok(round) => runs.rounds.push(round),
                    Err(error) => report.leave_out(format!("a round of stall, {}: {error:#}", runs.name)),
                }
            }
        }
        report.stall = all;
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
