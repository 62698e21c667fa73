//! Computes rates and percentiles, and their history, from the counts of the last polls. Pure.
//!
//! Rates cover the last seconds before the newest poll, by the server's clock, independent of other clients. If counts
//! went down, or another node behind a balancer answered, everything starts afresh.

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::figures::{Connection, Latency, Status};

/// The interval over which rates are computed.
const WINDOW: SignedDuration = SignedDuration::from_secs(5);
/// Maximum number of polls that a chart shows.
const KEPT: usize = 300;

/// The last polls, and the rates computed from them.
#[derive(Debug, Default)]
pub(super) struct Trend {
    looks: VecDeque<Sample>,
    /// Events accepted and delivered per second, between consecutive polls.
    received: VecDeque<f64>,
    delivered: VecDeque<f64>,
    /// The number of events delivered to each connection, by address, the time of these counts, and the rates per
    /// second.
    connections: HashMap<String, u64>,
    connections_at: Option<Timestamp>,
    per_connection: HashMap<String, f64>,
}

/// The counts from which rates are computed.
#[derive(Debug, Clone)]
struct Sample {
    node: String,
    started: String,
    time: Timestamp,
    received: u64,
    delivered: u64,
    delivered_bytes: u64,
    filter_work: u64,
    latency: Latency,
    busy: Vec<f64>,
}

/// The current rates, as `--json` prints them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Rates {
    pub(super) seconds: f64,
    pub(super) received_per_second: f64,
    pub(super) delivered_per_second: f64,
    pub(super) delivered_bytes_per_second: f64,
    pub(super) filter_work_per_second: f64,
    pub(super) p50_microseconds: Option<u64>,
    pub(super) p90_microseconds: Option<u64>,
    pub(super) p99_microseconds: Option<u64>,
    pub(super) p999_microseconds: Option<u64>,
    /// The fraction of its time that each shard was busy.
    pub(super) busy: Vec<f64>,
}

impl Sample {
    fn of(status: &Status) -> Option<Self> {
        Some(Self {
            node: status.id.clone(),
            started: status.started.clone(),
            time: status.moment()?,
            received: status.received.values().sum(),
            delivered: status.delivered,
            delivered_bytes: status.delivered_bytes,
            filter_work: status.filter_work,
            latency: status.latency.clone(),
            busy: status.shards.iter().map(|shard| shard.busy_seconds).collect(),
        })
    }
}

impl Rates {
    fn between(earlier: &Sample, now: &Sample) -> Self {
        let seconds = now.time.duration_since(earlier.time).as_secs_f64().max(1e-3);
        let rate = |then: u64, now: u64| per_second(now.saturating_sub(then), seconds);
        let quantile = |share| now.latency.quantile_since(&earlier.latency, share);
        let busy = now.busy.iter().zip(&earlier.busy).map(|(now, then)| ((now - then) / seconds).clamp(0.0, 1.0));
        Self {
            seconds,
            received_per_second: rate(earlier.received, now.received),
            delivered_per_second: rate(earlier.delivered, now.delivered),
            delivered_bytes_per_second: rate(earlier.delivered_bytes, now.delivered_bytes),
            filter_work_per_second: rate(earlier.filter_work, now.filter_work),
            p50_microseconds: quantile(0.5),
            p90_microseconds: quantile(0.9),
            p99_microseconds: quantile(0.99),
            p999_microseconds: quantile(0.999),
            busy: busy.collect(),
        }
    }
}

