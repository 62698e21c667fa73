//! Replaces `nats.rs` in a build without the feature `nats`: the server shares its events with nobody.

use std::sync::Arc;

use super::Server;
use super::error::StartError;
use crate::cluster::Health;
use crate::config::Settings;

/// There are no other nodes to reach.
#[derive(Debug, Clone, Copy)]
pub(super) enum NatsOptions {}

/// Nothing: the settings have refused addresses of NATS.
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
