//! A DRP endpoint, as far as somebody in front of it can tell: TLS, REST with DRP's answers to good and bad
//! credentials, and some paths that answer as no good server does.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, broadcast};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::common::ports::Held;
use crate::tokens;

pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Number of bytes that tests send to `/refuse/SIZE` before they wait for its answer.
pub const SENT_BEFORE_REFUSAL: usize = 1000;

/// The machine that every endpoint here has.
pub const MACHINE: &str = "3e7031fe-3062-45f1-835c-92541bc9cbd3";

/// A request as the endpoint got it.
#[derive(Debug, Clone)]
pub struct Got {
    pub method: String,
    pub target: String,
    pub headers: hyper::HeaderMap,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A user of the endpoint.
#[derive(Debug, Clone)]
pub struct User {
    pub password: String,
    pub secret: String,
    pub roles: Vec<String>,
    /// `CreatedAt`, as newer endpoints tell it.
    pub created: String,
}

impl User {
    pub fn new(password: &str, roles: &[&str]) -> Self {
        let roles = roles.iter().map(|&role| role.to_owned()).collect();
        let created = "2026-01-01T00:00:00Z".to_owned();
        Self { password: password.to_owned(), secret: format!("secret of {password}"), roles, created }
    }

    /// A token for this user, with these fields of the payload instead of the usual ones.
    pub fn token(&self, name: &str, base: &str, other: &Value) -> String {
        tokens::seal(&tokens::jwt(&self.payload(name, other), base), base)
    }

    pub fn payload(&self, name: &str, other: &Value) -> Value {
        let now = hydrant::clock::now().as_second();
        let mut payload = json!({
            "drp_claims": [{"scope": "users", "action": "token,password,get", "specific": name},
                {"scope": "info", "action": "get", "specific": ""}],
            "DrpRoles": self.roles,
            "grantor_claims": {"grantor_id": name, "grantor_secret": self.secret, "user_id": name,
                "user_secret": self.secret, "machine_uuid": "", "machine_secret": ""},
            "exp": now + 3600, "iat": now, "jti": name, "iss": "digitalrebar provision",
        });
        for (field, value) in other.as_object().unwrap() {
            payload[field] = value.clone();
        }
        payload
    }

