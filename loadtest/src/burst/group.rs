//! Several servers that do the same work in turn, round by round, with the floor at the end of each.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::OTHER_FILES;
use super::entrant::{Entrant, Start};
use super::lane::Limits;
use super::open::{Lane, Open};
use super::piece::{Piece, Shape, frames};
use crate::args::Work;
use crate::cpu::{self, Cores};
use crate::floor::{Bounds, Floor, Measured};
use crate::progress;
use crate::report::{Case, Round};

/// See the module's text.
#[derive(Debug)]
pub struct Group {
    /// As shown while it runs.
    pub name: &'static str,
    cores: Cores,
    rounds: u32,
    bounds: Bounds,
    /// Measure the floor too.
    pub floor: bool,
    /// How long a turn may take; what has not come by then is lost.
    pub turn_timeout: Duration,
    /// How long a turn of a peer may take; one that needs longer is left out of that work.
    pub peer_timeout: Duration,
}

impl Group {
    /// A group that does as much as `work` says.
    pub fn new(work: &Work, name: &'static str, cores: Cores) -> Self {
        Self {
            name,
            cores,
            rounds: work.rounds,
            bounds: work.bounds(),
            floor: true,
            turn_timeout: Duration::from_secs(20),
            peer_timeout: Duration::from_secs(20),
        }
    }

    /// Runs every shape on every lane, all taking turns. Returns what the servers say of themselves, and the results.
    ///
    /// # Errors
    /// A server cannot be started or reached, or refuses.
    pub fn run(&self, shapes: &[Shape], lanes: &[Lane]) -> Result<(Vec<Value>, Vec<Case>)> {
        let connections = lanes.iter().map(|lane| lane.clients as u64).sum::<u64>();
        let first = lanes.first().map_or(0, |lane| lane.clients);
        cpu::raise_file_limit(connections + first as u64 * 2 + OTHER_FILES)?;
        let mut floor = if self.floor { Some(Floor::new(first, self.cores)?) } else { None };
        cpu::pin(self.cores.client)?;
        let selective = shapes.first().is_some_and(|shape| shape.selective);
        let mut entrants = Vec::new();
        for lane in lanes {
            entrants.push(Entrant::start(lane, self.start(lane, selective))?);
        }
        let mut pieces = pieces(shapes, lanes)?;
        self.rounds(lanes, &mut entrants, &mut pieces, floor.as_mut())?;
        if let Some(last) = pieces.last_mut() {
            for (entrant, piece) in entrants.iter_mut().zip(last) {
                entrant.listen(piece)?;
            }
        }
        let servers = entrants.into_iter().map(|entrant| entrant.info).collect();
        Ok((servers, pieces.into_iter().flatten().map(Piece::finish).collect()))
    }

    fn start(&self, lane: &Lane, selective: bool) -> Start {
        let forgiving = matches!(lane.open, Open::Peer(_));
        let turn = if forgiving { self.peer_timeout } else { self.turn_timeout };
        Start { cores: self.cores, limits: Limits { bounds: self.bounds, turn, forgiving }, selective }
    }

    fn rounds(
        &self,
        lanes: &[Lane],
        entrants: &mut [Entrant<'_>],
        pieces: &mut [Vec<Piece>],
        mut floor: Option<&mut Floor>,
    ) -> Result<()> {
        let bar = progress::bar(u64::from(self.rounds) * pieces.len() as u64 * lanes.len() as u64, self.name);
        for _ in 0..self.rounds {
            for row in &mut *pieces {
                let mut sides = Vec::new();
                for at in 0..entrants.len() {
                    sides.push(entrants[at].round(&mut row[at])?);
                    stay(entrants, row)?;
                    bar.inc(1);
                }
                let floor = match &mut floor {
                    Some(floor) => Some(self.floor(floor, row, &lanes[0])?),
                    None => None,
                };
                for (piece, side) in row.iter_mut().zip(sides) {
                    let Some(server) = side else { continue };
                    let comparable = piece.case.connections == lanes[0].clients;
                    let floor = floor.filter(|_| comparable).map(Into::into);
                    piece.case.rounds.push(Round { server: server.0, floor });
                }
            }
            if entrants.iter().all(Entrant::is_out) {
                break;
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// The floor of the first lane's work.
    fn floor(&self, floor: &mut Floor, row: &[Piece], first: &Lane) -> Result<Measured> {
        let shape = row.first().context("there is at least one lane")?.shape;
        let spread = shape.spread(first.clients);
        floor.measure(&frames(&shape, first.user(), spread)?, spread, self.bounds)
    }
}

fn stay(entrants: &mut [Entrant<'_>], row: &mut [Piece]) -> Result<()> {
    entrants.iter_mut().zip(row).try_for_each(|(entrant, piece)| entrant.stay(piece))
}

/// By shape, then by lane.
fn pieces(shapes: &[Shape], lanes: &[Lane]) -> Result<Vec<Vec<Piece>>> {
    let piece = |shape: &Shape, lane: &Lane| {
        let mut case = shape.case(&lane.name, lane.transport.name(), lane.clients);
        case.beside = lane.beside.map(|other| lanes[other].name.clone());
        Piece::new(*shape, lane.user(), case)
    };
    shapes.iter().map(|shape| lanes.iter().map(|lane| piece(shape, lane)).collect()).collect()
}
