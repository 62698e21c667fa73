//! A candidate's part in the rounds of a group, and what becomes of it when something goes wrong.
//!
//! A server that has lost something is out for good. A peer that does not finish a turn in time, or fails, is out of
//! that work only, and is started afresh, so that what comes late does not disturb its next. Contract: whatever is left
//! out has its reason in the case, and a peer's failure is never an error of the run.

use anyhow::Result;
use serde_json::{Value, json};

use super::candidate::{Candidate, Open};
use super::runner::{Limits, Runner, TurnError};
use super::trial::Trial;
use crate::cpu::Cores;
use crate::report::Side;

/// A candidate's part of a round; nothing is known of its CPU time if its process is not.
pub(super) struct Turns(pub(super) Option<Side>);

/// How an participant is started, and started again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub(super) cores: Cores,
    pub(super) limits: Limits,
    pub(super) selective: bool,
}

/// A server that takes part in the rounds of a group, and its fate when something fails.
pub(super) struct Participant<'l> {
    candidate: &'l Candidate,
    start: Start,
    /// What the server says of itself.
    pub(super) info: Value,
    /// Or why it is out for good.
    runner: Result<Runner, String>,
}

impl<'l> Participant<'l> {
    /// Starts or finds the server, and connects everybody. A peer that cannot is out.
    pub(super) fn start(candidate: &'l Candidate, start: Start) -> Result<Self> {
        let runner = match Runner::start(candidate, start.cores, start.limits, start.selective) {
            Err(error) if is_peer(candidate) => Err(format!("it did not start: {error:#}")),
            other => Ok(other?),
        };
        let info = runner.as_ref().map_or(Value::Null, |runner| runner.session.info.clone());
        Ok(Self { candidate, start, info: json!({ "candidate": candidate.name, "info": info }), runner })
    }

    /// It is out for good.
    pub(super) fn is_out(&self) -> bool {
        self.runner.is_err()
    }

    /// One round; nothing if this work is left out, or is from now on.
    pub(super) fn round(&mut self, trial: &mut Trial) -> Result<Option<Turns>> {
        if trial.case.left_out.is_some() {
            return Ok(None);
        }
        let runner = match &mut self.runner {
            Ok(runner) => runner,
            Err(why) => {
                trial.case.left_out = Some(why.clone());
                return Ok(None);
            }
        };
        match runner.round(trial) {
            Ok(Ok(side)) => return Ok(Some(Turns(side))),
            Ok(Err(TurnError::Lost)) => self.runner = Err("something was lost before".to_owned()),
            Ok(Err(TurnError::Late(why))) => self.leave(trial, why),
            Err(error) if is_peer(self.candidate) => self.leave(trial, format!("{error:#}")),
            Err(error) => return Err(runner.session.explain(error)),
        }
        Ok(None)
    }

    /// Leaves this work and prepares for the next.
    fn leave(&mut self, trial: &mut Trial, why: String) {
        trial.case.left_out = Some(why);
        // The old server ends before the new one starts: two would share the core.
        self.runner = Err(String::new());
        let Start { cores, limits, selective } = self.start;
        let again = Runner::start(self.candidate, cores, limits, selective);
        self.runner = again.map_err(|error| format!("it did not start again: {error:#}"));
    }

    /// Takes what has come while others had their turn.
    pub(super) fn stay(&mut self, trial: &mut Trial) -> Result<()> {
        self.runner.as_mut().map_or(Ok(()), |runner| runner.stay(trial))
    }

    /// Whatever else comes is too much.
    pub(super) fn listen(&mut self, trial: &mut Trial) -> Result<()> {
        self.runner.as_mut().map_or(Ok(()), |runner| runner.listen(trial))
    }
}

fn is_peer(candidate: &Candidate) -> bool {
    matches!(candidate.open, Open::Peer(_))
}
