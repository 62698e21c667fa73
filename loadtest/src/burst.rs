//! The closed loop against a server: publish K events by one POST, wait until every client has got them, again.
//!
//! Rounds of all sizes and K are interleaved, and in each the floor is measured directly after the server with the same
//! number of connections, sizes and K. The server's CPU time is that of the whole process, so it includes taking the
//! POST, checking and matching. It is divided by deliveries received and checked, not by writes.
//!
//! Why closed: with a fixed rate a slow server coalesces more and looks better by delivery; here K is what it says.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hydrant::event::Event;

use crate::args::{BurstArgs, FloorArgs, Work};
use crate::check::{Checker, Counts};
use crate::client::{Sink, Swarm};
use crate::cpu::{self, Cores};
use crate::endpoint::Endpoint;
use crate::floor::{Bounds, Floor, Measured};
use crate::payload::{self, KIND, Payloads, Spread};
use crate::progress;
use crate::publish::Publisher;
use crate::report::{Case, Machine, Report, Round, Side};
use crate::session::Session;

/// Files besides those of the connections.
const OTHER_FILES: u64 = 128;

/// How long all registrations together may take.
const REGISTRATION: Duration = Duration::from_mins(1);

/// How long the last events are listened for duplicates.
const AFTERMATH: Duration = Duration::from_millis(300);

/// Runs `floor`.
///
/// # Errors
/// The machine cannot do it.
pub fn run_floor(args: &FloorArgs) -> Result<Report> {
    let cores = args.work.checked()?;
    let machine = Machine::here();
    cpu::raise_file_limit(u64::from(args.work.connections) * 2 + OTHER_FILES)?;
    let mut floor = Floor::new(args.work.clients(), cores)?;
    let mut cases = works(&args.work, "floor")?;
    let bar = progress::bar(u64::from(args.work.rounds) * cases.len() as u64, "measuring");
    for _ in 0..args.work.rounds {
        for case in &mut cases {
            let measured = floor.measure(&case.frames, case.spread, args.work.bounds())?;
            case.result.counts.received += measured.deliveries;
            case.result.rounds.push(Round { server: None, floor: Some(measured.into()) });
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(report("floor", &args.work, serde_json::Value::Null, machine, cases))
}

/// Runs `burst`. Faults of the server are in the report's counts.
///
/// # Errors
/// The server cannot be started or reached, or refuses.
pub fn run(args: &BurstArgs) -> Result<Report> {
    let cores = args.work.checked()?;
    let machine = Machine::here();
    cpu::raise_file_limit(u64::from(args.work.connections) * 3 + OTHER_FILES)?;
    let session = Session::open(&args.target, cores)?;
    measure(args, cores, &session, machine).map_err(|error| session.explain(error))
}

fn measure(args: &BurstArgs, cores: Cores, session: &Session, machine: Machine) -> Result<Report> {
    let mut measuring = Loop::start(args, cores, session)?;
    let mut cases = works(&args.work, args.target.user())?;
    let bar = progress::bar(u64::from(args.work.rounds) * cases.len() as u64, "measuring");
    'rounds: for _ in 0..args.work.rounds {
        for case in &mut cases {
            if !measuring.round(case)? {
                break 'rounds;
            }
            bar.inc(1);
        }
    }
    if let Some(last) = cases.last_mut() {
        measuring.listen(last)?;
    }
    bar.finish_and_clear();
    Ok(report("burst", &args.work, session.info.clone(), machine, cases))
}

fn report(work: &'static str, args: &Work, server: serde_json::Value, machine: Machine, cases: Vec<Piece>) -> Report {
    let settings = serde_json::json!({
        "connections": args.connections, "payload": args.payload, "k": args.k, "rounds": args.rounds,
        "seconds": args.seconds, "turns": args.turns, "selective": args.selective,
        "place": args.place,
    });
    let cases = cases.into_iter().map(Piece::finish).collect();
    Report { work, settings, machine, server, cases }
}

/// One size and K.
struct Piece {
    spread: Spread,
    frames: Vec<Event>,
    checker: Checker,
    result: Case,
}

impl Piece {
    fn finish(mut self) -> Case {
        self.result.counts.add(&self.checker.counts);
        self.result.trouble = self.checker.trouble;
        self.result
    }
}

/// Every payload with every K.
fn works(work: &Work, user: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for &payload in &work.payload {
        for &k in &work.k {
            pieces.push(piece(work, user, payload, k)?);
        }
    }
    Ok(pieces)
}

fn piece(work: &Work, user: &str, payload: usize, k: u64) -> Result<Piece> {
    let clients = work.clients();
    let spread = if work.selective { Spread::One { clients: clients as u64 } } else { Spread::All };
    let payloads = Payloads::new(payload, user, spread)?;
    let frames = (0..k).map(|at| payloads.sealed(at)).collect();
    let checker =
        if work.selective { Checker::for_one(payloads, clients) } else { Checker::for_all(payloads, clients) };
    let result = Case {
        payload,
        k,
        connections: clients,
        selective: work.selective,
        rounds: Vec::new(),
        counts: Counts::default(),
        busy: 0,
        trouble: None,
    };
    Ok(Piece { spread, frames, checker, result })
}

/// Everything that a round needs.
struct Loop<'s> {
    swarm: Swarm,
    publisher: Publisher,
    floor: Option<Floor>,
    bounds: Bounds,
    patience: Duration,
    session: &'s Session,
}

