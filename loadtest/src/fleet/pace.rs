//! Publishes at a given rate, and receives.
//!
//! Open loop: at the given rate, event `n` is due at a fixed time, whether or not earlier ones have been accepted, and
//! latency is measured from that time. A server (or a reader) that stops for a second therefore shows a second, not the
//! single slow event that a closed loop would show (*coordinated omission*).
//!
//! Events are made, and their receivers found, before the run, so that this costs the readers' core nothing while it is
//! measured; beyond [`PREPARED_BYTES`] it is done while the run goes on.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hydrant::demo::{DemoEvent, Fleet};
use serde::Serialize;

use super::destination::{Destination, Due};
use super::expect::{Expectations, Interest, Prepared};
use crate::check::Counts;
use crate::client::{Sink, Swarm};
use crate::cpu;
use crate::latency::{Latencies, Quantiles};
use crate::progress;

/// Maximum number of events in one batch.
const BATCH_MAX: u64 = 256;

/// Maximum length of all texts of the events that are prepared before a run.
const PREPARED_BYTES: usize = 512 << 20;

/// Time limit for a batch, or for the last deliveries.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Interval at which `meanwhile` is called; pings must be answered within some seconds.
const MEANWHILE: Duration = Duration::from_secs(1);

/// Maximum wait for a socket; shorter than relevant latencies.
const TICK: Duration = Duration::from_millis(2);

/// The result of one run at one rate.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Requested events per second; 0: as many as possible.
    pub rate: u32,
    /// Number of events published.
    pub events: u64,
    /// Wall-clock time from the first due event to the last delivery.
    pub seconds: f64,
    /// Latency from the time an event was due to each of its deliveries.
    pub latency: Quantiles,
    /// Latency in microseconds by number of nines.
    pub nines: Vec<(f64, u64)>,
    /// Time from when an event was due until it was sent.
    pub until_sent: Quantiles,
    /// Time from when a batch was sent until it was accepted.
    pub until_accepted: Quantiles,
    /// The bound that 99 % of the server's own latencies do not exceed, in microseconds: from intake until the kernel.
    pub inside_p99: Option<u64>,
    /// Share of one core that the generator itself used.
    pub generator_share: f64,
    /// Frames per read of a connection: roughly the effective K.
    pub frames_by_read: f64,
    /// CPU time per delivery; `None` if the process is not known.
    pub micros_per_delivery: Option<f64>,
    /// Share of one core.
    pub core_share: Option<f64>,
    /// Resident memory in bytes.
    pub resident: Option<u64>,
    /// Number of times that the server answered 429.
    pub busy: u64,
    /// What was received, and what was wrong with it.
    pub counts: Counts,
    /// The reason why the first lost connection was lost.
    pub first_error: Option<String>,
}

/// The clients, and the destination of events.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) fleet: Fleet,
    pub(super) interests: Vec<Interest>,
    pub(super) swarm: Swarm,
    pub(super) destination: Destination,
    /// The clients that lost their connection, which a run has counted: nobody expects anything of them any more.
    pub(super) lost: HashSet<usize>,
}

/// One run.
struct Run<'b> {
    bench: &'b mut Bench,
    expectations: Expectations,
    prepared: VecDeque<(Prepared, Arc<[u8]>)>,
    until_sent: Latencies,
    until_accepted: Latencies,
    rate: u32,
    busy: u64,
    published: u64,
}

/// When a run began.
struct Begun {
    at: Instant,
    /// The CPU time of this thread.
    cpu: Duration,
    /// How often connections were read.
    visits: u64,
}

impl Bench {
    /// Publishes `rate` events per second for `seconds`, and waits for the last delivery. The caller adds figures of
    /// the server. `meanwhile` is called about once per second.
    pub(super) fn run(&mut self, rate: u32, seconds: u32, meanwhile: &mut dyn FnMut() -> Result<()>) -> Result<Sample> {
        let total = u64::from(rate) * u64::from(seconds);
        let mut run = self.start(rate, total)?;
        let begun = run.begin()?;
        run.publish_all(total, begun.at, meanwhile)?;
        run.finish(&begun)
    }

