//! Replaces the cluster module in a build without the feature `nats`, where every node is on its own. The settings
//! refuse `nats.urls` in such a build, so there is no connection to report on and nothing that can fail.

#[allow(dead_code, reason = "nobody connects, so nobody notes how the connection is")]
mod health;

use thiserror::Error;

pub use health::{Health, Report, StreamReport};

/// Errors of NATS; there are none in this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NatsError {}

impl NatsError {
    /// Returns whether the settings are at fault.
    pub fn is_configuration(&self) -> bool {
        match *self {}
    }
}
