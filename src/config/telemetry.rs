//! Declares the settings of what the server says about itself: its log, and spans.

use super::kind::{self, Kind, LogFormat};
use super::raw::{RawSettings, Row, Table};
use crate::client::Endpoint;

table! {
    /// Logging.
    Log in "log." {
        /// Format of log lines: for people, or for programs.
        format: LogFormat as Format = "text";
        /// Minimum level of logged lines, or directives for each module.
        level: String as Level = "info";
        /// Log logins, refusals, websockets and streams that open and close, and their commands.
        audit: bool as Switch = "false";
    }
}

table! {
    /// Spans for an OpenTelemetry collector.
    Otel in "otel." {
        /// Collector that gets spans of posts, of accepted batches of events, and of long turns of a shard. They are
        /// sent to `/v1/traces` below this URL, over OTLP/HTTP without TLS. Empty: there are none. Only in a build with
        /// the feature `otel`.
        endpoint: Option<Endpoint> as Collector = "";
        /// Share of posts and batches that are traced, unless the `traceparent` of a post decides. Turns of a shard
        /// longer than 50 ms are always traced.
        sampling: f64 as Share = "0.01";
    }
}
