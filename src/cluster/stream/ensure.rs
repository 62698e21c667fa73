//! Ensures that the stream exists, and keeps checking it.
//!
//! An existing stream is used as it is if it supports our reads, whatever its limits: operators know better. Otherwise
//! the error names what to change.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::api::{self, ApiError, Config, code};
use super::options::StreamOptions;
use crate::broker::Broker;
use crate::clock;
use crate::cluster::health::Health;
use crate::cluster::nats::requests::Requests;

/// How long startup waits for NATS, so that errors of the stream are reported at once.
const START: Duration = Duration::from_secs(2);

/// Interval between two checks of the stream.
const AGAIN: Duration = Duration::from_secs(5);

/// Why there is no usable stream.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// `JetStream` is not enabled.
    #[error(
        "JetStream is not enabled on the NATS server, or not for this account: enable it (`jetstream {{}}` in its \
         configuration, or -js), or remove nats.stream"
    )]
    Disabled,
    /// The stream captures other subjects.
    #[error(
        "the stream {stream} does not capture {subjects}: add that to its subjects, or set nats.stream to another name"
    )]
    Subjects {
        /// The name of the stream.
        stream: String,
        /// The subjects it should capture.
        subjects: String,
    },
    /// Another stream captures these subjects.
    #[error("another stream already captures {subjects}: set nats.stream to its name, or remove the subjects from it")]
    Taken {
        /// The subjects the configured stream should capture.
        subjects: String,
    },
    /// The stream does not allow direct reads.
    #[error(
        "the stream {stream} does not allow direct access: set allow_direct (run `nats stream edit {stream} \
         --allow-direct`)"
    )]
    Direct {
        /// The name of the stream.
        stream: String,
    },
    /// The stream deletes messages that were read.
    #[error(
        "the stream {stream} does not have the retention policy `limits`, and that cannot be changed: set nats.stream \
         to another name"
    )]
    Retention {
        /// The name of the stream.
        stream: String,
    },
    /// `JetStream` refuses the request.
    #[error("the NATS server refused the stream {stream}: {reason}")]
    Refused {
        /// The name of the stream.
        stream: String,
        /// The server's description of the error.
        reason: String,
    },
    /// `JetStream` does not answer; a retry may help.
    #[error("cannot read the state of the stream {stream}: {reason}")]
    Away {
        /// The name of the stream.
        stream: String,
        /// The error of the request.
        reason: String,
    },
}

impl StreamError {
    /// Returns whether the settings of the node or of the stream are at fault. A server without `JetStream` may have
    /// just been started, and not have found those that have it.
    pub(in crate::cluster) fn is_configuration(&self) -> bool {
        !matches!(self, Self::Disabled | Self::Away { .. })
    }
}

/// Creates the stream if necessary, checks it and reports its state.
#[derive(Debug)]
pub(in crate::cluster) struct Keeper {
    client: Arc<Requests>,
    options: StreamOptions,
    subjects: String,
    broker: Arc<Broker>,
    health: Arc<Health>,
}

impl Keeper {
    /// Creates a keeper of the stream that captures `subjects`.
    pub(in crate::cluster) fn new(
        client: Arc<Requests>,
        options: StreamOptions,
        subjects: String,
        broker: Arc<Broker>,
        health: Arc<Health>,
    ) -> Self {
        Self { client, options, subjects, broker, health }
    }

    /// Waits briefly for NATS and checks the stream. If NATS does not answer, the state is reported later.
    ///
    /// # Errors
    /// A [`StreamError`] other than [`StreamError::Away`].
    pub(in crate::cluster) async fn start(&self) -> Result<(), StreamError> {
        // If it takes longer, `look` detects that.
        let _ = timeout(START, self.client.connected()).await;
        match self.look().await {
            Err(StreamError::Away { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Checks the stream at intervals until the stop signal.
    pub(in crate::cluster) async fn run(self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = sleep(AGAIN) => {}
                _ = stop.changed() => break,
            }
            // The health report already says everything about an error.
            let _ = self.look().await;
        }
    }

    /// Creates the stream if it is missing, and records its state.
    async fn look(&self) -> Result<(), StreamError> {
        let looked =
            if self.client.is_connected() { self.ensure().await } else { Err(self.away("no connection to NATS")) };
        let error = looked.as_ref().err().map(ToString::to_string);
        self.broker.metrics().nats.stream_usable.set(i64::from(error.is_none()));
        if self.health.set_stream(&self.options.name, error.clone(), clock::now()) {
            match error {
                None => tracing::info!(stream = self.options.name, "the NATS stream is ready for replays"),
                Some(error) => {
                    tracing::error!(%error, "cannot use the NATS stream: replays are limited to the history in memory");
                }
            }
        }
        looked
    }

    async fn ensure(&self) -> Result<(), StreamError> {
        match api::info(&self.client, &self.options.name).await {
            Ok(info) => self.check(&info.config),
            Err(ApiError::Refused { code: code::NOT_FOUND, .. }) => {
                let made = api::create(&self.client, &self.options, &self.subjects).await;
                made.map(|_| ()).map_err(|error| self.refused(error))
            }
            Err(error) => Err(self.refused(error)),
        }
    }

    fn refused(&self, error: ApiError) -> StreamError {
        match error {
            ApiError::Nobody => StreamError::Disabled,
            ApiError::Refused { code, .. } if code::NOT_ENABLED.contains(&code) => StreamError::Disabled,
            ApiError::Refused { code: code::OVERLAP, .. } => StreamError::Taken { subjects: self.subjects.clone() },
            ApiError::Refused { status, code, description } => {
                // Another node was faster, or a server that is needed is away, starts or lacks space.
                let is_temporary = code == code::NAME_EXISTS
                    || code::CLUSTER_AWAY.contains(&code)
                    || (status >= 500 && !code::CONFIGURATION.contains(&code));
                if is_temporary {
                    return self.away(&description);
                }
                StreamError::Refused { stream: self.options.name.clone(), reason: description }
            }
            error => self.away(&error.to_string()),
        }
    }

    fn away(&self, reason: &str) -> StreamError {
        StreamError::Away { stream: self.options.name.clone(), reason: reason.to_owned() }
    }

    fn check(&self, config: &Config) -> Result<(), StreamError> {
        let stream = config.name.clone();
        if !config.subjects.iter().any(|subject| captures(subject, &self.subjects)) {
            return Err(StreamError::Subjects { stream, subjects: self.subjects.clone() });
        }
        if config.retention != "limits" {
            return Err(StreamError::Retention { stream });
        }
        if !config.allow_direct {
            return Err(StreamError::Direct { stream });
        }
        Ok(())
    }
}

/// Returns whether `subject` covers all subjects of `wanted`, which ends in `>`.
fn captures(subject: &str, wanted: &str) -> bool {
    let (mut has, mut wants) = (subject.split('.'), wanted.split('.'));
    loop {
        match (has.next(), wants.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(has), Some(wants)) if has == wants || (has == "*" && wants != ">") => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_capture_what_they_hold() {
        for subject in [">", "h.>", "h.EVENTS.>", "*.EVENTS.>", "h.*.>"] {
            assert!(captures(subject, "h.EVENTS.>"), "{subject}");
        }
        for subject in ["h.EVENTS.*", "h.EVENTS", "h.EVENTS.*.*.*", "other.>", "h.EVENTS.a.>", "*"] {
            assert!(!captures(subject, "h.EVENTS.>"), "{subject}");
        }
    }
}
