//! The figures of a broker that `top` shows. A figure that an older or newer server does not send is zero or missing;
//! it is not an error.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

/// The response of `/api/v3/hydrant/status`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) id: String,
    pub(super) started: String,
    pub(super) time: String,
    pub(super) sequence: String,
    pub(super) history_from: Option<String>,
    pub(super) connections: i64,
    pub(super) registrations: i64,
    pub(super) received: BTreeMap<String, u64>,
    pub(super) refused: u64,
    pub(super) delivered: u64,
    pub(super) delivered_bytes: u64,
    pub(super) dropped: BTreeMap<String, u64>,
    pub(super) conflated: u64,
    pub(super) slow_consumers: BTreeMap<String, u64>,
    pub(super) disconnects: BTreeMap<String, u64>,
    pub(super) rejected: BTreeMap<String, u64>,
    pub(super) filter_work: u64,
    pub(super) queue: Queue,
    pub(super) shards: Vec<Shard>,
    pub(super) latency: Latency,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) nats: Option<Nats>,
    pub(super) identity: Option<IdentitySource>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Queue {
    pub(super) events: i64,
    pub(super) bytes: i64,
    pub(super) deepest_bytes: u64,
    pub(super) oldest_milliseconds: u64,
    pub(super) inbox_events: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Shard {
    pub(super) events: u64,
    pub(super) busy_seconds: f64,
    pub(super) longest_turn_milliseconds: f64,
}

/// The histogram of delivery latencies.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Latency {
    pub(super) bounds_microseconds: Vec<u64>,
    pub(super) counts: Vec<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Upstream {
    pub(super) endpoint: String,
    pub(super) connected: bool,
    pub(super) since: String,
    pub(super) error: String,
    pub(super) gaps: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Nats {
    pub(super) connected: bool,
    pub(super) since: String,
    pub(super) error: Option<String>,
    pub(super) stream: Option<NatsStream>,
    pub(super) lost_in: u64,
    pub(super) lost_out: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct NatsStream {
    pub(super) name: String,
    pub(super) usable: bool,
    pub(super) since: String,
    pub(super) error: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct IdentitySource {
    pub(super) endpoint: String,
    pub(super) readable: bool,
    pub(super) since: String,
    pub(super) error: String,
}

/// An entry of `/api/v3/connections`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Connection {
    pub(super) create_time: String,
    pub(super) principal: String,
    pub(super) remote_addr: String,
    pub(super) registrations: u64,
    pub(super) queued_bytes: u64,
    pub(super) delivered_events: u64,
    pub(super) dropped_events: u64,
    pub(super) queued_age_milliseconds: u64,
    pub(super) encoding: Option<String>,
    pub(super) overflow: Option<String>,
}

/// An entry of `/api/v3/hydrant/registrations`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Registration {
    pub(super) spec: String,
    pub(super) hits: u64,
    pub(super) deliveries: u64,
    pub(super) last_hit: Option<String>,
    pub(super) shared: u64,
    pub(super) filter_work: u64,
    pub(super) filter_bytes: u64,
}

impl Status {
    /// Returns the time of this status, by the server's clock.
    pub(super) fn moment(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }

    /// Returns the seconds between a time of the server's clock and this status.
    pub(super) fn seconds_since(&self, time: &str) -> Option<f64> {
        let then: Timestamp = time.parse().ok()?;
        Some(self.moment()?.duration_since(then).as_secs_f64().max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_does_not_tell_is_no_error() {
        let status: Status = serde_json::from_str(r#"{"Version":"9","Nats":null,"New":[1],"Queue":{}}"#).unwrap();
        assert_eq!((status.version.as_str(), status.queue.events, status.nats.is_none()), ("9", 0, true));
        assert_eq!(status.seconds_since("2026-01-01T00:00:00Z"), None);
        let status = Status { time: "2026-01-01T00:00:10Z".to_owned(), ..status };
        assert_eq!(status.seconds_since("2026-01-01T00:00:00Z"), Some(10.0));
        let runner: Connection = serde_json::from_str(r#"{"Type":"api","RemoteAddr":"1.2.3.4:5"}"#).unwrap();
        assert_eq!((runner.remote_addr.as_str(), runner.overflow), ("1.2.3.4:5", None));
    }
}
