//! Builds the exporter of spans from its settings.

use tokio::runtime::Handle;

use super::error::StartError;
use super::identity;
use crate::config::Settings;
use crate::spans::{SpanOptions, Spans};

/// Returns what makes spans: nothing without a collector.
pub(super) fn of(settings: &Settings) -> Result<Spans, StartError> {
    let Some(collector) = &settings.otel.endpoint else { return Ok(Spans::default()) };
    let options = SpanOptions {
        url: format!("{collector}/v1/traces"),
        sampling: settings.otel.sampling,
        instance: identity(settings)?,
    };
    tracing::info!(%collector, sampling = options.sampling, "sending spans to a collector");
    Ok(Spans::export(options, Handle::current())?)
}