    fn shown(&self, name: &str, with_secret: bool) -> Value {
        let secret = if with_secret { self.secret.as_str() } else { "" };
        json!({"Name": name, "Roles": self.roles, "Secret": secret, "PasswordHash": "", "Meta": {},
            "CreatedAt": self.created})
    }
}

/// What an endpoint has and has seen.
pub struct State {
    pub users: Mutex<BTreeMap<String, User>>,
    pub roles: Mutex<Value>,
    pub tenants: Mutex<Value>,
    /// The preference `baseTokenSecret`.
    pub base: Mutex<String>,
    /// Whether preferences are told.
    pub tells_base: AtomicBool,
    /// Whether users' secrets are told.
    pub tells_secrets: AtomicBool,
    /// Whether questions for users, roles, tenants, preferences and the connections of a machine are never answered.
    pub hangs: AtomicBool,
    /// Paths that begin like this are answered by a page with this status, as by a proxy in front of an endpoint during
    /// maintenance (200), or by one that has no endpoint behind it (404, 503).
    pub page: Mutex<Option<(&'static str, u16)>>,
    /// `GET tenants` is answered 404.
    pub loses_tenants: AtomicBool,
    /// What is answered with 500: `roles`, `prefs` and the like.
    pub breaks: Mutex<&'static str>,
    /// What is refused with this status: `connections` and the like.
    pub refuses: Mutex<(&'static str, u16)>,
    /// The user about whom it is answered 500.
    pub broken_user: Mutex<&'static str>,
    /// Whether bad credentials are never answered, as by an endpoint that asks a directory which does not answer.
    pub muses: AtomicBool,
    /// How long it takes to refuse bad credentials, in milliseconds.
    pub refuses_after: AtomicU64,
    /// How long it takes to show a user, in milliseconds.
    pub pause: AtomicU64,
    /// Whether users who are asked for are not shown yet.
    pub holds: AtomicBool,
    /// How many blanks are in its info.
    pub padding: AtomicUsize,
    /// The connections that it tells of.
    pub connections: Mutex<Vec<Value>>,
    pub got: Mutex<Vec<Got>>,
    pub posted: Mutex<Vec<Value>>,
    /// What goes to every websocket on which something is registered.
    pub stream: broadcast::Sender<String>,
    /// Bytes of bodies that have come.
    pub received: AtomicU64,
    /// Told when a body that was being sent is not wanted any more.
    pub abandoned: Notify,
    /// Tells `/unread` to read its body, and `/forbidden/unread` to answer.
    pub reads_on: Notify,
}

/// A running endpoint.
pub struct Drp {
    pub address: SocketAddr,
    pub state: Arc<State>,
    port: Held,
    tls: TlsAcceptor,
    task: JoinHandle<()>,
}

impl Drop for Drp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drp {
    pub async fn start() -> Self {
        let state = Arc::new(State {
            users: Mutex::new([("rocketskates".to_owned(), User::new("r0cketsk8ts", &["superuser"]))].into()),
            roles: Mutex::new(
                json!([{"Name": "superuser", "Claims": [{"scope": "*", "action": "*", "specific": "*"}]}]),
            ),
            tenants: Mutex::new(json!([])),
            base: Mutex::new("0123456789abcdef0123456789ABCDEF".to_owned()),
            tells_base: AtomicBool::new(true),
            tells_secrets: AtomicBool::new(true),
            hangs: AtomicBool::new(false),
            page: Mutex::default(),
            loses_tenants: AtomicBool::new(false),
            breaks: Mutex::default(),
            refuses: Mutex::new(("nothing", 0)),
            broken_user: Mutex::default(),
            muses: AtomicBool::new(false),
            refuses_after: AtomicU64::default(),
            pause: AtomicU64::default(),
            holds: AtomicBool::new(false),
            padding: AtomicUsize::default(),
            connections: Mutex::new(vec![
                json!({"Principal": "user:other", "RemoteAddr": "192.0.2.9:99", "Type": "websocket"}),
            ]),
            got: Mutex::default(),
            posted: Mutex::default(),
            stream: broadcast::Sender::new(1024),
            received: AtomicU64::default(),
            abandoned: Notify::new(),
            reads_on: Notify::new(),
        });
        let (port, tls) = (Held::any(), acceptor());
        let listener = TcpListener::bind(port.address).await.unwrap();
        let task = tokio::spawn(serve(listener, tls.clone(), Arc::clone(&state)));
        Self { address: port.address, state, port, tls, task }
    }

    /// Ends the listener and every connection.
    pub async fn stop(&mut self) {
        self.task.abort();
        // It was aborted; there is nothing else to hear.
        let _ = (&mut self.task).await;
    }

    /// Listens at the same place again.
    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(self.port.address).await.unwrap();
        self.task = tokio::spawn(serve(listener, self.tls.clone(), Arc::clone(&self.state)));
    }

    /// Settings of a hydrant in front of it.
    pub fn settings(&self) -> String {
        format!(
            "[upstream]\nurls = [\"https://{}\"]\nusername = \"rocketskates\"\npassword = \"r0cketsk8ts\"\n\
             tls = \"insecure\"\n",
            self.address
        )
    }

    /// The requests that have come since the last time.
    pub fn take(&self) -> Vec<Got> {
        std::mem::take(&mut *self.state.got.lock())
    }

    /// The last request for this target.
    pub fn last(&self, target: &str) -> Got {
        let got = self.state.got.lock();
        got.iter().rev().find(|got| got.target == target).unwrap_or_else(|| panic!("no {target} in {got:?}")).clone()
    }
}

fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(state.answer(request).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            // A connection that breaks is part of some tests.
            let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
    }
}

fn full(status: u16, kind: &str, body: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    if !kind.is_empty() {
        answer.headers_mut().insert("content-type", kind.parse().unwrap());
    }
    answer
}

fn json(status: u16, body: &Value) -> Response<Body> {
    full(status, "application/json", body.to_string())
}

fn error(status: u16, kind: &str, key: &str, message: &str) -> Response<Body> {
    json(status, &json!({"Model": "", "Key": key, "Type": kind, "Messages": [message], "Code": status}))
}

/// 401 and 403 of credentials have no body.
fn refused(status: u16, challenge: bool) -> Response<Body> {
    let mut answer = full(status, "", "");
    if challenge {
        answer.headers_mut().insert("www-authenticate", "dr-provision".parse().unwrap());
    }
    answer
}

impl State {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let target = request.uri().path_and_query().map_or("*", |target| target.as_str()).to_owned();
        // Which hydrant asks for once, by itself.
        if target != "/api/v3/objects" {
            let (method, headers) = (request.method().to_string(), request.headers().clone());
            self.got.lock().push(Got { method, target, headers });
        }
        let path = percent_encoding::percent_decode_str(request.uri().path()).decode_utf8_lossy().into_owned();
        if let Some((_, status)) = self.page.lock().filter(|(begin, _)| path.starts_with(begin)) {
            return full(status, "text/html", "<html><body>Back in a moment</body></html>");
        }
        if let Some(rest) = path.strip_prefix("/api/v3/") {
            return self.rest(rest, request).await;
        }
        self.odd(&path, request).await
    }

