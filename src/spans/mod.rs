//! Spans for an OpenTelemetry collector, sent over OTLP/HTTP; only in a build with the feature `otel`.
//!
//! Contract: a [`Spans`] without a collector makes nothing, at the price of a comparison. With a collector, ending a
//! span puts it into a bounded queue and never waits: if the queue is full, the span is lost. A thread of its own sends
//! the queue; a collector that does not answer delays nobody. The caller's `traceparent` decides which requests are
//! traced, with their batches; else the sampling ratio does; long turns of a shard always are. Any thread may call
//! everything here, except [`Spans::stop`], which blocks. Spans hold counts, times and names of routes: nothing that a
//! client sent.
//!
//! Why not spans of `tracing`: each would pass through the filters of the log, and a turn is only worth a span once it
//! is known to have been long.

mod collector;
mod options;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TraceId, TraceState, Tracer,
    TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SamplingResult, SdkTracer, SdkTracerProvider, ShouldSample};
use thiserror::Error;
use tokio::runtime::Handle;

use crate::clock;
pub use options::SpanOptions;

/// Returns the caller's trace. Its `tracestate` is left out: that is text of the caller's own.
fn parent(headers: &HeaderMap) -> Context {
    let told = TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers));
    let span = told.span();
    let told = span.span_context();
    if !told.is_valid() {
        return Context::new();
    }
    let (trace, id, flags) = (told.trace_id(), told.span_id(), told.trace_flags());
    Context::new().with_remote_span_context(SpanContext::new(trace, id, flags, true, TraceState::NONE))
}

/// The name of the span of a long turn.
const TURN: &str = "long turn";

/// Errors of the exporter.
#[derive(Debug, Error)]
pub enum SpansError {
    /// The exporter refuses the settings.
    #[error("otel.endpoint: {0}")]
    Exporter(String),
}

/// Makes spans. Clones share one exporter; the default makes none.
#[derive(Debug, Clone, Default)]
pub struct Spans(Option<Arc<Exporter>>);

#[derive(Debug)]
struct Exporter {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Spans {
    /// Sends spans to a collector, with connections on this runtime.
    ///
    /// # Errors
    /// [`SpansError`] if the settings cannot be used. A collector that does not answer is none.
    pub fn export(options: SpanOptions, runtime: Handle) -> Result<Self, SpansError> {
        let exporter =
            collector::exporter(&options.url, runtime).map_err(|error| SpansError::Exporter(error.to_string()))?;
        let resource = Resource::builder()
            .with_service_name("hydrant")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", options.instance))
            .build();
        let sampler = Sampler::ParentBased(Box::new(Sampling(Sampler::TraceIdRatioBased(options.sampling))));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("hydrant");
        Ok(Self(Some(Arc::new(Exporter { provider, tracer }))))
    }

    /// Begins the span of a request; its parent is the `traceparent` among the headers, if there is a valid one.
    pub fn request(&self, method: &'static str, route: &'static str, headers: &HeaderMap) -> Span {
        self.begin(|tracer| {
            let parent = parent(headers);
            let about = [KeyValue::new("http.request.method", method), KeyValue::new("http.route", route)];
            let span = tracer.span_builder(format!("{method} {route}")).with_kind(SpanKind::Server);
            (span.with_attributes(about), parent)
        })
    }

    /// Begins the span of a batch of events that is sequenced; its parent is the span within which this thread is.
    pub fn ingest(&self, source: &'static str, events: usize, bytes: usize) -> Span {
        self.begin(|tracer| {
            let about = [
                KeyValue::new("hydrant.source", source),
                KeyValue::new("hydrant.events", count(events)),
                KeyValue::new("hydrant.bytes", count(bytes)),
            ];
            (tracer.span_builder("ingest").with_attributes(about), Context::current())
        })
    }

    /// Makes the span of a shard's turn that has just ended and took long.
    pub fn long_turn(&self, shard: usize, took: Duration, events: usize) {
        let Some(Exporter { tracer, .. }) = self.0.as_deref() else { return };
        // Fails only for times that the system cannot represent.
        let Ok(now) = SystemTime::try_from(clock::now()) else { return };
        let about = [KeyValue::new("hydrant.shard", count(shard)), KeyValue::new("hydrant.events", count(events))];
        let span = tracer.span_builder(TURN).with_start_time(now.checked_sub(took).unwrap_or(now));
        tracer.build_with_context(span.with_attributes(about), &Context::new()).end_with_timestamp(now);
    }

    /// Sends what is queued and ends the exporter. Blocks for at most `limit`.
    pub fn stop(&self, limit: Duration) {
        if let Some(Exporter { provider, .. }) = self.0.as_deref()
            && let Err(error) = provider.shutdown_with_timeout(limit)
        {
            tracing::warn!(%error, "cannot send the last spans");
        }
    }

    fn begin(&self, describe: impl FnOnce(&SdkTracer) -> (SpanBuilder, Context)) -> Span {
        Span(self.0.as_deref().map(|Exporter { tracer, .. }| {
            let (span, parent) = describe(tracer);
            parent.with_span(tracer.build_with_context(span, &parent))
        }))
    }
}

/// A span in progress; ends when dropped.
#[derive(Debug)]
pub struct Span(Option<Context>);

impl Span {
    /// Does work during which spans of this thread are children of this one.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _current = self.0.clone().map(Context::attach);
        work()
    }

    /// Marks what the span describes as failed. The reason must not contain what a client sent.
    pub fn failed(&self, reason: &dyn fmt::Display) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(reason.to_string()));
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// Decides about spans without a parent: long turns are rare and always sampled.
#[derive(Debug, Clone)]
struct Sampling(Sampler);

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let sampler = if name == TURN { &Sampler::AlwaysOn } else { &self.0 };
        sampler.should_sample(parent, trace, name, kind, attributes, links)
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