impl Latency {
    /// Returns a quantile of the latencies since an earlier poll, in microseconds: the upper bound of its bucket, the
    /// last bound for values beyond it, `None` without deliveries.
    fn quantile_since(&self, earlier: &Self, share: f64) -> Option<u64> {
        let before = earlier.counts.iter().copied().chain(std::iter::repeat(0));
        let counts: Vec<u64> = self.counts.iter().zip(before).map(|(now, then)| now.saturating_sub(then)).collect();
        #[expect(clippy::cast_precision_loss, reason = "a share of a count is none")]
        let wanted = counts.iter().sum::<u64>() as f64 * share;
        let mut seen = 0;
        let at = counts.iter().position(|count| {
            seen += count;
            #[expect(clippy::cast_precision_loss, reason = "as above")]
            let reached = seen as f64 >= wanted;
            reached && *count > 0
        })?;
        self.bounds_microseconds.get(at).or(self.bounds_microseconds.last()).copied()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is rounded anyway")]
fn per_second(n: u64, seconds: f64) -> f64 {
    n as f64 / seconds
}

/// Appends a rate to a chart.
fn draw(row: &mut VecDeque<f64>, rate: f64) {
    row.push_back(rate);
    row.drain(..row.len().saturating_sub(KEPT));
}

impl Trend {
    /// Adds a poll.
    pub(super) fn add(&mut self, status: &Status) {
        let Some(sample) = Sample::of(status) else { return };
        match self.looks.back() {
            Some(last) if last.node != sample.node || last.started != sample.started || last.time > sample.time => {
                *self = Self::default();
            }
            Some(last) if last.time == sample.time => return,
            Some(last) => {
                let step = Rates::between(last, &sample);
                draw(&mut self.received, step.received_per_second);
                draw(&mut self.delivered, step.delivered_per_second);
            }
            None => {}
        }
        while self.looks.get(1).is_some_and(|look| sample.time.duration_since(look.time) >= WINDOW) {
            self.looks.pop_front();
        }
        self.looks.push_back(sample);
    }

    /// Adds the delivery counts of connections.
    pub(super) fn add_connections(&mut self, connections: &[Connection], now: Option<Timestamp>) {
        let seconds = now.zip(self.connections_at).map(|(now, then)| now.duration_since(then).as_secs_f64());
        let counts: HashMap<String, u64> =
            connections.iter().map(|one| (one.remote_addr.clone(), one.delivered_events)).collect();
        self.per_connection = match seconds {
            Some(seconds) if seconds > 0.0 => {
                let known =
                    counts.iter().filter_map(|(address, now)| Some((address, now, self.connections.get(address)?)));
                known
                    .map(|(address, now, then)| (address.clone(), per_second(now.saturating_sub(*then), seconds)))
                    .collect()
            }
            _ => HashMap::new(),
        };
        (self.connections, self.connections_at) = (counts, now);
    }

    /// Returns the current rates; `None` before the second poll.
    pub(super) fn rates(&self) -> Option<Rates> {
        let (first, last) = (self.looks.front()?, self.looks.back()?);
        (first.time < last.time).then(|| Rates::between(first, last))
    }

    /// Returns the events per second delivered to a connection, if two polls included it.
    pub(super) fn rate_of(&self, connection: &str) -> Option<f64> {
        self.per_connection.get(connection).copied()
    }

    /// Returns the accepted events per second, between consecutive polls.
    pub(super) fn received(&self) -> impl DoubleEndedIterator<Item = f64> + Clone {
        self.received.iter().copied()
    }

    /// Returns the deliveries per second, between consecutive polls.
    pub(super) fn delivered(&self) -> impl DoubleEndedIterator<Item = f64> + Clone {
        self.delivered.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::figures::Shard;
    use super::*;

    fn status(second: i64, delivered: u64) -> Status {
        let counts = vec![delivered, 0, delivered / 100];
        Status {
            id: "a".to_owned(),
            time: Timestamp::from_second(second).unwrap().to_string(),
            delivered,
            latency: Latency { bounds_microseconds: vec![100, 200], counts },
            shards: vec![Shard { busy_seconds: Duration::from_millis(delivered).as_secs_f64(), ..Shard::default() }],
            ..Status::default()
        }
    }

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let mut trend = Trend::default();
        trend.add(&status(100, 1_000_000));
        assert_eq!(trend.rates(), None);
        let mut rate = |second, delivered| {
            trend.add(&status(second, delivered));
            let rates = trend.rates().unwrap();
            (rates.seconds, rates.delivered_per_second, rates.p50_microseconds, rates.p99_microseconds)
        };
        assert_eq!(rate(102, 1_000_200), (2.0, 100.0, Some(100), Some(100)));
        assert_eq!(rate(104, 1_000_400), (4.0, 100.0, Some(100), Some(100)));
        assert_eq!(rate(106, 1_000_700), (6.0, 700.0 / 6.0, Some(100), Some(100)));
        assert_eq!(rate(108, 1_000_700), (6.0, 500.0 / 6.0, Some(100), Some(100)));
        assert_eq!(rate(120, 1_000_700), (12.0, 0.0, None, None));
        assert_eq!(trend.delivered().collect::<Vec<_>>(), [100.0, 100.0, 150.0, 0.0, 0.0]);
    }

    #[test]
    fn shards_are_busy_for_a_share_of_their_time() {
        let mut trend = Trend::default();
        [status(0, 0), status(2, 500)].iter().for_each(|status| trend.add(status));
        assert_eq!(trend.rates().unwrap().busy, [0.25]);
        // One that has moved to another node, and one that has just started again.
        trend.add(&Status { id: "b".to_owned(), ..status(4, 600) });
        assert_eq!(trend.rates(), None);
        trend.add(&status(3, 10));
        assert_eq!((trend.rates(), trend.delivered().count()), (None, 0));
    }

    #[test]
    fn connections_have_a_rate_when_they_have_been_seen_twice() {
        let one = |address: &str, delivered| Connection {
            remote_addr: address.to_owned(),
            delivered_events: delivered,
            ..Connection::default()
        };
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let mut trend = Trend::default();
        trend.add_connections(&[one("a", 10)], at(1));
        trend.add_connections(&[one("a", 30), one("b", 5)], at(3));
        assert_eq!((trend.rate_of("a"), trend.rate_of("b")), (Some(10.0), None));
    }
}
