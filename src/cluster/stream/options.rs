//! What the operator wants of the stream.

use std::time::Duration;

/// What the stream is to be.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Its name.
    pub name: String,
    /// Bytes that it keeps.
    pub bytes: i64,
    /// For how long it keeps them.
    pub age: Duration,
    /// On how many servers it is kept.
    pub replicas: usize,
    /// Events of endpoints by which a copy is known.
    pub window: usize,
}