    async fn rest(self: Arc<Self>, path: &str, request: Request<Incoming>) -> Response<Body> {
        // What anybody may have, and what anybody may ask for.
        if path == "public" || (request.method() == Method::OPTIONS && path == "machines") {
            return full(204, "", "");
        }
        let user = match self.authenticate(&request) {
            Ok(user) => user,
            Err(_) if self.muses.load(Ordering::Relaxed) => std::future::pending().await,
            Err((status, challenge)) => {
                tokio::time::sleep(Duration::from_millis(self.refuses_after.load(Ordering::Relaxed))).await;
                return refused(status, challenge);
            }
        };
        let segments: Vec<&str> = path.split('/').collect();
        let may = |scope: &str, action: &str, key: &str| self.may(&user, scope, action, key);
        match (request.method(), segments.as_slice()) {
            (&Method::GET, ["users", name, "token"]) if *name == user => {
                let token = self.users.lock()[*name].token(name, &self.base.lock(), &json!({}));
                json(200, &json!({"Token": token, "Info": {}}))
            }
            (&Method::GET, ["users" | "roles" | "tenants" | "prefs", ..] | ["machines", _, "connections"])
                if self.hangs.load(Ordering::Relaxed) =>
            {
                std::future::pending().await
            }
            (&Method::GET, ["tenants"]) if self.loses_tenants.load(Ordering::Relaxed) => {
                error(404, "GET", "tenants", "Not Found")
            }
            (_, segments) if segments.contains(&self.refuses.lock().0) => {
                error(self.refuses.lock().1, "AUTH", "", "credentials are not valid")
            }
            (&Method::GET, [list, ..]) if *self.breaks.lock() == *list => error(500, "GET", list, "broken"),
            (&Method::GET, ["users", name]) if *self.broken_user.lock() == *name => error(500, "GET", name, "broken"),
            // To those who may not, what they ask for does not exist.
            (&Method::GET, ["users", name]) if !may("users", "get", name) => error(404, "GET", name, "Not Found"),
            (&Method::GET, [list @ ("roles" | "tenants")]) if !may(list, "list", "*") => json(200, &json!([])),
            (&Method::GET, ["users", name]) => {
                tokio::time::sleep(Duration::from_millis(self.pause.load(Ordering::Relaxed))).await;
                while self.holds.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                match self.users.lock().get(*name) {
                    Some(user) => json(200, &user.shown(name, self.tells_secrets.load(Ordering::Relaxed))),
                    None => error(404, "GET", name, "Not Found"),
                }
            }
            (&Method::GET, ["roles"]) => json(200, &self.roles.lock()),
            (&Method::GET, ["tenants"]) => json(200, &self.tenants.lock()),
            (&Method::GET, ["prefs"]) if may("preferences", "list", "*") && self.tells_base.load(Ordering::Relaxed) => {
                json(200, &json!({"baseTokenSecret": *self.base.lock(), "debugRenderer": "warn"}))
            }
            (&Method::GET, ["objects"]) => json(200, &json!(["machines", "dns_zones"])),
            (&Method::GET, ["prefs"]) => error(403, "AUTH", "", "Requires: more"),
            (&Method::GET, ["info"]) => self.info(),
            (&Method::GET, ["machines", MACHINE | "Name:john"]) => {
                json(200, &json!({"Uuid": MACHINE, "Name": "john", "Runnable": false}))
            }
            (&Method::GET, ["machines", key]) => error(404, "GET", key, "Not Found"),
            (&Method::GET, ["connections"]) => json(200, &Value::Array(self.connections.lock().clone())),
            (&Method::GET | &Method::DELETE, ["connections", "192.0.2.9:99"]) => {
                json(200, &json!({"Principal": "user:other", "RemoteAddr": "192.0.2.9:99", "Type": "websocket"}))
            }
            (&Method::POST, ["events"]) => self.take_event(request, &user).await,
            (&Method::GET, ["ws"]) => websocket(request, self.stream.subscribe()),
            _ => error(404, "method", request.uri().path(), "No route"),
        }
    }

