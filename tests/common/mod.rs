//! What the tests of a whole server share: a server on free ports with its own data directory, and clients that are not
//! ours.
//!
//! Nothing here sleeps to wait for something. What has to happen is awaited on a socket, and what nobody tells is
//! polled until it holds, both with a bound of [`PATIENCE`].

#![allow(dead_code, unreachable_pub, reason = "every test binary takes its own part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

pub mod balancer;
pub mod canary;
pub mod descriptors;
pub mod document;
pub mod drp;
pub mod faults;
pub mod http;
pub mod link;
pub mod people;
pub mod ports;
pub mod program;
pub mod raw;
pub mod socket;
pub mod stream;
pub mod ws;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use hydrant::config::{FlagValue, Settings, Sources};
use hydrant::server::Server;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::OnceCell;

use http::Reply;

/// How long a test waits for something that must happen; far more than a busy machine needs.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The first user, as `user:password`.
pub const LOGIN: &str = "rocketskates:r0cketsk8ts";

/// What events of the first user are marked with.
pub const PRINCIPAL: &str = "user:rocketskates";

/// The media types of event posts.
pub const JSON: &str = "application/json";
/// One event a line.
pub const NDJSON: &str = "application/x-ndjson";

/// Awaits with a bound; `what` is what the test waits for.
pub async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(PATIENCE, future).await else { panic!("waited in vain for {what}") };
    value
}

/// A server of this process, and its data directory.
pub struct Hydrant {
    /// Dropped first, while the server still answers.
    canary: canary::AtEnd,
    pub server: Server,
    pub tls: bool,
    token: OnceCell<String>,
    issuer: people::Issuer,
    /// Its answers are as it describes them.
    _described: Option<document::Described>,
    dir: tempfile::TempDir,
}

impl Hydrant {
    /// A server without TLS, with these settings on top.
    pub async fn start(toml: &str) -> Self {
        Self::start_with(toml, "off").await
    }

    /// A server with its self-signed certificate.
    pub async fn start_tls(toml: &str) -> Self {
        Self::start_with(toml, "self-signed").await
    }

    /// A server with the certificate whose files the settings name.
    pub async fn start_files(toml: &str) -> Self {
        Self::start_with(toml, "files").await
    }

    async fn start_with(toml: &str, tls: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), toml, tls).await
    }

    /// A server whose data directory, `data` in `dir`, may have something in it already.
    async fn start_in(dir: tempfile::TempDir, toml: &str, tls: &str) -> Self {
        canary::watch();
        canary::guard_toml(toml);
        let server = Box::pin(Server::start(settings(dir.path(), toml, tls))).await.unwrap();
        canary::guard_data(&dir.path().join("data"));
        let (token, tls) = (OnceCell::new(), tls != "off");
        let (probe, api) = (server.probe_address().unwrap(), server.addresses()[0]);
        let canary = canary::AtEnd::within(probe, api, tls, canary::issuing(toml, dir.path().join("data")));
        let described = document::Described::at(api, toml);
        Self { canary, server, tls, token, issuer: people::Issuer::default(), _described: described, dir }
    }

    /// Ends it in good order; there is nothing to look at any more.
    pub async fn stop(mut self) {
        self.canary.stopped();
        self.server.stop().await;
    }

    /// Where the API is.
    pub fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }

    /// Where users, roles and keys are kept.
    pub fn data_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// A token of the first user; fetched once, because a password is slow to check by design.
    pub async fn token(&self) -> &str {
        let fetch = async || {
            let path = "/api/v3/users/rocketskates/token?ttl=3600";
            let reply =
                http::request(self.address(), self.tls, "GET", path, &[("authorization", &basic(LOGIN))], "").await;
            let token = reply.json()["Token"].as_str().unwrap().to_owned();
            canary::validator(&token);
            token
        };
        self.token.get_or_init(fetch).await
    }

    /// One request as the first user.
    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let bearer = format!("Bearer {}", self.token().await);
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        http::request(self.address(), self.tls, method, path, &all, body).await
    }

    /// Posts events and returns the answer.
    pub async fn try_post(&self, form: &str, body: &str) -> Reply {
        self.request("POST", "/api/v3/events", &[("content-type", form)], body).await
    }

    /// Posts one event or an array of events, which must be taken.
    pub async fn post(&self, body: &str) {
        self.try_post(JSON, body).await.taken();
    }

    /// Posts lines, which must be taken.
    pub async fn post_lines(&self, body: &str) {
        self.try_post(NDJSON, body).await.taken();
    }

    /// Posts an event without objects.
    pub async fn announce(&self, kind: &str, action: &str, key: &str) {
        self.post(&event(kind, action, key)).await;
    }

    /// The value of a metric, labels included in the name as they are printed.
    pub async fn metric(&self, name: &str) -> u64 {
        http::metric(self.server.probe_address().unwrap(), name).await
    }

    /// Waits until a metric has this value.
    pub async fn until(&self, name: &str, value: u64) {
        http::metric_reaches(self.server.probe_address().unwrap(), name, value).await;
    }

    /// Waits until a metric satisfies.
    pub async fn until_that(&self, name: &str, good: impl Fn(u64) -> bool) {
        http::metric_satisfies(self.server.probe_address().unwrap(), name, good).await;
    }

    /// Waits until nothing is left of any connection.
    pub async fn until_empty(&self) {
        for gauge in [
            "hydrant_connections",
            "hydrant_registrations",
            "hydrant_queue_events",
            "hydrant_queue_bytes",
            "hydrant_queue_events_max",
            "hydrant_queue_bytes_max",
            "hydrant_inbox_events",
            "hydrant_frames",
        ] {
            self.until(gauge, 0).await;
        }
    }
}

