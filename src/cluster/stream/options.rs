//! The settings of the replay stream.

use std::time::Duration;

/// The configuration of the stream.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// The name of the stream.
    pub name: String,
    /// Maximum size of the stream in bytes.
    pub bytes: i64,
    /// Maximum age of its messages.
    pub age: Duration,
    /// Number of servers that store it.
    pub replicas: usize,
    /// The number of recent endpoint events by which a duplicate is recognized.
    pub window: usize,
}