    fn info(&self) -> Response<Body> {
        let mut info = json!({"arch": "amd64", "os": "linux", "version": "v4.12.0", "zeta": 1.0,
            "features": ["api-v3", "secure-params"], "stats": [{"name": "machines.count", "count": 1}],
            "License": {"Data": "12345678901234567890"}});
        match self.padding.load(Ordering::Relaxed) {
            0 => {}
            blanks => info["padding"] = " ".repeat(blanks).into(),
        }
        json(200, &info)
    }

    /// Sends what a user posts down the stream.
    async fn take_event(&self, request: Request<Incoming>, user: &str) -> Response<Body> {
        let Ok(body) = request.into_body().collect().await else {
            return error(400, "POST", "", "unexpected EOF");
        };
        let event: Value = serde_json::from_slice(&body.to_bytes()).unwrap();
        self.emit(&event, &format!("user:{user}"));
        self.posted.lock().push(event);
        full(204, "application/json", "")
    }

    /// Whether one of a user's roles, or what every user may, grants this.
    fn may(&self, user: &str, scope: &str, action: &str, key: &str) -> bool {
        let held = self.users.lock()[user].roles.clone();
        let has = |claim: &Value, part: &str, wanted: &str| {
            claim[part].as_str().unwrap().split(',').any(|term| term == "*" || term == wanted)
        };
        let grants =
            |claim: &Value| has(claim, "scope", scope) && has(claim, "action", action) && has(claim, "specific", key);
        let roles = self.roles.lock();
        let mut roles = roles.as_array().unwrap().iter().filter(|role| held.iter().any(|held| role["Name"] == **held));
        let own = (scope, action, key) == ("users", "get", user);
        own || roles.any(|role| role["Claims"].as_array().unwrap().iter().any(grants))
    }