/// The settings of such a server.
pub fn settings(dir: &std::path::Path, toml: &str, tls: &str) -> Settings {
    let file = dir.join("hydrant.toml");
    // Connections come and go with every client; only the tests of their events want to hear of it.
    let quiet = if toml.contains("connection_events") { "" } else { "connection_events = false\n" };
    std::fs::write(&file, format!("{quiet}{toml}")).unwrap();
    let data = dir.join("data").display().to_string();
    let flag = |key, text: &str| FlagValue { key, flag: "--test", text: text.to_owned() };
    let mut flags = vec![flag("tls", tls), flag("data_dir", &data)];
    if !toml.contains("metrics_listen = ") {
        flags.push(flag("metrics_listen", "127.0.0.1:0"));
    }
    if !toml.contains("listen = ") {
        flags.push(flag("listen", "127.0.0.1:0"));
    }
    flags.extend(patient(toml).map(|(key, text)| flag(key, text)));
    Settings::load(&Sources { file: Some(file), env: Vec::new(), flags }).unwrap()
}

/// Time limits that no test's client reaches because the machine is busy, for a server whose own settings say nothing
/// of them: hundreds of clients may shake hands at once, and one that only reads what is not a ping answers none.
pub fn patient(toml: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let limits = [
        ("timeouts.header", "2m", ["header = "; 2]),
        ("timeouts.handshake", "2m", ["handshake = "; 2]),
        ("timeouts.ping", "5m", ["ping = ", "idle = "]),
        ("timeouts.idle", "10m", ["ping = ", "idle = "]),
    ];
    let unsaid =
        limits.map(|(key, text, names)| (!names.iter().any(|name| toml.contains(name))).then_some((key, text)));
    unsaid.into_iter().flatten()
}

/// The value of a Basic header.
pub fn basic(login: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login))
}

/// An event without objects, as a producer writes it.
pub fn event(kind: &str, action: &str, key: &str) -> String {
    serde_json::json!({"Type": kind, "Action": action, "Key": key}).to_string()
}

/// An event as a client got it. Reading it fails unless it has exactly the seven fields.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Seen {
    pub time: String,
    pub r#type: String,
    pub action: String,
    pub key: String,
    pub principal: String,
    pub object: Box<RawValue>,
    pub original: Box<RawValue>,
}

impl Seen {
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Type, Action and Key as registrations name them.
    pub fn name(&self) -> String {
        format!("{}.{}.{}", self.r#type, self.action, self.key)
    }

    /// The message of an error answer.
    pub fn error(&self) -> String {
        assert_eq!((self.r#type.as_str(), self.action.as_str()), ("websocket", "error"), "{self:?}");
        let object: serde_json::Value = serde_json::from_str(self.object.get()).unwrap();
        assert_eq!(object["Code"], 400, "{object}");
        object["Messages"][0].as_str().unwrap().to_owned()
    }
}

/// JSON without white space between its tokens. Written anew for the tests, to judge the server's own.
pub fn compact(json: &str) -> String {
    let (mut out, mut quoted, mut escaped) = (String::with_capacity(json.len()), false, false);
    for c in json.chars() {
        if quoted || !matches!(c, ' ' | '\t' | '\r' | '\n') {
            out.push(c);
        }
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
    }
    out
}

/// The opposite: white space (no line breaks, so that it stays one line) wherever JSON allows it.
pub fn spread(json: &str) -> String {
    let (mut out, mut quoted, mut escaped) = (String::with_capacity(2 * json.len()), false, false);
    for c in json.chars() {
        let structural = !quoted && matches!(c, '{' | '}' | '[' | ']' | ',' | ':');
        if structural {
            out.push(' ');
        }
        out.push(c);
        if structural {
            out.push('\t');
        }
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
    }
    out
}
