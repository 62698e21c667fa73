//! Publishes at a given rate, and receives.
//!
//! Open loop: at the given rate, event `n` is due at a fixed time, whether or not earlier ones have been accepted, and
//! latency is measured from that time. A server (or a reader) that stops for a second therefore shows a second, not the
//! single slow event that a closed loop would show (*coordinated omission*).

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hydrant::demo::{DemoEvent, Fleet};
use serde::Serialize;

use super::destination::{Destination, Due};
use super::expect::{Expectations, Interest};
use crate::check::Counts;
use crate::client::{Sink, Swarm};
use crate::latency::{Latencies, Quantiles};
use crate::progress;

/// Maximum number of events in one batch.
const BATCH_MAX: u64 = 256;

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
}

/// One run.
struct Run<'b> {
    bench: &'b mut Bench,
    expectations: Expectations,
    rate: u32,
    busy: u64,
    published: u64,
}

impl Bench {
    /// Publishes `rate` events per second for `seconds`, and waits for the last delivery. The caller adds figures of
    /// the server. `meanwhile` is called about once per second.
    pub(super) fn run(&mut self, rate: u32, seconds: u32, meanwhile: &mut dyn FnMut() -> Result<()>) -> Result<Sample> {
        let (total, visits) = (u64::from(rate) * u64::from(seconds), self.swarm.visits);
        let mut run = self.start(rate)?;
        let begin = Instant::now();
        run.publish_all(total, begin, meanwhile)?;
        run.finish(begin, visits)
    }

    /// Publishes as fast as everything is delivered, for `seconds`.
    pub(super) fn saturate(&mut self, seconds: u32) -> Result<Sample> {
        let visits = self.swarm.visits;
        let mut run = self.start(0)?;
        let begin = Instant::now();
        run.publish_as_taken(begin, Duration::from_secs(u64::from(seconds)))?;
        run.finish(begin, visits)
    }

    /// Answers pings during the turn of another destination. Whatever else arrives then is too late to be counted.
    pub(super) fn stay(&mut self) -> Result<()> {
        self.swarm.poll(Duration::ZERO, &mut Nobody)
    }

    fn start(&mut self, rate: u32) -> Result<Run<'_>> {
        let expectations = Expectations::new(&self.interests, Latencies::new()?);
        Ok(Run { bench: self, expectations, rate, busy: 0, published: 0 })
    }
}

impl Run<'_> {
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

    /// Receives what arrives. Until then the core is left to the publisher, which shares it.
    fn listen(&mut self, timeout: Duration) -> Result<()> {
        self.bench.swarm.wait(timeout)?;
        self.bench.swarm.poll(Duration::ZERO, &mut self.expectations)
    }

    fn is_answered(&mut self, since: Instant) -> Result<bool> {
        let answer = self.bench.destination.answered()?;
        ensure!(answer.is_some() || since.elapsed() < TIMEOUT, "the server did not answer a POST in time");
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
            let event = self.bench.fleet.step();
            let bytes = self.bytes(&event);
            let receivers = self.expectations.publish(event, due);
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
    fn finish(mut self, begin: Instant, visits: u64) -> Result<Sample> {
        let deadline = Instant::now() + TIMEOUT;
        while self.expectations.outstanding > 0 && Instant::now() < deadline {
            self.bench.swarm.poll(TICK, &mut self.expectations)?;
        }
        self.expectations.give_up();
        let counts = self.expectations.counts;
        #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let frames_by_read = counts.received as f64 / (self.bench.swarm.visits - visits).max(1) as f64;
        Ok(Sample {
            rate: self.rate,
            events: self.published,
            seconds: begin.elapsed().as_secs_f64(),
            latency: self.expectations.latencies.quantiles(),
            nines: self.expectations.latencies.nines(),
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