    /// Who it is; otherwise, by DRP's table of refusals, the status and whether there is a challenge.
    fn authenticate(&self, request: &Request<Incoming>) -> Result<String, (u16, bool)> {
        let header = request.headers().get("authorization").map_or("", |value| value.to_str().unwrap());
        let query = request.uri().query().unwrap_or("").split('&').find_map(|pair| pair.strip_prefix("token="));
        let (scheme, value) = match (header, query) {
            ("", None | Some("")) => return Err((401, true)),
            ("", Some(value)) if value.contains(':') => ("Basic", STANDARD.encode(value)),
            ("", Some(value)) => ("Bearer", value.to_owned()),
            (header, _) => {
                header.split_once(' ').map_or(("", String::new()), |(scheme, rest)| (scheme, rest.to_owned()))
            }
        };
        match scheme {
            "Basic" => {
                let text = STANDARD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                let text = text.ok_or((401, true))?;
                let (user, password) = text.split_once(':').ok_or((401, true))?;
                let right = self.users.lock().get(user).is_some_and(|known| known.password == password);
                right.then(|| user.to_owned()).ok_or((403, false))
            }
            "Bearer" => self.bearer(&value).ok_or((403, true)),
            _ => Err((401, true)),
        }
    }

    /// Sends an event down the stream.
    pub fn emit(&self, event: &Value, principal: &str) {
        let event = json!({"Time": "2026-01-01T00:00:00Z", "Type": event["Type"], "Action": event["Action"],
            "Key": event["Key"], "Principal": principal, "Object": event["Object"], "Original": event["Original"]});
        // Nobody may be listening.
        let _ = self.stream.send(event.to_string());
    }

    /// Whose token it is, if it is good.
    fn bearer(&self, token: &str) -> Option<String> {
        let payload = tokens::open(token, &self.base.lock())?;
        let user = payload["jti"].as_str()?;
        let secret = &payload["grantor_claims"]["user_secret"];
        let good = self.users.lock().get(user).is_some_and(|known| *secret == *known.secret);
        good.then(|| user.to_owned())
    }

    /// Paths that are not the API's.
    async fn odd(self: Arc<Self>, path: &str, request: Request<Incoming>) -> Response<Body> {
        match path {
            "/ui/" => full(200, "text/html", "<html></html>"),
            "/teapot" => {
                let mut answer = full(418, "text/plain", "no coffee");
                let headers = answer.headers_mut();
                headers.append("set-cookie", "a=1".parse().unwrap());
                headers.append("set-cookie", "b=2".parse().unwrap());
                headers.insert("access-control-allow-credentials", "true".parse().unwrap());
                headers.insert("connection", "x-hop".parse().unwrap());
                headers.insert("x-hop", "1".parse().unwrap());
                headers.insert("keep-alive", "timeout=9".parse().unwrap());
                answer
            }
            "/empty" => full(204, "", ""),
            "/unchanged" => {
                let mut answer = full(304, "", "");
                answer.headers_mut().insert("etag", "\"x\"".parse().unwrap());
                answer
            }
            "/sink" => self.sink(request).await,
            "/refusing" => full(413, "text/plain", "too much"),
            "/forbidden" => {
                tokio::spawn(self.sink(request));
                full(403, "text/plain", "no")
            }
            "/forbidden/unread" => {
                self.reads_on.notified().await;
                tokio::spawn(async move {
                    let _held = request;
                    std::future::pending::<()>().await;
                });
                full(403, "text/plain", "no")
            }
            "/silent" => {
                let _gone = FrameValidator::new(&self);
                std::future::pending().await
            }
            "/unread" => {
                self.reads_on.notified().await;
                self.sink(request).await
            }
            "/switch" => switch(request),
            _ => match path.strip_prefix("/blob/").and_then(|size| size.parse().ok()) {
                Some(size) => blob(size, FrameValidator::new(&self)),
                None if path.starts_with("/refuse/") => refuse(request).await,
                None if path == "/cut" => halting(Duration::ZERO, FrameValidator::new(&self)),
                None if path == "/stalling" => halting(Duration::from_hours(1), FrameValidator::new(&self)),
                None => full(404, "text/plain", "404 page not found\n"),
            },
        }
    }

    async fn sink(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let validator = FrameValidator::new(&self);
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            // A client that goes away in the middle is one of the tests.
            let Ok(frame) = frame else { return full(400, "", "") };
            let data = frame.into_data().unwrap();
            self.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        validator.done();
        json(200, &json!({"received": self.received.load(Ordering::Relaxed)}))
    }
}

