//! The connection to a collector: OTLP/HTTP with protobuf, over hyper.
//!
//! The exporter's thread is outside the runtime, and hyper's connections need a runtime, so requests run as tasks of
//! the server's.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use tokio::runtime::Handle;

use crate::tasks;

/// The time limit of one request.
const LIMIT: Duration = Duration::from_secs(5);

/// The maximum length of an answer in bytes.
const ANSWER_BYTES: usize = 64 << 10;

/// Creates the exporter to the URL.
pub(super) fn exporter(url: &str, runtime: Handle) -> Result<SpanExporter, ExporterBuildError> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    SpanExporter::builder()
        .with_http()
        .with_http_client(Collector { client, runtime })
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(url)
        .with_timeout(LIMIT)
        .build()
}

#[derive(Debug)]
struct Collector {
    client: Client<HttpConnector, Full<Bytes>>,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        tasks::spawn_on(&self.runtime, exchange(self.client.clone(), request)).await?
    }
}

async fn exchange(
    client: Client<HttpConnector, Full<Bytes>>,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let answer = async {
        let (parts, body) = client.request(request.map(Full::new)).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES).collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    };
    tokio::time::timeout(LIMIT, answer).await?
}
