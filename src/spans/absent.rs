//! Replaces the spans module in a build without the feature `otel`: nothing is made, and everything here compiles to
//! nothing. The settings refuse `otel.endpoint` in such a build.

mod options;

use std::fmt;
use std::time::Duration;

use hyper::HeaderMap;
use thiserror::Error;
use tokio::runtime::Handle;

pub use options::SpanOptions;

/// Errors of the exporter; there are none in this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SpansError {}

/// Makes no spans.
#[derive(Debug, Clone, Default)]
pub struct Spans(());

/// No span.
#[derive(Debug)]
pub struct Span(());

#[allow(clippy::unused_self, reason = "those of a build with the feature need it")]
impl Spans {
    /// Makes no spans.
    ///
    /// # Errors
    /// None in this build.
    #[allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps, reason = "that of the other build may fail")]
    pub fn export(_: SpanOptions, _: Handle) -> Result<Self, SpansError> {
        Ok(Self(()))
    }

    /// Begins no span.
    pub fn request(&self, _: &'static str, _: &'static str, _: &HeaderMap) -> Span {
        Span(())
    }

    /// Begins no span.
    pub fn ingest(&self, _: &'static str, _: usize, _: usize) -> Span {
        Span(())
    }

    /// Makes no span.
    pub fn long_turn(&self, _: usize, _: Duration, _: usize) {}

    /// Has nothing to send.
    pub fn stop(&self, _: Duration) {}
}

#[allow(clippy::unused_self, reason = "those of a build with the feature need it")]
impl Span {
    /// Does the work.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }

    /// Notes nothing.
    pub fn failed(&self, _: &dyn fmt::Display) {}
}