/// Refuses a body before its end, but after what has been sent of it: if a server closes a connection before it has
/// read everything, the system may discard the rest of its answer. As many bytes as the path says follow.
async fn refuse(request: Request<Incoming>) -> Response<Body> {
    let size = request.uri().path().trim_start_matches("/refuse/").parse().unwrap();
    if !request.headers().contains_key("expect") {
        let (mut body, mut received) = (request.into_body(), 0);
        while received < SENT_BEFORE_REFUSAL {
            let Some(Ok(frame)) = body.frame().await else { break };
            received += frame.into_data().unwrap().len();
        }
    }
    full(413, "text/plain", vec![b'x'; size])
}

/// Tells the state when it is dropped before it is done.
struct FrameValidator(Option<Arc<State>>);

impl FrameValidator {
    fn new(state: &Arc<State>) -> Self {
        Self(Some(Arc::clone(state)))
    }

    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for FrameValidator {
    fn drop(&mut self) {
        if let Some(state) = &self.0 {
            state.abandoned.notify_one();
        }
    }
}

/// A thousand bytes of which ten come; then, after a pause, it breaks off.
fn halting(pause: Duration, validator: FrameValidator) -> Response<Body> {
    let stream = futures_util::stream::unfold((0, validator), move |(step, validator)| async move {
        match step {
            0 => Some((Ok(Frame::data(Bytes::from_static(b"0123456789"))), (1, validator))),
            1 => {
                tokio::time::sleep(pause).await;
                Some((Err(io::Error::other("halted")), (2, validator)))
            }
            _ => None,
        }
    });
    let mut answer = Response::new(StreamBody::new(stream).boxed_unsync());
    answer.headers_mut().insert("content-length", "1000".parse().unwrap());
    answer
}

/// So many bytes without a `Content-Length`.
fn blob(size: u64, validator: FrameValidator) -> Response<Body> {
    const CHUNK: u64 = 64 << 10;
    let stream = futures_util::stream::unfold((size, validator), |(left, validator)| async move {
        let now = left.min(CHUNK);
        if now == 0 {
            validator.done();
            return None;
        }
        Some((Ok(Frame::data(Bytes::from(vec![b'x'; usize::try_from(now).unwrap()]))), (left - now, validator)))
    });
    Response::new(StreamBody::new(stream).boxed_unsync())
}

/// A websocket: answers commands, and hands on the stream once something is registered.
fn websocket(mut request: Request<Incoming>, mut stream: broadcast::Receiver<String>) -> Response<Body> {
    let key = request.headers()["sec-websocket-key"].as_bytes().to_vec();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        let mut registered = false;
        loop {
            let text = tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        let (verb, spec) = text.split_once(' ').unwrap();
                        registered = verb == "register";
                        json!({"Time": "2026-01-01T00:00:00Z", "Type": "websocket", "Action": verb, "Key": spec,
                            "Principal": "", "Object": null, "Original": null}).to_string()
                    }
                    Some(Ok(_)) => continue,
                    _ => return,
                },
                event = stream.recv() => match event {
                    Ok(event) if registered => event,
                    Ok(_) => continue,
                    Err(_) => return,
                },
            };
            if socket.send(Message::text(text)).await.is_err() {
                return;
            }
        }
    });
    let mut answer = full(101, "", "");
    let headers = answer.headers_mut();
    headers.insert("connection", "Upgrade".parse().unwrap());
    headers.insert("upgrade", "websocket".parse().unwrap());
    headers.insert("sec-websocket-accept", derive_accept_key(&key).parse().unwrap());
    answer
}

/// Changes to a protocol that sends back what comes.
fn switch(mut request: Request<Incoming>) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut to).await;
    });
    let mut answer = full(101, "", "");
    answer.headers_mut().insert("connection", "Upgrade".parse().unwrap());
    answer.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    answer
}
