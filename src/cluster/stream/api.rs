//! The management requests to `JetStream`: querying and creating a stream.
//!
//! Requests and answers are JSON on subjects below `$JS.API`; only the fields that are needed are read and written.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::timeout;

use super::options::StreamOptions;
use crate::cluster::nats::headers;
use crate::cluster::nats::requests::{AwayError, Requests};

/// Time limit for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Error codes of `JetStream`.
pub(super) mod code {
    pub(in crate::cluster::stream) const NOT_ENABLED: [u64; 2] = [10_076, 10_039];
    pub(in crate::cluster::stream) const NOT_FOUND: u64 = 10_059;
    pub(in crate::cluster::stream) const OVERLAP: u64 = 10_065;
    pub(in crate::cluster::stream) const NAME_EXISTS: u64 = 10_058;
    /// No leader, or no servers for the replicas: a cluster that has just been started has none yet.
    pub(in crate::cluster::stream) const CLUSTER_AWAY: [u64; 2] = [10_008, 10_005];
    /// Errors about a configuration although their status is that of a server's error: more replicas than a server
    /// without a cluster has, an invalid configuration, and one beyond the account's limits.
    pub(in crate::cluster::stream) const CONFIGURATION: [u64; 3] = [10_074, 10_052, 10_053];
}

/// Why a request failed.
#[derive(Debug, Error)]
pub(super) enum ApiError {
    #[error(transparent)]
    Away(#[from] AwayError),
    #[error("JetStream did not answer in time")]
    Silent,
    #[error("JetStream is not available")]
    Nobody,
    #[error("cannot read JetStream's answer: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("{description}")]
    Refused { status: u64, code: u64, description: String },
}

/// The relevant part of a stream's configuration.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Config {
    pub(super) name: String,
    #[serde(default)]
    pub(super) subjects: Vec<String>,
    pub(super) retention: String,
    #[serde(default)]
    pub(super) allow_direct: bool,
}

/// The extent of a stream's content.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct State {
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) first_ts: String,
    pub(super) last_ts: String,
}

/// A stream's configuration, creation time and extent.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Info {
    pub(super) config: Config,
    pub(super) created: String,
    pub(super) state: State,
}

impl Info {
    /// Returns the time from which on the stream holds everything that was published.
    pub(super) fn whole_since(&self, now: Timestamp) -> Timestamp {
        let State { first_seq, last_seq, first_ts, last_ts } = &self.state;
        let since = match first_seq {
            _ if !self.has_dropped() => &self.created,
            // All messages were dropped: there is no first one, and the server writes a time of the year 1.
            _ if first_seq > last_seq => last_ts,
            _ => first_ts,
        };
        since.parse().ok().filter(|since| *since > Timestamp::UNIX_EPOCH).unwrap_or(now)
    }

    /// Returns whether the stream has dropped messages.
    pub(super) fn has_dropped(&self) -> bool {
        self.state.first_seq > 1
    }
}

/// Queries a stream.
pub(super) async fn info(requests: &Requests, name: &str) -> Result<Info, ApiError> {
    ask(requests, format!("$JS.API.STREAM.INFO.{name}"), Bytes::new()).await
}

/// Creates a stream for these subjects.
pub(super) async fn create(requests: &Requests, options: &StreamOptions, subjects: &str) -> Result<Info, ApiError> {
    let age = u64::try_from(options.age.as_nanos()).unwrap_or(u64::MAX);
    let config = json!({
        "name": options.name, "subjects": [subjects], "max_bytes": options.bytes, "max_age": age,
        "num_replicas": options.replicas, "storage": "file", "discard": "old",
        "retention": "limits", "allow_direct": true,
        "max_consumers": -1, "max_msgs": -1, "max_msgs_per_subject": -1, "max_msg_size": -1,
    });
    ask(requests, format!("$JS.API.STREAM.CREATE.{}", options.name), config.to_string().into()).await
}

async fn ask<T: DeserializeOwned>(requests: &Requests, subject: String, payload: Bytes) -> Result<T, ApiError> {
    let answer = async { Ok(requests.ask(subject, payload).await?.recv().await) };
    let answer = timeout(ANSWER, answer).await.map_err(|_| ApiError::Silent)?;
    let message = answer.and_then(|answer: Option<_>| answer.ok_or(ApiError::Silent))?;
    if headers::status(&message.headers).is_some_and(|(status, _)| status == 503) {
        return Err(ApiError::Nobody);
    }
    let value: Value = serde_json::from_slice(&message.payload)?;
    if let Some(error) = value.get("error") {
        let [status, code] = ["code", "err_code"].map(|name| error[name].as_u64().unwrap_or_default());
        let description = error["description"].as_str().unwrap_or("an error without a description").to_owned();
        return Err(ApiError::Refused { status, code, description });
    }
    Ok(serde_json::from_value(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_stream_is_whole_since_its_last_message_if_it_ever_had_one() {
        let [created, first, last, now] = [1, 2, 3, 4].map(|second| Timestamp::from_second(second).unwrap());
        let whole_since = |first_seq, last_seq, first_ts: &str, last_ts: &str| {
            let config = json!({ "name": "EVENTS", "retention": "limits" });
            let state =
                json!({ "first_seq": first_seq, "last_seq": last_seq, "first_ts": first_ts, "last_ts": last_ts });
            let info = json!({ "config": config, "created": created.to_string(), "state": state });
            serde_json::from_value::<Info>(info).unwrap().whole_since(now)
        };
        let (never, first_ts, last_ts) = ("0001-01-01T00:00:00Z", first.to_string(), last.to_string());
        assert_eq!(whole_since(0, 0, never, never), created);
        assert_eq!(whole_since(1, 9, &first_ts, &last_ts), created);
        assert_eq!(whole_since(5, 9, &first_ts, &last_ts), first);
        assert_eq!(whole_since(10, 9, never, &last_ts), last);
        assert_eq!(whole_since(10, 9, never, never), now, "nothing is known");
    }
}
