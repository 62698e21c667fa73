//! Makes sure that there is a stream, and goes on looking.
//!
//! A stream that is there is used as it is if it can be read as we do, whatever its bounds: operators know better.
//! Otherwise what is wrong names what to change.

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

/// How long a start waits for NATS, to say at once what is wrong with the stream.
const START: Duration = Duration::from_secs(2);

/// Between two looks at the stream.
const AGAIN: Duration = Duration::from_secs(5);

/// Why there is no stream to read from.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The server has no `JetStream`.
    #[error(
        "JetStream is not enabled at the NATS server, or not for this account: enable it (`jetstream {{}}` in its \
         configuration, or -js), or take nats.stream out"
    )]
    Disabled,
    /// There is a stream, for other subjects.
    #[error(
        "the stream {stream} does not capture {subjects}: add that to its subjects, or give nats.stream another name"
    )]
    Subjects {
        /// The stream.
        stream: String,
        /// What it should capture.
        subjects: String,
    },
    /// Another stream has them.
    #[error("another stream captures {subjects} already: give nats.stream its name, or take the subjects from it")]
    Taken {
        /// What this one should capture.
        subjects: String,
    },
    /// It cannot be read by anybody.
    #[error(
        "the stream {stream} does not allow direct access: set allow_direct (`nats stream edit {stream} \
         --allow-direct`)"
    )]
    Direct {
        /// The stream.
        stream: String,
    },
    /// It forgets what was read.
    #[error(
        "the stream {stream} has another retention than limits, which cannot be changed: give nats.stream another name"
    )]
    Retention {
        /// The stream.
        stream: String,
    },
    /// `JetStream` says no.
    #[error("the NATS server refuses the stream {stream}: {reason}")]
    Refused {
        /// The stream.
        stream: String,
        /// In the server's words.
        reason: String,
    },
    /// Nobody answers; another try may help.
    #[error("the stream {stream} cannot be looked at: {reason}")]
    Away {
        /// The stream.
        stream: String,
        /// What the client says.
        reason: String,
    },
}

/// Looks after a stream.
#[derive(Debug)]
pub(in crate::cluster) struct Keeper {
    client: Arc<Requests>,
    options: StreamOptions,
    subjects: String,
    broker: Arc<Broker>,
    health: Arc<Health>,
}

impl Keeper {
    /// For what is published on `subjects`.
    pub(in crate::cluster) fn new(
        client: Arc<Requests>,
        options: StreamOptions,
        subjects: String,
        broker: Arc<Broker>,
        health: Arc<Health>,
    ) -> Self {
        Self { client, options, subjects, broker, health }
    }

    /// Waits a moment for NATS and looks. If NATS does not answer that is told later.
    ///
    /// # Errors
    /// What is wrong with the stream.
    pub(in crate::cluster) async fn start(&self) -> Result<(), StreamError> {
        // If it takes longer, the look finds that.
        let _ = timeout(START, self.client.connected()).await;
        match self.look().await {
            Err(StreamError::Away { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Looks again and again until told to stop.
    pub(in crate::cluster) async fn run(self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = sleep(AGAIN) => {}
                _ = stop.changed() => break,
            }
            // Everything there is to say of it is said in the state.
            let _ = self.look().await;
        }
    }

    /// Makes the stream if it is missing, and notes how it is.
    async fn look(&self) -> Result<(), StreamError> {
        let looked =
            if self.client.is_connected() { self.ensure().await } else { Err(self.away("no connection to NATS")) };
        let error = looked.as_ref().err().map(ToString::to_string);
        self.broker.metrics().nats.stream_usable.set(i64::from(error.is_none()));
        if self.health.set_stream(&self.options.name, error.clone(), clock::now()) {
            match error {
                None => tracing::info!(stream = self.options.name, "the stream is there"),
                Some(error) => tracing::error!(%error, "replays come from the recent past only"),
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
            // Another node was faster, or a cluster is choosing its leader.
            ApiError::Refused { code: code::NAME_EXISTS | code::CLUSTER_AWAY, description } => self.away(&description),
            ApiError::Refused { description, .. } => {
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

/// Whether all subjects of `wanted`, which ends in `>`, are among those of `subject`.
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
