//! This room in a build without the feature `nats`: every node is alone. The settings refuse `nats.urls` there, so
//! there is never a connection to report on, and nothing that could fail.

#[allow(dead_code, reason = "nobody connects, so nobody notes how the connection is")]
mod health;

use thiserror::Error;

pub use health::{Health, Report, StreamReport};

/// Why NATS cannot be used; there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NatsError {}
