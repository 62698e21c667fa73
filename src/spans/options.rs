//! The options of the exporter of spans, the same in builds with and without it.

/// Where spans go, and how many are made.
#[derive(Debug, Clone)]
pub struct SpanOptions {
    /// The URL that takes spans, with its path.
    pub url: String,
    /// The share of traces that begin here and are sent, from 0 to 1.
    pub sampling: f64,
    /// The identity of this server among those that send spans.
    pub instance: String,
}
