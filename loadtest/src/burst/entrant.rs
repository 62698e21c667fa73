//! A lane's part in the rounds of a group, and what becomes of it when something goes wrong.
//!
//! A server that has lost something is out for good. A peer that does not finish a turn in time, or fails, is out of that
//! work only, and is started afresh, so that what comes late does not disturb its next. Contract: whatever is left out has
//! its reason in the case, and a peer's failure is never an error of the run.

use anyhow::Result;
use serde_json::{Value, json};

use super::lane::{Limits, Runner, Setback};
use super::open::{Lane, Open};
use super::piece::Piece;
use crate::cpu::Cores;
use crate::report::Side;

/// A lane's part of a round; nothing is known of its CPU time if its process is not.
pub(super) struct Turns(pub(super) Option<Side>);

/// How an entrant is started, and started again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub(super) cores: Cores,
    pub(super) limits: Limits,
    pub(super) selective: bool,
}

/// See the module's text.
pub(super) struct Entrant<'l> {
    lane: &'l Lane,
    start: Start,
    /// What the server says of itself.
    pub(super) info: Value,
    /// Or why it is out for good.
    runner: Result<Runner, String>,
}

impl<'l> Entrant<'l> {
    /// Starts or finds the server, and connects everybody. A peer that cannot is out.
    pub(super) fn start(lane: &'l Lane, start: Start) -> Result<Self> {
        let runner = match Runner::start(lane, start.cores, start.limits, start.selective) {
            Err(error) if is_peer(lane) => Err(format!("it did not start: {error:#}")),
            other => Ok(other?),
        };
        let info = runner.as_ref().map_or(Value::Null, |runner| runner.session.info.clone());
        Ok(Self { lane, start, info: json!({ "lane": lane.name, "info": info }), runner })
    }

    /// It is out for good.
    pub(super) fn is_out(&self) -> bool {
        self.runner.is_err()
    }

    /// One round; nothing if this work is left out, or is from now on.
    pub(super) fn round(&mut self, piece: &mut Piece) -> Result<Option<Turns>> {
        if piece.case.left_out.is_some() {
            return Ok(None);
        }
        let runner = match &mut self.runner {
            Ok(runner) => runner,
            Err(why) => {
                piece.case.left_out = Some(why.clone());
                return Ok(None);
            }
        };
        match runner.round(piece) {
            Ok(Ok(side)) => return Ok(Some(Turns(side))),
            Ok(Err(Setback::Lost)) => self.runner = Err("something was lost before".to_owned()),
            Ok(Err(Setback::Late(why))) => self.leave(piece, why),
            Err(error) if is_peer(self.lane) => self.leave(piece, format!("{error:#}")),
            Err(error) => return Err(runner.session.explain(error)),
        }
        Ok(None)
    }

    /// Leaves this work and prepares for the next.
    fn leave(&mut self, piece: &mut Piece, why: String) {
        piece.case.left_out = Some(why);
        // The old server ends before the new one starts: two would share the core.
        self.runner = Err(String::new());
        let Start { cores, limits, selective } = self.start;
        let again = Runner::start(self.lane, cores, limits, selective);
        self.runner = again.map_err(|error| format!("it did not start again: {error:#}"));
    }

    /// Takes what has come while others had their turn.
    pub(super) fn stay(&mut self, piece: &mut Piece) -> Result<()> {
        self.runner.as_mut().map_or(Ok(()), |runner| runner.stay(piece))
    }

    /// Whatever else comes is too much.
    pub(super) fn listen(&mut self, piece: &mut Piece) -> Result<()> {
        self.runner.as_mut().map_or(Ok(()), |runner| runner.listen(piece))
    }
}

fn is_peer(lane: &Lane) -> bool {
    matches!(lane.open, Open::Peer(_))
}
