//! A candidate in the rounds of a group, and how its failures are handled.
//!
//! A server that has lost something is out for good. A peer that fails, or does not finish a turn in time, is only out
//! of that work, and is restarted, so that late deliveries do not disturb its next work. Contract: the case of whatever
//! is left out has the reason, and a peer's failure is never an error of the run.

use anyhow::Result;
use serde_json::{Value, json};

use super::candidate::{Candidate, Open};
use super::runner::{Limits, Runner, TurnError};
use super::trial::Trial;
use crate::cpu::Cores;
use crate::report::Side;

/// A candidate's part of a round; `None` if its CPU time is not known, because its process is not.
pub(super) struct Turns(pub(super) Option<Side>);

/// The parameters for starting a participant, also for a restart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub(super) cores: Cores,
    pub(super) limits: Limits,
    pub(super) selective: bool,
}

/// A server that takes part in the rounds of a group, or the reason why it no longer does.
pub(super) struct Participant<'l> {
    candidate: &'l Candidate,
    start: Start,
    /// What the server reports about itself.
    pub(super) info: Value,
    /// The running server, or the reason why it is out for good.
    runner: Result<Runner, String>,
}

impl<'l> Participant<'l> {
    /// Starts or finds the server, and connects all clients. A peer that fails is out.
    pub(super) fn start(candidate: &'l Candidate, start: Start) -> Result<Self> {
        let runner = match Runner::start(candidate, start.cores, start.limits, start.selective) {
            Err(error) if is_peer(candidate) => Err(format!("it did not start: {error:#}")),
            other => Ok(other?),
        };
        let info = runner.as_ref().map_or(Value::Null, |runner| runner.session.info.clone());
        Ok(Self { candidate, start, info: json!({ "candidate": candidate.name, "info": info }), runner })
    }

    /// Returns whether the participant is out for good.
    pub(super) fn is_out(&self) -> bool {
        self.runner.is_err()
    }

    /// Runs one round; returns `None` if this work is left out, or is from now on.
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
            Ok(Err(TurnError::Lost)) => self.runner = Err("deliveries were lost in an earlier turn".to_owned()),
            Ok(Err(TurnError::Late(why))) => self.leave(trial, why),
            Err(error) if is_peer(self.candidate) => self.leave(trial, format!("{error:#}")),
            Err(error) => return Err(runner.session.explain(error)),
        }
        Ok(None)
    }

    /// Leaves this work and prepares for the next.
    fn leave(&mut self, trial: &mut Trial, why: String) {
        trial.case.left_out = Some(why);
        // The old server is stopped before the new one starts: otherwise two would share the core.
        self.runner = Err(String::new());
        let Start { cores, limits, selective } = self.start;
        let again = Runner::start(self.candidate, cores, limits, selective);
        self.runner = again.map_err(|error| format!("it did not start again: {error:#}"));
    }

    /// Receives what arrived during the turns of others.
    pub(super) fn stay(&mut self, trial: &mut Trial) -> Result<()> {
        self.runner.as_mut().map_or(Ok(()), |runner| runner.stay(trial))
    }

    /// Receives for a while after the last turn: whatever still arrives is a fault.
    pub(super) fn listen(&mut self, trial: &mut Trial) -> Result<()> {
        self.runner.as_mut().map_or(Ok(()), |runner| runner.listen(trial))
    }
}

fn is_peer(candidate: &Candidate) -> bool {
    matches!(candidate.open, Open::Peer(_))
}
