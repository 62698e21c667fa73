//! Several servers that do the same work in turn, round by round, with the floor at the end of each round.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::OTHER_FILES;
use super::candidate::{Candidate, Open};
use super::participant::{Participant, Start};
use super::runner::Limits;
use super::trial::{Shape, Trial, frames};
use crate::args::Work;
use crate::cpu::{self, Cores};
use crate::floor::{Bounds, Floor, Measured};
use crate::progress;
use crate::report::{Case, Round};

/// Servers that do the same work in turn, round by round, with the floor after each round.
#[derive(Debug)]
pub struct Group {
    /// Display name while it runs.
    pub name: &'static str,
    cores: Cores,
    rounds: u32,
    bounds: Bounds,
    /// Whether the floor is measured too.
    pub floor: bool,
    /// Time limit for a turn; what has not arrived by then is lost.
    pub turn_timeout: Duration,
    /// Time limit for a turn of a peer; a slower peer is left out of that work.
    pub peer_timeout: Duration,
    /// Number of connections that publish to each server.
    pub posters: usize,
}

impl Group {
    /// Creates a group with the amount of work in `work`.
    pub fn new(work: &Work, name: &'static str, cores: Cores) -> Self {
        Self {
            name,
            cores,
            rounds: work.rounds,
            bounds: work.bounds(),
            floor: true,
            turn_timeout: Duration::from_secs(20),
            peer_timeout: Duration::from_secs(20),
            posters: 1,
        }
    }

    /// Returns how many files this process opens for these candidates and the floor.
    pub fn files(candidates: &[Candidate]) -> u64 {
        let connections = candidates.iter().map(|candidate| candidate.clients as u64).sum::<u64>();
        let first = candidates.first().map_or(0, |candidate| candidate.clients);
        connections + first as u64 * 2 + OTHER_FILES
    }

    /// Runs every shape on every candidate, in turns. Returns what the servers report about themselves, and the
    /// results.
    ///
    /// # Errors
    /// Fails if a server cannot be started or reached, or refuses.
    pub fn run(&self, shapes: &[Shape], candidates: &[Candidate]) -> Result<(Vec<Value>, Vec<Case>)> {
        let first = candidates.first().map_or(0, |candidate| candidate.clients);
        cpu::raise_file_limit(Self::files(candidates))?;
        let mut floor = if self.floor { Some(Floor::new(first, self.cores)?) } else { None };
        cpu::pin(self.cores.client)?;
        let selective = shapes.first().is_some_and(|shape| shape.selective);
        let mut participants = Vec::new();
        for candidate in candidates {
            participants.push(Participant::start(candidate, self.start(candidate, selective))?);
        }
        let mut trials = trials(shapes, candidates)?;
        self.rounds(candidates, &mut participants, &mut trials, floor.as_mut())?;
        if let Some(last) = trials.last_mut() {
            for (participant, trial) in participants.iter_mut().zip(last) {
                participant.listen(trial)?;
            }
        }
        let servers = participants.into_iter().map(|participant| participant.info).collect();
        Ok((servers, trials.into_iter().flatten().map(Trial::finish).collect()))
    }

    fn start(&self, candidate: &Candidate, selective: bool) -> Start {
        let forgiving = matches!(candidate.open, Open::Peer(_));
        let turn = if forgiving { self.peer_timeout } else { self.turn_timeout };
        let limits = Limits { bounds: self.bounds, turn, forgiving, posters: self.posters };
        Start { cores: self.cores, limits, selective }
    }

    fn rounds(
        &self,
        candidates: &[Candidate],
        participants: &mut [Participant<'_>],
        trials: &mut [Vec<Trial>],
        mut floor: Option<&mut Floor>,
    ) -> Result<()> {
        let bar = progress::bar(u64::from(self.rounds) * trials.len() as u64 * candidates.len() as u64, self.name);
        for _ in 0..self.rounds {
            for row in &mut *trials {
                let mut sides = Vec::new();
                for at in 0..participants.len() {
                    sides.push(participants[at].round(&mut row[at])?);
                    stay(participants, row)?;
                    bar.inc(1);
                }
                let floor = match &mut floor {
                    Some(floor) => Some(self.floor(floor, row, &candidates[0])?),
                    None => None,
                };
                for (trial, side) in row.iter_mut().zip(sides) {
                    let Some(server) = side else { continue };
                    let comparable = trial.case.connections == candidates[0].clients;
                    let floor = floor.filter(|_| comparable).map(Into::into);
                    trial.case.rounds.push(Round { server: server.0, floor });
                }
            }
            if participants.iter().all(Participant::is_out) {
                break;
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Measures the floor of the first candidate's work.
    fn floor(&self, floor: &mut Floor, row: &[Trial], first: &Candidate) -> Result<Measured> {
        let shape = row.first().context("there is at least one candidate")?.shape;
        let spread = shape.spread(first.clients);
        floor.measure(&frames(&shape, first.user(), spread)?, spread, self.bounds)
    }
}

fn stay(participants: &mut [Participant<'_>], row: &mut [Trial]) -> Result<()> {
    participants.iter_mut().zip(row).try_for_each(|(participant, trial)| participant.stay(trial))
}

/// Returns the trials by shape, then by candidate.
fn trials(shapes: &[Shape], candidates: &[Candidate]) -> Result<Vec<Vec<Trial>>> {
    let trial = |shape: &Shape, candidate: &Candidate| {
        let mut case = shape.case(&candidate.name, candidate.transport.name(), candidate.clients);
        case.beside = candidate.beside.map(|other| candidates[other].name.clone());
        Trial::new(*shape, candidate.user(), case)
    };
    shapes.iter().map(|shape| candidates.iter().map(|candidate| trial(shape, candidate)).collect()).collect()
}
