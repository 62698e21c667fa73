//! The settings of upstream endpoints in the form the client needs, and the checks on them.

use super::kind::UpstreamTls;
use super::pem;
use super::raw::{RawSettings, readable};
use super::settings::{Settings, Upstream};
use crate::client::{Endpoint, Login, Secret, SecretSource, Service, Trust};

impl Upstream {
    /// Returns the endpoints, each with how the server logs in there; none if nothing is configured. `receive_buffer`
    /// is `limits.socket_buffer`.
    pub fn services(&self, receive_buffer: usize) -> Vec<Service> {
        let Some(login) = self.login() else { return Vec::new() };
        let service = |endpoint: &Endpoint| Service {
            endpoint: endpoint.clone(),
            login: login.clone(),
            trust: self.trust(endpoint),
            receive_buffer,
        };
        self.urls.iter().map(service).collect()
    }

    fn login(&self) -> Option<Login> {
        if let Some(token) = source(self.token.as_ref(), self.token_file.as_ref()) {
            return Some(Login::Token(token));
        }
        let password = source(self.password.as_ref(), self.password_file.as_ref())?;
        Some(Login::Password { user: self.username.clone(), password })
    }

    fn trust(&self, endpoint: &Endpoint) -> Trust {
        match (self.tls, &self.ca_file) {
            (UpstreamTls::Verify, Some(path)) if endpoint.tls => Trust::Ca(path.clone()),
            (UpstreamTls::Pin, _) => Trust::Pinned(self.fingerprint.clone()),
            _ => Trust::Any,
        }
    }
}

fn source(raw: Option<&Secret>, file: Option<&std::path::PathBuf>) -> Option<SecretSource> {
    raw.cloned().map(SecretSource::Inline).or_else(|| file.cloned().map(SecretSource::File))
}

/// Adds errors for settings that contradict each other.
pub(super) fn check(settings: &Settings, raw: &mut RawSettings) {
    let upstream = &settings.upstream;
    times(upstream, raw);
    if upstream.urls.is_empty() {
        for key in raw.given("upstream.") {
            raw.note(key, "has no effect without upstream.urls");
        }
        return;
    }
    for (at, url) in upstream.urls.iter().enumerate() {
        if upstream.urls[..at].contains(url) {
            raw.refuse(&["upstream.urls"], format!("{url} is listed twice"));
        }
    }
    ports(raw);
    credentials(upstream, raw);
    ca_file(upstream, raw);
    fingerprint(upstream, raw);
}

/// Adds a note for a URL without a port, which is rarely intended: DRP endpoints listen on 8092.
fn ports(raw: &mut RawSettings) {
    let urls = raw.text("upstream.urls").unwrap_or_default().to_owned();
    for url in urls.split(',').map(str::trim).filter(|url| !Endpoint::names_port(url)) {
        if let Ok(endpoint) = url.parse::<Endpoint>() {
            let text = format!("has no port, so port {} is used: {endpoint}", endpoint.port);
            raw.note("upstream.urls", &text);
        }
    }
}

fn credentials(upstream: &Upstream, raw: &mut RawSettings) {
    let all = [
        ("upstream.password", upstream.password.is_some()),
        ("upstream.password_file", upstream.password_file.is_some()),
        ("upstream.token", upstream.token.is_some()),
        ("upstream.token_file", upstream.token_file.is_some()),
    ];
    let mut set = all.iter().filter(|(_, set)| *set).map(|(key, _)| *key);
    match (set.next(), set.next()) {
        (None, _) => {
            let reason = "upstream.urls requires one of password, password_file, token and token_file".to_owned();
            raw.refuse(&["upstream.password", "upstream.urls"], reason);
        }
        (Some(first), Some(second)) => {
            raw.refuse(&[second, first], format!("{first} is set as well; set only one of them"));
        }
        _ => {}
    }
    for (key, path) in
        [("upstream.password_file", &upstream.password_file), ("upstream.token_file", &upstream.token_file)]
    {
        path.iter().for_each(|path| {
            readable(key, path, raw);
        });
    }
}

fn ca_file(upstream: &Upstream, raw: &mut RawSettings) {
    let (mode, verify) = (upstream.tls.name(), upstream.tls == UpstreamTls::Verify);
    let encrypted = upstream.urls.iter().any(|url| url.tls);
    match &upstream.ca_file {
        None if verify && encrypted => {
            let reason =
                "required with tls = \"verify\": a PEM file with the CA's certificate; for an endpoint with a \
                 self-signed certificate, set tls = \"pin\" and a fingerprint"
                    .to_owned();
            raw.refuse(&["upstream.ca_file", "upstream.tls", "upstream.urls"], reason);
        }
        Some(path) if verify => pem::authorities("upstream.ca_file", path, raw),
        Some(_) => raw.refuse(&["upstream.ca_file", "upstream.tls"], format!("has no effect with tls = \"{mode}\"")),
        None => {}
    }
}

fn fingerprint(upstream: &Upstream, raw: &mut RawSettings) {
    let (mode, pin) = (upstream.tls.name(), upstream.tls == UpstreamTls::Pin);
    if pin == upstream.fingerprint.is_empty() {
        let reason =
            if pin { "required with tls = \"pin\"".to_owned() } else { format!("has no effect with tls = \"{mode}\"") };
        raw.refuse(&["upstream.fingerprint", "upstream.tls"], reason);
    }
}

fn times(upstream: &Upstream, raw: &mut RawSettings) {
    for (short, key, long, other) in [
        (upstream.ping, "upstream.ping", upstream.idle, "upstream.idle"),
        (upstream.backoff_min, "upstream.backoff_min", upstream.backoff_max, "upstream.backoff_max"),
    ] {
        if short > long || (key == "upstream.ping" && short == long) {
            raw.refuse(&[key, other], format!("{short:?} is too long for {other} ({long:?})"));
        }
    }
}
