//! One server with its clients and its publisher, which takes its turn in each round.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::group::Lane;
use super::piece::Piece;
use crate::args::Target;
use crate::check::Checker;
use crate::client::{Sink, Swarm};
use crate::cpu::Cores;
use crate::floor::{Bounds, Measured};
use crate::payload::{self, KIND};
use crate::progress;
use crate::publish::Publisher;
use crate::report::{Encodings, Side};
use crate::session::Session;

/// How long all registrations together may take.
const REGISTRATION: Duration = Duration::from_mins(1);

/// How long the last events are listened for duplicates.
const AFTERMATH: Duration = Duration::from_millis(300);

/// When rounds and turns end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) bounds: Bounds,
    pub(super) turn: Duration,
}

/// A server's part of a round; nothing is known of its CPU time if its process is not.
pub(super) struct Turns(pub(super) Option<Side>);

/// See the module's text. The clients go before the server, which would wait for them otherwise.
pub(super) struct Runner {
    swarm: Swarm,
    publisher: Publisher,
    pub(super) session: Session,
    limits: Limits,
}

impl Runner {
    /// Starts or finds the server, connects and registers everybody.
    pub(super) fn start(lane: &Lane, cores: Cores, limits: Limits, selective: bool) -> Result<Self> {
        let session = lane.open(cores)?;
        Self::connect(lane, cores, limits, selective, &session)
            .map_err(|error| session.explain(error))
            .map(|(swarm, publisher)| Self { swarm, publisher, session, limits })
    }

    fn connect(
        lane: &Lane,
        cores: Cores,
        limits: Limits,
        selective: bool,
        session: &Session,
    ) -> Result<(Swarm, Publisher)> {
        ensure!(lane.clients > 0, "there are no clients");
        let endpoint = session.endpoint.clone().deflating(lane.transport.deflates());
        let bar = progress::bar(lane.clients as u64, "connecting");
        let mut swarm = Swarm::connect(&endpoint, lane.clients, &mut || bar.inc(1))?;
        bar.finish_and_clear();
        let all = lane.spec.clone().unwrap_or_else(|| format!("{KIND}.*.*"));
        let own = |client: usize| format!("{KIND}.*.{}", payload::client_key(client as u64));
        swarm.register(REGISTRATION.max(limits.turn), |client| if selective { own(client) } else { all.clone() })?;
        Ok((swarm, session.publisher(cores.client)?))
    }

    /// One round; nothing if the server has lost something, and it makes no sense to go on.
    pub(super) fn round(&mut self, piece: &mut Piece) -> Result<Option<Turns>> {
        let result = self.turns(piece).map_err(|error| self.session.explain(error))?;
        let Some(measured) = result else { return Ok(None) };
        let known = self.session.cpu()?.is_some();
        Ok(Some(Turns(known.then(|| Side::from(measured)))))
    }

    fn turns(&mut self, piece: &mut Piece) -> Result<Option<Measured>> {
        if !self.turn(piece)? {
            return Ok(None);
        }
        let (received, bytes) = (piece.checker.counts.received, self.swarm.bytes());
        let counters = piece.shape.deflate.then(|| self.session.metrics());
        let (begin, cpu, mut turns) = (Instant::now(), self.cpu()?, 0);
        while turns < self.limits.bounds.turns && (turns == 0 || begin.elapsed() < self.limits.bounds.time) {
            if !self.turn(piece)? {
                return Ok(None);
            }
            turns += 1;
        }
        let (elapsed, cpu) = (begin.elapsed(), self.cpu()?.saturating_sub(cpu));
        if let Some(before) = counters {
            let events = turns * piece.shape.k;
            let found = Encodings::between(&before, &self.session.metrics(), events);
            piece.case.encodings = found.or_else(|| piece.case.encodings.take());
        }
        piece.bytes += self.swarm.bytes() - bytes;
        piece.case.cipher = self.swarm.cipher();
        Ok(Some(Measured { turns, deliveries: piece.checker.counts.received - received, cpu, elapsed }))
    }

    fn cpu(&self) -> Result<Duration> {
        Ok(self.session.cpu()?.unwrap_or_default())
    }

    /// One turn; false if not everything has come.
    fn turn(&mut self, piece: &mut Piece) -> Result<bool> {
        let events = piece.checker.begin(piece.shape.k);
        let (wire, payloads) = (self.session.endpoint.wire(), piece.checker.payloads());
        let batches = if piece.shape.single_post {
            events.map(|event| wire.batch(payloads, event..event + 1)).collect()
        } else {
            vec![wire.batch(payloads, events)]
        };
        let deadline = Instant::now() + self.limits.turn;
        self.publisher.send(batches)?;
        let mut published = None;
        while !piece.checker.is_complete() {
            self.swarm.poll(Duration::from_millis(50), &mut piece.checker)?;
            if published.is_none() {
                published = self.publisher.answered(Duration::ZERO)?;
            }
            if Instant::now() > deadline {
                piece.checker.give_up();
                return Ok(false);
            }
        }
        let published = match published {
            Some(published) => published,
            None => self.publisher.answered(self.limits.turn)?.context("what was published is not answered")?,
        };
        piece.case.busy += u64::from(published.busy);
        Ok(piece.checker.counts.closed == 0)
    }

    /// Takes what has come while others had their turn: pings, which have to be answered in time.
    pub(super) fn stay(&mut self, piece: &mut Piece) -> Result<()> {
        self.swarm.poll(Duration::ZERO, &mut piece.checker)
    }

    /// Whatever else comes is too much.
    pub(super) fn listen(&mut self, piece: &mut Piece) -> Result<()> {
        let end = Instant::now() + AFTERMATH;
        while Instant::now() < end {
            self.swarm.poll(Duration::from_millis(50), &mut piece.checker)?;
        }
        Ok(())
    }
}

/// Whose events a target's publisher sends, as the events themselves say.
pub(super) fn user(target: Option<&Target>) -> &str {
    target.map_or("bench", Target::user)
}

impl Sink for Checker {
    fn text(&mut self, client: usize, payload: &[u8]) {
        self.arrived(client, payload);
    }

    fn closed(&mut self, client: usize, reason: &str) {
        self.lost(client, reason);
    }
}