    /// Publishes as fast as everything is delivered, for `seconds`.
    pub(super) fn saturate(&mut self, seconds: u32) -> Result<Sample> {
        let mut run = self.start(0, u64::MAX)?;
        let begun = run.begin()?;
        run.publish_as_taken(begun.at, Duration::from_secs(u64::from(seconds)))?;
        run.finish(&begun)
    }

    /// Answers pings during the turn of another destination. Whatever else arrives then is too late to be counted.
    pub(super) fn stay(&mut self) -> Result<()> {
        self.swarm.poll(Duration::ZERO, &mut Nobody)
    }

    /// Prepares a run of at most `most` events.
    fn start(&mut self, rate: u32, most: u64) -> Result<Run<'_>> {
        let mut expectations = Expectations::new(&self.interests, Latencies::new()?);
        for client in (0..self.interests.len()).filter(|&client| !self.swarm.is_open(client)) {
            if self.lost.insert(client) {
                expectations.lost(client, "the connection ended between two runs");
            } else {
                expectations.leave_out(client);
            }
        }
        let (until_sent, until_accepted) = (Latencies::new()?, Latencies::new()?);
        let prepared = VecDeque::new();
        let mut run =
            Run { bench: self, expectations, prepared, until_sent, until_accepted, rate, busy: 0, published: 0 };
        let mut bytes = 0;
        while (run.prepared.len() as u64) < most && bytes < PREPARED_BYTES {
            let prepared = run.prepare();
            bytes += prepared.1.len();
            run.prepared.push_back(prepared);
        }
        Ok(run)
    }
}

