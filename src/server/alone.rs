//! Replaces `nats.rs` in a build without the feature `nats`: the server does not share events with other nodes.

use std::sync::Arc;

use super::Server;
use super::error::StartError;
use crate::cluster::Health;
use crate::config::Settings;

/// No options: other nodes cannot be reached.
#[derive(Debug, Clone, Copy)]
pub(super) enum NatsOptions {}

/// Returns no options; the settings have already rejected addresses of NATS servers.
#[allow(clippy::unnecessary_wraps, reason = "that of `nats.rs` may fail")]
pub(super) fn options(_: &Settings, _: u64) -> Result<Option<NatsOptions>, StartError> {
    Ok(None)
}

impl Server {
    #[allow(clippy::unused_async, clippy::unnecessary_wraps, reason = "that of `nats.rs` waits and may fail")]
    pub(super) async fn share(self, _: Option<NatsOptions>) -> Result<(Self, Option<Arc<Health>>), StartError> {
        Ok((self, None))
    }
}
