//! One server with its clients and its publisher, which has a turn in each round.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::candidate::Candidate;
use super::trial::Trial;
use crate::check::Checker;
use crate::client::{Sink, Swarm};
use crate::cpu::Cores;
use crate::floor::{Bounds, Measured};
use crate::payload::{self, KIND};
use crate::progress;
use crate::publish::Publisher;
use crate::report::{Encodings, Side};
use crate::session::Session;

/// Time limit for all registrations together.
const REGISTRATION: Duration = Duration::from_mins(1);

/// How long duplicates of the last events are awaited.
const AFTERMATH: Duration = Duration::from_millis(300);

/// The limits of rounds and turns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) bounds: Bounds,
    pub(super) turn: Duration,
    /// Whether deliveries missing at the end of a turn's time may be late, and do not count as lost.
    pub(super) forgiving: bool,
    /// Number of connections that publish.
    pub(super) posters: usize,
}

/// The reason why a candidate does not continue with a trial.
pub(super) enum TurnError {
    /// It has lost something.
    Lost,
    /// A turn was not finished in time; how far it had come.
    Late(String),
}

/// A server with its clients and publisher. The clients are dropped before the server, which would otherwise wait for
/// them.
pub(super) struct Runner {
    swarm: Swarm,
    publisher: Publisher,
    pub(super) session: Session,
    limits: Limits,
}

impl Runner {
    /// Starts or finds the server, and connects and registers all clients.
    pub(super) fn start(candidate: &Candidate, cores: Cores, limits: Limits, selective: bool) -> Result<Self> {
        let session = candidate.open(cores)?;
        Self::connect(candidate, cores, limits, selective, &session)
            .map_err(|error| session.explain(error))
            .map(|(swarm, publisher)| Self { swarm, publisher, session, limits })
    }

    fn connect(
        candidate: &Candidate,
        cores: Cores,
        limits: Limits,
        selective: bool,
        session: &Session,
    ) -> Result<(Swarm, Publisher)> {
        ensure!(candidate.clients > 0, "there are no clients");
        let bar = progress::bar(candidate.clients as u64, "connecting");
        let mut swarm = session.swarm(candidate.transport.deflates(), candidate.clients, &mut || bar.inc(1))?;
        bar.finish_and_clear();
        let all = candidate.spec.clone().unwrap_or_else(|| format!("{KIND}.*.*"));
        let own = |client: usize| format!("{KIND}.*.{}", payload::client_key(client as u64));
        swarm.register(REGISTRATION.max(limits.turn), |client| if selective { own(client) } else { all.clone() })?;
        Ok((swarm, session.publishers(limits.posters, cores.client)?))
    }

    /// Runs one round. Returns its figures, or `None` if they are not known because the server's process is not.
    pub(super) fn round(&mut self, trial: &mut Trial) -> Result<Result<Option<Side>, TurnError>> {
        let result = self.turns(trial)?;
        let known = self.session.cpu()?.is_some();
        Ok(result.map(|measured| known.then(|| Side::from(measured))))
    }

    /// Runs the turns of one round, after one for warm-up. If a turn takes longer than a round should, the server is
    /// warm anyway: then only the first round has a warm-up.
    fn turns(&mut self, trial: &mut Trial) -> Result<Result<Measured, TurnError>> {
        if !trial.is_slow {
            let begin = Instant::now();
            if let Some(error) = self.turn(trial)? {
                return Ok(Err(error));
            }
            trial.is_slow = begin.elapsed() > self.limits.bounds.time;
        }
        let (received, bytes) = (trial.checker.counts.received, self.swarm.bytes());
        let counters = trial.shape.deflate.then(|| self.session.metrics());
        let (begin, cpu, mut turns) = (Instant::now(), self.cpu()?, 0);
        while turns < self.limits.bounds.turns && (turns == 0 || begin.elapsed() < self.limits.bounds.time) {
            if let Some(error) = self.turn(trial)? {
                return Ok(Err(error));
            }
            turns += 1;
        }
        let (elapsed, cpu) = (begin.elapsed(), self.cpu()?.saturating_sub(cpu));
        if let Some(before) = counters {
            let events = turns * trial.shape.k;
            let found = Encodings::between(&before, &self.session.metrics(), events);
            trial.case.encodings = found.or_else(|| trial.case.encodings.take());
        }
        trial.bytes += self.swarm.bytes() - bytes;
        trial.case.cipher = self.swarm.cipher();
        Ok(Ok(Measured { turns, deliveries: trial.checker.counts.received - received, cpu, elapsed }))
    }

    fn cpu(&self) -> Result<Duration> {
        Ok(self.session.cpu()?.unwrap_or_default())
    }

    /// Runs one turn; returns `None` if everything has arrived.
    fn turn(&mut self, trial: &mut Trial) -> Result<Option<TurnError>> {
        let before = trial.checker.counts.received;
        let events = trial.checker.begin(trial.shape.k);
        let (wire, payloads) = (self.session.endpoint.wire(), trial.checker.payloads());
        let batches = if trial.shape.single_post {
            events.map(|event| wire.batch(payloads, event..event + 1)).collect()
        } else {
            vec![wire.batch(payloads, events)]
        };
        let deadline = Instant::now() + self.limits.turn;
        self.publisher.send(batches)?;
        let mut published = None;
        while !trial.checker.is_complete() {
            self.swarm.poll(Duration::from_millis(50), &mut trial.checker)?;
            if published.is_none() {
                published = self.publisher.answered(Duration::ZERO)?;
            }
            if Instant::now() > deadline {
                return Ok(Some(self.overdue(&mut trial.checker, before)));
            }
        }
        let published = match published {
            Some(published) => published,
            None => {
                self.publisher.answered(self.limits.turn)?.context("the server did not answer a publish in time")?
            }
        };
        trial.case.busy += u64::from(published.busy);
        Ok((trial.checker.counts.closed > 0).then_some(TurnError::Lost))
    }

    fn overdue(&self, checker: &mut Checker, before: u64) -> TurnError {
        if self.limits.forgiving {
            let (came, all) = (checker.counts.received - before, checker.deliveries());
            return TurnError::Late(format!(
                "only {came} of {all} deliveries of a turn arrived within {:?}",
                self.limits.turn
            ));
        }
        checker.give_up();
        TurnError::Lost
    }

    /// Receives what arrived during the turns of others: pings, which must be answered in time.
    pub(super) fn stay(&mut self, trial: &mut Trial) -> Result<()> {
        self.swarm.poll(Duration::ZERO, &mut trial.checker)
    }

    /// Receives for a while after the last turn: whatever still arrives is a fault.
    pub(super) fn listen(&mut self, trial: &mut Trial) -> Result<()> {
        let end = Instant::now() + AFTERMATH;
        while Instant::now() < end {
            self.swarm.poll(Duration::from_millis(50), &mut trial.checker)?;
        }
        Ok(())
    }
}

impl Sink for Checker {
    fn text(&mut self, client: usize, payload: &[u8]) {
        self.arrived(client, payload);
    }

    fn closed(&mut self, client: usize, reason: &str) {
        self.lost(client, reason);
    }
}