impl Run<'_> {
    fn begin(&self) -> Result<Begun> {
        Ok(Begun { at: Instant::now(), cpu: cpu::thread_time()?, visits: self.bench.swarm.visits })
    }

    /// Makes the next event of the fleet.
    fn prepare(&mut self) -> (Prepared, Arc<[u8]>) {
        let event = self.bench.fleet.step();
        let bytes = self.bytes(&event);
        (self.expectations.prepare(event), bytes)
    }

    fn publish_all(&mut self, total: u64, begin: Instant, meanwhile: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let bar = progress::bar(total, "publishing");
        let mut called = begin;
        let mut waiting_since = None;
        while self.published < total || waiting_since.is_some() {
            if let Some(since) = waiting_since
                && self.is_answered(since)?
            {
                waiting_since = None;
            }
            if waiting_since.is_none() && self.publish_due(total, begin)? {
                waiting_since = Some(Instant::now());
                bar.set_position(self.published);
            }
            if called.elapsed() > MEANWHILE {
                called = Instant::now();
                meanwhile()?;
            }
            // While an answer is pending nothing can be published, even if it is due: only the answer ends the wait.
            let due = self.due(begin, self.published).saturating_duration_since(Instant::now());
            let waits = waiting_since.is_some() && self.bench.destination.answers_late();
            self.listen(if waits { TICK } else { due.min(TICK) })?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Keeps two batches in progress, so that the server never waits for the publisher.
    fn publish_as_taken(&mut self, begin: Instant, time: Duration) -> Result<()> {
        let mut waiting_since = None;
        let mut window = u64::MAX;
        while begin.elapsed() < time || waiting_since.is_some() {
            if let Some(since) = waiting_since
                && self.is_answered(since)?
            {
                waiting_since = None;
            }
            let is_free = waiting_since.is_none() && self.expectations.outstanding <= window;
            if is_free && begin.elapsed() < time {
                let before = self.expectations.outstanding;
                self.publish(BATCH_MAX, |_| Some(Instant::now()))?;
                window = self.expectations.outstanding - before;
                waiting_since = Some(Instant::now());
            }
            self.listen(if is_free { Duration::ZERO } else { TICK })?;
        }
        Ok(())
    }

    /// Receives what arrives.
    fn listen(&mut self, timeout: Duration) -> Result<()> {
        self.bench.swarm.wait(timeout)?;
        self.bench.swarm.poll(Duration::ZERO, &mut self.expectations)
    }

    fn is_answered(&mut self, since: Instant) -> Result<bool> {
        let answer = self.bench.destination.answered()?;
        ensure!(answer.is_some() || since.elapsed() < TIMEOUT, "the server did not answer a POST in time");
        if answer.is_some() && self.bench.destination.answers_late() {
            self.until_accepted.record(since.elapsed());
        }
        self.busy += u64::from(answer.unwrap_or(0));
        Ok(answer.is_some())
    }

    /// Returns when event `number` is due.
    fn due(&self, begin: Instant, number: u64) -> Instant {
        begin + Duration::from_secs(number) / self.rate
    }

    /// Sends due events, if there are any.
    fn publish_due(&mut self, total: u64, begin: Instant) -> Result<bool> {
        let (now, rate) = (Instant::now(), self.rate);
        self.publish(BATCH_MAX, |number| {
            let due = begin + Duration::from_secs(number) / rate;
            (number < total && due <= now).then_some(due)
        })
    }

    /// Sends the next events as long as `due` returns when they were due, at most `most`.
    fn publish(&mut self, most: u64, due: impl Fn(u64) -> Option<Instant>) -> Result<bool> {
        let mut batch = Vec::new();
        for _ in 0..most {
            let Some(due) = due(self.published) else { break };
            let (event, bytes) = self.prepared.pop_front().unwrap_or_else(|| self.prepare());
            let receivers = self.expectations.publish(event, due);
            self.until_sent.record(due.elapsed());
            batch.push(Due { bytes, receivers });
            self.published += 1;
        }
        if batch.is_empty() {
            return Ok(false);
        }
        self.bench.destination.send(batch)?;
        Ok(true)
    }

    fn bytes(&self, event: &DemoEvent) -> Arc<[u8]> {
        match self.bench.destination {
            Destination::Server(_) => {
                let mut text = Vec::new();
                event.write_json(&mut text);
                text.into()
            }
            Destination::Floor(_) => event.draft().seal(hydrant::clock::now()).frame().into(),
        }
    }

    /// Waits for the last deliveries.
    fn finish(mut self, begun: &Begun) -> Result<Sample> {
        let deadline = Instant::now() + TIMEOUT;
        while self.expectations.outstanding > 0 && Instant::now() < deadline {
            self.bench.swarm.poll(TICK, &mut self.expectations)?;
        }
        self.expectations.give_up();
        let Bench { interests, swarm, lost, .. } = &mut *self.bench;
        lost.extend((0..interests.len()).filter(|&client| !swarm.is_open(client)));
        let counts = self.expectations.counts;
        #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let frames_by_read = counts.received as f64 / (self.bench.swarm.visits - begun.visits).max(1) as f64;
        let seconds = begun.at.elapsed().as_secs_f64();
        Ok(Sample {
            rate: self.rate,
            events: self.published,
            seconds,
            latency: self.expectations.latencies.quantiles(),
            nines: self.expectations.latencies.nines(),
            until_sent: self.until_sent.quantiles(),
            until_accepted: self.until_accepted.quantiles(),
            inside_p99: None,
            generator_share: cpu::thread_time()?.saturating_sub(begun.cpu).as_secs_f64() / seconds,
            frames_by_read,
            micros_per_delivery: None,
            core_share: None,
            resident: None,
            busy: self.busy,
            counts,
            first_error: self.expectations.first_error,
        })
    }
}

/// Ignores everything.
struct Nobody;

impl Sink for Nobody {
    fn text(&mut self, _client: usize, _payload: &[u8]) {}

    fn closed(&mut self, _client: usize, _reason: &str) {}
}

impl Sink for Expectations {
    fn text(&mut self, client: usize, payload: &[u8]) {
        self.arrived(client, payload, Instant::now());
    }

    fn closed(&mut self, client: usize, reason: &str) {
        self.lost(client, reason);
    }
}
