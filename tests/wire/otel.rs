//! Spans, as an OpenTelemetry collector gets them: a real one as far as hydrant can tell, whose protobuf is read here
//! by the field numbers of `opentelemetry/proto/trace/v1/trace.proto`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::common::faults::{Faults, Witness};
use crate::common::ports::Held;
use crate::common::{Hydrant, JSON, NDJSON, event, http, patiently};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A span as it came.
#[derive(Debug, Clone, Default)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: u64,
    nanoseconds: u64,
    about: BTreeMap<String, String>,
    status: (u64, String),
    /// What is said of the server.
    service: BTreeMap<String, String>,
}

struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
    task: JoinHandle<()>,
    _faults: Faults,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, spans) = (format!("http://{}", listener.local_addr().unwrap()), Arc::default());
        let faults = Faults::default();
        let task = tokio::spawn(collect(listener, Arc::clone(&spans), faults.witness()));
        Self { url, spans, task, _faults: faults }
    }

    /// Settings of a server that sends here.
    fn settings(&self, sampling: &str) -> String {
        format!("[otel]\nendpoint = \"{}\"\nsampling = {sampling}\n", self.url)
    }

    fn named(&self, name: &str) -> Vec<Span> {
        self.spans.lock().iter().filter(|span| span.name == name).cloned().collect()
    }
}

async fn collect(listener: TcpListener, spans: Arc<Mutex<Vec<Span>>>, faults: Witness) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (spans, faults) = (Arc::clone(&spans), faults.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (spans, faults) = (Arc::clone(&spans), faults.clone());
            async move {
                let kind = request.headers().get("content-type").map(HeaderValue::as_bytes);
                let is_batch = (request.method().as_str(), request.uri().path()) == ("POST", "/v1/traces")
                    && kind == Some(&b"application/x-protobuf"[..]);
                faults.check(is_batch, &format!("{} {} of {kind:?}", request.method(), request.uri()));
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let shows = String::from_utf8_lossy(&body).contains("text-of-the-caller");
                faults.check(!shows, "spans hold text of the caller");
                spans.lock().extend(read(&body));
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// A field of a message: its number, and its value, which is a number or bytes.
type Field<'a> = (u64, u64, &'a [u8]);

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

fn fields(mut bytes: &[u8]) -> Vec<Field<'_>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let length = match tag & 7 {
            0 => {
                all.push((tag >> 3, varint(&mut bytes), &bytes[..0]));
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)).unwrap(),
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (value, rest) = bytes.split_at(length);
        let number = if length == 8 { u64::from_le_bytes(value.try_into().unwrap()) } else { 0 };
        all.push((tag >> 3, number, value));
        bytes = rest;
    }
    all
}

fn of<'a>(all: &[Field<'a>], field: u64) -> Vec<&'a [u8]> {
    all.iter().filter(|(number, ..)| *number == field).map(|(.., value)| *value).collect()
}