impl<'s> Loop<'s> {
    fn start(args: &BurstArgs, cores: Cores, session: &'s Session) -> Result<Self> {
        let floor = if args.no_floor { None } else { Some(Floor::new(args.work.clients(), cores)?) };
        cpu::pin(cores.client)?;
        Ok(Self {
            swarm: registered(&session.endpoint, args)?,
            publisher: Publisher::start(&session.endpoint, cores.client)?,
            floor,
            bounds: args.work.bounds(),
            patience: Duration::from_secs(args.turn_timeout),
            session,
        })
    }

    /// One round of the server and one of the floor; false if the server has lost something, and it makes no sense to
    /// go on.
    fn round(&mut self, piece: &mut Piece) -> Result<bool> {
        let Some(measured) = self.server_round(piece)? else { return Ok(false) };
        let floor = match &mut self.floor {
            Some(floor) => Some(floor.measure(&piece.frames, piece.spread, self.bounds)?),
            None => None,
        };
        let known = self.session.cpu()?.is_some();
        let server = known.then(|| Side::from(measured));
        piece.result.rounds.push(Round { server, floor: floor.map(Side::from) });
        Ok(true)
    }

    fn server_round(&mut self, piece: &mut Piece) -> Result<Option<Measured>> {
        if !self.turn(piece)? {
            return Ok(None);
        }
        let received = piece.checker.counts.received;
        let (begin, cpu) = (Instant::now(), self.cpu()?);
        let mut turns = 0;
        while turns < self.bounds.turns && (turns == 0 || begin.elapsed() < self.bounds.time) {
            if !self.turn(piece)? {
                return Ok(None);
            }
            turns += 1;
        }
        let (elapsed, cpu) = (begin.elapsed(), self.cpu()?.saturating_sub(cpu));
        Ok(Some(Measured { turns, deliveries: piece.checker.counts.received - received, cpu, elapsed }))
    }

    fn cpu(&self) -> Result<Duration> {
        Ok(self.session.cpu()?.unwrap_or_default())
    }

    /// One turn; false if not everything has come.
    fn turn(&mut self, piece: &mut Piece) -> Result<bool> {
        let body = piece.checker.begin(piece.result.k);
        let deadline = Instant::now() + self.patience;
        self.publisher.send(body)?;
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
            None => self.publisher.answered(self.patience)?.context("the server does not answer a POST")?,
        };
        piece.result.busy += u64::from(published.busy);
        Ok(piece.checker.counts.closed == 0)
    }

    /// Whatever else comes is too much.
    fn listen(&mut self, piece: &mut Piece) -> Result<()> {
        let end = Instant::now() + AFTERMATH;
        while Instant::now() < end {
            self.swarm.poll(Duration::from_millis(50), &mut piece.checker)?;
        }
        Ok(())
    }
}

fn registered(endpoint: &Endpoint, args: &BurstArgs) -> Result<Swarm> {
    let bar = progress::bar(u64::from(args.work.connections), "connecting");
    let mut swarm = Swarm::connect(endpoint, args.work.clients(), &mut || bar.inc(1))?;
    bar.finish_and_clear();
    if swarm.is_empty() {
        bail!("there are no clients");
    }
    let all = args.spec.clone().unwrap_or_else(|| format!("{KIND}.*.*"));
    let own = |client: usize| format!("{KIND}.*.{}", payload::client_key(client as u64));
    let spec = |client: usize| if args.work.selective { own(client) } else { all.clone() };
    swarm.register(REGISTRATION, spec)?;
    Ok(swarm)
}

impl Sink for Checker {
    fn text(&mut self, client: usize, payload: &[u8]) {
        self.arrived(client, payload);
    }

    fn closed(&mut self, client: usize, reason: &str) {
        self.lost(client, reason);
    }
}
