//! Builds the connection to other nodes from the NATS settings.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::error::StartError;
use super::{Server, guarded};
use crate::auth::Secret;
use crate::broker::export::ExportLimits;
use crate::cluster;
use crate::cluster::{Health, Login, LoginError, NatsError, NatsOptions, StreamOptions, Tls, secret};
use crate::config::{self, Settings};
use crate::logging::crash::pass_on;

/// Returns the NATS options; `None` if the node is alone.
pub(super) fn options(settings: &Settings, node: u64) -> Result<Option<NatsOptions>, StartError> {
    let nats = &settings.nats;
    if nats.urls.is_empty() {
        return Ok(None);
    }
    Ok(Some(NatsOptions {
        urls: nats.urls.clone(),
        login: Arc::new(login(settings)?),
        tls: Tls { ca_file: nats.ca_file.clone(), certificate: nats.cert_file.clone().zip(nats.key_file.clone()) },
        prefix: nats.prefix.clone(),
        pending: nats.queue_events,
        pending_bytes: nats.queue_bytes,
        event_bytes: settings.limits.event_bytes,
        // A node that follows an endpoint compares what comes from both.
        linger: if settings.upstream.urls.is_empty() { nats.linger } else { Duration::ZERO },
        node,
        stream: (!nats.stream.is_empty()).then(|| stream(nats)),
    }))
}

fn stream(nats: &config::Nats) -> StreamOptions {
    StreamOptions {
        name: nats.stream.clone(),
        bytes: i64::try_from(nats.stream_bytes).unwrap_or(i64::MAX),
        age: nats.stream_age,
        replicas: nats.stream_replicas,
        window: nats.window,
    }
}

fn login(settings: &Settings) -> Result<Login, NatsError> {
    let nats = &settings.nats;
    let of = |path: &PathBuf, read: fn(&Secret) -> Result<Login, LoginError>| {
        let unusable = |source| NatsError::Secret { path: path.clone(), source };
        read(&secret(path)?).map_err(unusable)
    };
    if let Some(path) = &nats.creds_file {
        return of(path, Login::credentials);
    }
    if let Some(path) = &nats.nkey_file {
        return of(path, Login::nkey);
    }
    if let Some(path) = &nats.token_file {
        return Ok(Login::Token(secret(path)?));
    }
    match &nats.password_file {
        Some(path) => Ok(Login::Password { user: nats.user.clone(), password: secret(path)? }),
        None => Ok(Login::Nobody),
    }
}

impl Server {
    /// Shares events with other nodes. Returns the health of the connection to them, if there is one. On failure stops
    /// the server, whose shards are already running.
    pub(super) async fn share(
        mut self,
        options: Option<NatsOptions>,
    ) -> Result<(Self, Option<Arc<Health>>), StartError> {
        let Some(options) = options else { return Ok((self, None)) };
        let broker = Arc::clone(&self.api.broker);
        let nats = &self.settings.nats;
        broker.metrics().nats.show(!nats.stream.is_empty());
        let exports = broker.share(ExportLimits { batches: nats.queue_events, bytes: nats.queue_bytes }, nats.window);
        let stop = self.stop.subscribe();
        match cluster::start(&options, &broker, exports, &stop).await {
            Ok(running) => {
                let watched = |task: JoinHandle<()>| guarded("the sharing of events", async { pass_on(task.await) });
                self.tasks.extend(running.tasks.into_iter().map(watched));
                Ok((self, Some(running.health)))
            }
            Err(error) => {
                // Nobody has connected yet.
                self.settings.timeouts.lame_duck = Duration::ZERO;
                self.stop().await;
                Err(error.into())
            }
        }
    }
}