fn number(all: &[Field<'_>], field: u64) -> u64 {
    all.iter().find(|(number, ..)| *number == field).map_or(0, |(_, value, _)| *value)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

fn attributes(all: &[&[u8]]) -> BTreeMap<String, String> {
    let pair = |bytes: &&[u8]| {
        let pair = fields(bytes);
        let value = fields(of(&pair, 2)[0]);
        let shown = of(&value, 1).first().map_or_else(|| number(&value, 3).to_string(), |bytes| text(bytes));
        (text(of(&pair, 1)[0]), shown)
    };
    all.iter().map(pair).collect()
}

fn read(request: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in of(&fields(request), 1) {
        let resource = fields(resource);
        let service = attributes(&of(&fields(of(&resource, 1)[0]), 1));
        for scope in of(&resource, 2) {
            spans.extend(of(&fields(scope), 2).into_iter().map(|bytes| span(bytes, &service)));
        }
    }
    spans
}

fn span(bytes: &[u8], service: &BTreeMap<String, String>) -> Span {
    let all = fields(bytes);
    let one = |field| of(&all, field).first().copied().unwrap_or_default();
    let status = fields(one(15));
    Span {
        trace: hex(one(1)),
        id: hex(one(2)),
        parent: hex(one(4)),
        name: text(one(5)),
        kind: number(&all, 6),
        nanoseconds: number(&all, 8) - number(&all, 7),
        about: attributes(&of(&all, 9)),
        status: (number(&status, 3), of(&status, 2).first().map_or_else(String::new, |bytes| text(bytes))),
        service: service.clone(),
    }
}

async fn post(hydrant: &Hydrant, sampled: Option<&str>, body: &str) -> http::Reply {
    let parent = sampled.map(|flag| format!("00-{TRACE}-{CALLER}-{flag}"));
    let mut headers = vec![("content-type", if body.contains('\n') { NDJSON } else { JSON })];
    headers.extend(parent.as_deref().map(|parent| ("traceparent", parent)));
    headers.push(("tracestate", "vendor=text-of-the-caller"));
    hydrant.request("POST", "/api/v3/events", &headers, body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_is_traced_as_its_caller_says() {
    let collector = Collector::start().await;
    let hydrant = Hydrant::start(&collector.settings("0")).await;
    let lines = [event("machines", "update", "a"), event("machines", "update", "b")].join("\n");
    post(&hydrant, Some("01"), &lines).await.taken();
    post(&hydrant, Some("00"), &event("machines", "update", "c")).await.taken();
    post(&hydrant, None, &event("machines", "update", "d")).await.taken();
    assert_eq!(post(&hydrant, Some("01"), "{\"Type\":\"secret").await.status.as_u16(), 400);
    hydrant.stop().await;

    let [accepted, refused] = &collector.named("POST /api/v3/events")[..] else { panic!("{:?}", collector.spans) };
    for span in [accepted, refused] {
        assert_eq!((span.trace.as_str(), span.parent.as_str(), span.kind), (TRACE, CALLER, 2), "{span:?}");
        assert_eq!(span.about["http.route"], "/api/v3/events");
        assert_eq!(span.service["service.name"], "hydrant");
        assert_eq!(span.service["service.version"], env!("CARGO_PKG_VERSION"));
    }
    assert_eq!((accepted.status.0, &refused.status), (0, &(2, "400 Bad Request".to_owned())));
    let [ingest] = &collector.named("ingest")[..] else { panic!("{:?}", collector.spans) };
    assert_eq!((ingest.trace.as_str(), &ingest.parent), (TRACE, &accepted.id));
    assert_eq!((ingest.about["hydrant.source"].as_str(), ingest.about["hydrant.events"].as_str()), ("post", "2"));
    // A shard that got no time for long enough has told of that, whoever samples.
    let spans = collector.spans.lock();
    let sampled = spans.iter().filter(|span| span.name != "long turn").count();
    assert_eq!(sampled, 3, "nothing else was sampled: {spans:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_decided_is_sampled_here() {
    let collector = Collector::start().await;
    let hydrant = Hydrant::start(&collector.settings("1.0")).await;
    post(&hydrant, None, &event("machines", "update", "a")).await.taken();
    hydrant.stop().await;
    let [request] = &collector.named("POST /api/v3/events")[..] else { panic!("{:?}", collector.spans) };
    assert_eq!((request.parent.as_str(), request.trace.len()), ("", 32));
    let ingest = collector.named("ingest");
    assert!(ingest.iter().any(|span| span.parent == request.id && span.trace == request.trace), "{ingest:?}");
}

/// A large event is compressed for a client; that makes the turn long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_turn_is_always_traced() {
    let collector = Collector::start().await;
    let toml = format!("shards = 1\ndeflate = {{ level = 9, max_bytes = \"16MiB\" }}\n{}", collector.settings("0"));
    let hydrant = Hydrant::start(&toml).await;
    let mut client = hydrant.raw_deflate().await;
    client.send(&crate::common::raw::masked(0x81, b"register machines.*.*")).await;
    client.maybe_deflated().await;
    let words: Vec<String> = (0..800_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_string()).collect();
    let body =
        format!(r#"{{"Type":"machines","Action":"update","Key":"big","Object":{{"Words":"{}"}}}}"#, words.join(" "));
    hydrant.post(&body).await;
    patiently("the event", client.maybe_deflated()).await;
    let probe = hydrant.server.probe_address().unwrap();
    http::metric_satisfies(probe, "hydrant_shard_long_turns_total", |turns| turns > 0).await;
    drop(client);
    hydrant.stop().await;
    let turns = collector.named("long turn");
    let turn = turns.iter().find(|turn| turn.about["hydrant.events"] == "1").expect("the turn of the event");
    assert_eq!((turn.parent.as_str(), turn.about["hydrant.shard"].as_str()), ("", "0"));
    assert!(turn.nanoseconds > 50_000_000, "{turn:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_costs_spans_only() {
    let away = Held::any();
    let settings = format!("[otel]\nendpoint = \"http://{}\"\nsampling = 1\n", away.address);
    let hydrant = Hydrant::start(&settings).await;
    post(&hydrant, None, &event("machines", "update", "a")).await.taken();
    patiently("the end", hydrant.stop()).await;
}
