//! `/api/v3/hydrant/status` and `/api/v3/hydrant/registrations`: the state of the broker and the activity of
//! registrations.
//!
//! | route | claim |
//! |---|---|
//! | `GET /hydrant/status` | connections/list, and no tenant |
//! | `GET /hydrant/registrations` (`sort=hits`, `deliveries` or `work`; `limit=N`) | connections/list, and no tenant |
//! | `GET /hydrant/registrations?connection=ADDR:PORT` | connections/get |
//!
//! Contract: a request costs the shards what one turn can spare, however many clients send one; clients that permit it
//! share the answer ([`super::snapshot`]). Rates cover the last few seconds and are computed from earlier requests: a
//! page that polls every two seconds gets the rates of the last five or six.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

use super::answer::{self, Incomplete};
use super::snapshot::{Snapshot, permitted_age};
use super::{Api, ApiError, at_length, check, query};
use crate::auth::Identity;
use crate::clock;
use crate::cluster;
use crate::endpoint::{events, identity};
use crate::fanout::report::Registration;
use crate::index::Measure;
use crate::metrics::Summary;
use crate::transport::listener::Answer;

/// The period that rates cover, if there was a request that long ago.
const WINDOW: Duration = Duration::from_secs(5);

/// Minimum interval between two samples.
const APART: Duration = Duration::from_secs(1);

/// The time for which a list of all registrations is reused, unless the caller permits a longer time.
const FRESH: Duration = Duration::from_secs(1);

/// The connections around the broker, known once the server runs.
#[derive(Debug, Default)]
pub struct Around {
    /// The links to endpoints.
    pub upstreams: Vec<Arc<events::Health>>,
    /// The connection to NATS.
    pub nats: Option<Arc<cluster::Health>>,
}

/// The samples and lists that status requests share.
#[derive(Debug)]
pub(super) struct Status {
    started: Timestamp,
    around: OnceLock<Around>,
    looks: Mutex<VecDeque<(Instant, Sample)>>,
    /// The latest status, as JSON.
    report: Snapshot<Bytes>,
    /// The latest list for each measure, as JSON of each registration; one request at a time computes it.
    busiest: [Snapshot<BusiestList>; 3],
}

/// The most active registrations by one measure.
#[derive(Debug)]
struct BusiestList {
    /// Each registration as JSON.
    registrations: Vec<String>,
    /// Whether their names were compared with those of events.
    is_compared: bool,
}

/// The counters from which rates are computed.
#[derive(Debug, Clone, Default)]
struct Sample {
    received: u64,
    delivered: u64,
    delivered_bytes: u64,
    filter_work: u64,
    latency: crate::metrics::Histogram,
}

impl Sample {
    fn of(summary: &Summary) -> Self {
        Self {
            received: summary.received.values().sum(),
            delivered: summary.delivered,
            delivered_bytes: summary.delivered_bytes,
            filter_work: summary.filter_work,
            latency: summary.latency.clone(),
        }
    }
}

/// The body of `/hydrant/status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    version: &'static str,
    id: String,
    started: String,
    time: String,
    sequence: String,
    history_from: Option<String>,
    rates: Rates,
    #[serde(flatten)]
    summary: Summary,
    upstreams: Vec<events::Report>,
    nats: Option<cluster::Report>,
    identity: Option<identity::Report>,
}

/// Rates over a recent period.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Rates {
    /// The length of the period in seconds.
    seconds: f64,
    received_per_second: f64,
    delivered_per_second: f64,
    delivered_bytes_per_second: f64,
    filter_work_per_second: f64,
    /// `None` if nothing was delivered.
    p50_microseconds: Option<u64>,
    p99_microseconds: Option<u64>,
}

impl Rates {
    fn between(earlier: &Sample, now: &Sample, time: Duration) -> Self {
        let seconds = time.as_secs_f64().max(1e-3);
        #[expect(clippy::cast_precision_loss, reason = "a rate is rounded anyway")]
        let rate = |then: u64, now: u64| (now.saturating_sub(then) as f64 / seconds * 10.0).round() / 10.0;
        let latency = now.latency.since(&earlier.latency);
        Self {
            seconds: (seconds * 10.0).round() / 10.0,
            received_per_second: rate(earlier.received, now.received),
            delivered_per_second: rate(earlier.delivered, now.delivered),
            delivered_bytes_per_second: rate(earlier.delivered_bytes, now.delivered_bytes),
            filter_work_per_second: rate(earlier.filter_work, now.filter_work),
            p50_microseconds: latency.quantile(0.5),
            p99_microseconds: latency.quantile(0.99),
        }
    }
}

impl Status {
    /// Creates the status, with an empty first sample.
    pub(super) fn new(now: Instant) -> Self {
        let looks = VecDeque::from([(now, Sample::default())]);
        Self {
            started: clock::now(),
            around: OnceLock::new(),
            looks: Mutex::new(looks),
            report: Snapshot::default(),
            busiest: Default::default(),
        }
    }

    /// Adds a sample. Returns the rates since an earlier one.
    fn look(&self, now: Instant, sample: Sample) -> Rates {
        let mut looks = self.looks.lock();
        // Keep the last sample older than the window, and those after it.
        while looks.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            looks.pop_front();
        }
        let rates =
            looks.front().map(|(at, earlier)| Rates::between(earlier, &sample, now.saturating_duration_since(*at)));
        let rates = rates.unwrap_or_else(|| Rates::between(&Sample::default(), &sample, APART));
        if looks.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= APART) {
            looks.push_back((now, sample));
        }
        rates
    }
}

impl Api {
    /// Sets the connections around the broker; can be called once.
    pub fn set_around(&self, around: Around) {
        if self.status.around.set(around).is_err() {
            tracing::error!("bug: the status surroundings were set twice");
        }
    }

    pub(super) async fn get_status(&self, headers: &HeaderMap, identity: &Identity) -> Result<Answer, ApiError> {
        self.require(identity, "connections", "list", "*")?;
        if self.authority.access(identity)?.has_tenant() {
            return Err(ApiError::OfAll("the status covers all connections, so users of a tenant cannot read it"));
        }
        let report = || std::future::ready(Ok(Bytes::from(written(&self.report()))));
        let report = self.status.report.get(permitted_age(headers), report).await?;
        Ok(answer::json(StatusCode::OK, Bytes::clone(&*report)))
    }

    fn report(&self) -> Report {
        let summary = self.broker.metrics().summary(&self.pool.connection_counts(), &self.broker.queued());
        let rates = self.status.look(Instant::now(), Sample::of(&summary));
        let none = Around::default();
        let around = self.status.around.get().unwrap_or(&none);
        Report {
            version: env!("CARGO_PKG_VERSION"),
            id: self.about.id.clone(),
            started: self.status.started.to_string(),
            time: clock::now().to_string(),
            sequence: self.broker.history().position().to_string(),
            history_from: self.broker.history().oldest().map(|time| time.to_string()),
            rates,
            summary,
            upstreams: around.upstreams.iter().map(|health| health.report()).collect(),
            nats: around.nats.as_ref().map(|health| health.report()),
            identity: self.delegation.as_ref().map(|delegation| delegation.report()),
        }
    }

    pub(super) async fn list_registrations(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        identity: &Identity,
    ) -> Result<Answer, ApiError> {
        if let Some(address) = query::value(query, "connection") {
            let found = self.inspect(&address, identity).await?;
            return Ok(self.at_length(|| json(&found.registrations)));
        }
        self.require(identity, "connections", "list", "*")?;
        if self.authority.access(identity)?.has_tenant() {
            let message = "users of a tenant can read only the registrations of one connection: add \
                ?connection=ADDR:PORT";
            return Err(ApiError::OfAll(message));
        }
        let (measure, limit) = (measure(query)?, query::limit(query)?);
        let all = self.busiest(measure, permitted_age(headers).max(FRESH)).await?;
        let list = &all.registrations[..all.registrations.len().min(limit)];
        Ok(answer::list(list, (!all.is_compared).then_some(Incomplete::Warnings)))
    }

    /// Returns the most active registrations of all shards, each as JSON, from a list that is at most `age` old.
    async fn busiest(&self, measure: Measure, age: Duration) -> Result<Arc<BusiestList>, ApiError> {
        let (pool, broker) = (Arc::clone(&self.pool), Arc::clone(&self.broker));
        let find = || async move {
            let found = pool.registrations(measure).await?;
            broker.wake_shards();
            let mut all = merge(found, measure);
            let seen = pool.seen().await;
            at_length(&broker, || check::warn(&mut all, seen.as_ref()));
            let text = |one: &Registration| serde_json::to_string(one).expect("texts and numbers are always written");
            let registrations = all.iter().map(text).collect();
            Ok(BusiestList { registrations, is_compared: seen.is_some() })
        };
        Ok(self.status.busiest[measure as usize].get(age, find).await?)
    }
}

/// Merges the statistics of one registration from different shards and from groups with different rights.
fn merge(found: Vec<Registration>, measure: Measure) -> Vec<Registration> {
    let mut by_spec: HashMap<Box<str>, Registration> = HashMap::new();
    for one in found {
        let Some(known) = by_spec.get_mut(&one.spec) else {
            by_spec.insert(one.spec.clone(), one);
            continue;
        };
        // Each shard matches each event, so all of them count the same hits.
        known.hits = known.hits.max(one.hits);
        known.deliveries += one.deliveries;
        known.filter_work += one.filter_work;
        known.shared += one.shared;
        known.last_hit = known.last_hit.take().max(one.last_hit);
    }
    let mut all: Vec<Registration> = by_spec.into_values().collect();
    all.sort_by(|a, b| {
        let by = |one: &Registration| match measure {
            Measure::Hits => one.hits,
            Measure::Deliveries => one.deliveries,
            Measure::Work => one.filter_work,
        };
        by(b).cmp(&by(a)).then_with(|| a.spec.cmp(&b.spec))
    });
    all
}

fn measure(query: Option<&str>) -> Result<Measure, ApiError> {
    match query::value(query, "sort").as_deref() {
        None | Some("hits") => Ok(Measure::Hits),
        Some("deliveries") => Ok(Measure::Deliveries),
        Some("work") => Ok(Measure::Work),
        Some(_) => Err(ApiError::Bad("sort must be hits, deliveries or work".to_owned())),
    }
}

fn json(report: &impl Serialize) -> Answer {
    answer::json(StatusCode::OK, written(report))
}

fn written(report: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(report).expect("texts and numbers are always written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let begun = Instant::now();
        let status = Status::new(begun);
        let sample = |received| Sample { received, ..Sample::default() };
        let at = |seconds| begun + Duration::from_secs(seconds);
        let look = |seconds, received| {
            let rates = status.look(at(seconds), sample(received));
            (rates.seconds, rates.received_per_second)
        };
        assert_eq!(look(10, 100), (10.0, 10.0), "since the start");
        assert_eq!(look(12, 120), (12.0, 10.0));
        assert_eq!(look(15, 1100), (5.0, 200.0));
        assert_eq!(look(16, 1101), (6.0, 166.8));
        assert_eq!(look(17, 1120), (5.0, 200.0));
        assert!(status.looks.lock().len() < 6);
    }
}
