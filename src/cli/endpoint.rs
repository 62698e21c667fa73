//! The flags and environment variables with which commands find their server, as in drpcli; and what to check when it
//! refuses a request.
//!
//! A server does not say why it does not accept a credential. But the command knows where its endpoint and its
//! credential come from, and may read its own token. No text shows a password or a token.

#![expect(clippy::doc_markdown, reason = "the comments on flags are their help texts")]

use std::env::VarError;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};

use super::text::printable;
use crate::client::{ClientError, Credentials, DEFAULT_ENDPOINT, RefusedError, Target, Trust};
use crate::clock;

/// DRP's first user, as in drpcli.
const DEFAULT_USER: &str = "rocketskates";
const DEFAULT_PASSWORD: &str = "r0cketsk8ts";

pub(super) const HELP: &str = "\
Credentials come from -T, else -U and -P, else RS_TOKEN, else RS_KEY (user:password), else DRP's first user.
The server's certificate is NOT verified unless --cacert is given, as with drpcli: DRP endpoints sign their own.";

/// The reason why an endpoint cannot be used.
#[derive(Debug, Error)]
pub(crate) enum EndpointError {
    // Does not repeat the value, which may be only a password.
    #[error("RS_KEY must be user:password, but has no colon")]
    Key,
    #[error("{0} is not valid UTF-8")]
    Variable(&'static str),
    #[error(transparent)]
    Target(#[from] ClientError),
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
}

/// The address of an endpoint and the credentials. Not `Debug`, because it holds a password.
#[derive(Clone, Args)]
#[command(next_help_heading = "Endpoint")]
pub(super) struct EndpointArgs {
    /// The server's URL [env: RS_ENDPOINT] [default: https://127.0.0.1:8092]
    #[arg(short = 'E', long, value_name = "URL")]
    endpoint: Option<String>,
    /// User name [env: RS_KEY]
    #[arg(short = 'U', long, value_name = "NAME")]
    username: Option<String>,
    /// Password; other users of this machine can see it on the command line, so prefer RS_KEY [env: RS_KEY]
    #[arg(short = 'P', long)]
    password: Option<String>,
    /// Token instead of user and password [env: RS_TOKEN]
    #[arg(short = 'T', long, conflicts_with_all = ["username", "password"])]
    token: Option<String>,
    /// Verify the server's certificate with the CA certificates in this PEM file
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
}

impl EndpointArgs {
    /// Returns the target that flags and environment name.
    pub(super) fn target(&self) -> Result<Target, EndpointError> {
        // One that cannot be read does not mean the default: that is another server, or another user.
        for name in ["RS_ENDPOINT", "RS_KEY", "RS_TOKEN"] {
            if matches!(std::env::var(name), Err(VarError::NotUnicode(_))) {
                return Err(EndpointError::Variable(name));
            }
        }
        let variable = |name: &str| std::env::var(name).ok();
        let endpoint = self.url(variable).parse()?;
        let trust = self.cacert.clone().map_or(Trust::Any, Trust::Ca);
        Ok(Target::new(endpoint, &self.credentials(variable)?, &trust)?)
    }

    fn url(&self, variable: impl Fn(&str) -> Option<String>) -> String {
        let set = variable("RS_ENDPOINT").filter(|url| !url.is_empty());
        self.endpoint.clone().or(set).unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned())
    }

    fn credentials(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Credentials, EndpointError> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        if let Some(token) = &self.token {
            return Ok(Credentials::Token(token.clone()));
        }
        let flags = self.username.is_some() || self.password.is_some();
        if let (false, Some(token)) = (flags, set("RS_TOKEN")) {
            return Ok(Credentials::Token(token));
        }
        let (mut user, mut password) = match set("RS_KEY") {
            Some(key) => split_key(&key)?,
            None => (DEFAULT_USER.to_owned(), DEFAULT_PASSWORD.to_owned()),
        };
        user = self.username.clone().unwrap_or(user);
        password = self.password.clone().unwrap_or(password);
        Ok(Credentials::Password { user, password })
    }
}

impl EndpointArgs {
    /// Returns what to check when the server refuses a request like this.
    pub(super) fn advice(&self, refusal: &RefusedError) -> Option<String> {
        let variable = |name: &str| std::env::var(name).ok();
        match refusal.status {
            404 | 405 | 501 => Some(self.which_server(variable)),
            401 | 403 => self.whose_credentials(variable, clock::now()),
            _ => None,
        }
    }

    fn which_server(&self, variable: impl Fn(&str) -> Option<String>) -> String {
        let is_set = variable("RS_ENDPOINT").is_some_and(|url| !url.is_empty());
        let from = match (&self.endpoint, is_set) {
            (Some(_), _) => "comes from -E",
            (None, true) => "comes from RS_ENDPOINT",
            (None, false) => "is the default, since neither -E nor RS_ENDPOINT is set",
        };
        format!("is {} a hydrant server? The endpoint {from}", printable(&self.url(variable)))
    }

    fn whose_credentials(&self, variable: impl Fn(&str) -> Option<String>, now: Timestamp) -> Option<String> {
        let has_key = variable("RS_KEY").is_some_and(|key| !key.is_empty());
        Some(match self.credentials(variable).ok()? {
            Credentials::Token(token) => self.whose_token(&token, now),
            Credentials::Password { user, .. } => self.whose_password(&printable(&user), has_key),
        })
    }

    fn whose_token(&self, token: &str, now: Timestamp) -> String {
        let from = if self.token.is_some() { "-T" } else { "RS_TOKEN" };
        match expiry(token).filter(|at| *at <= now) {
            Some(at) => format!("the token of {from} expired at {at}; get a new one"),
            None => format!("the token comes from {from}"),
        }
    }

    fn whose_password(&self, user: &str, has_key: bool) -> String {
        let from =
            |flag, value: &Option<String>| if value.is_some() { Some(flag) } else { has_key.then_some("RS_KEY") };
        match (from("-U", &self.username), from("-P", &self.password)) {
            (named, Some(password)) => {
                let user_from = named.map_or_else(|| "the default".to_owned(), |source| format!("from {source}"));
                format!("the user is `{user}` ({user_from}), the password comes from {password}")
            }
            (Some(named), None) => format!(
                "the user is `{user}` (from {named}); no password was given (-P or RS_KEY), so DRP's default password \
                 was sent"
            ),
            (None, None) => format!(
                "no credentials were given (-U and -P, -T, RS_KEY or RS_TOKEN), so DRP's default user `{user}` and its \
                 default password were sent"
            ),
        }
    }
}

/// Returns when a token expires, if it is a JWT.
fn expiry(token: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Payload {
        exp: i64,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    let Payload { exp } = serde_json::from_slice(&payload).ok()?;
    Some(clock::at_second(exp))
}

fn split_key(key: &str) -> Result<(String, String), EndpointError> {
    let (user, password) = key.split_once(':').ok_or(EndpointError::Key)?;
    Ok((user.to_owned(), password.to_owned()))
}

/// Returns the runtime of the commands that talk to an endpoint: they run for a long time and wait for several things
/// at once.
pub(super) fn runtime() -> Result<Runtime, EndpointError> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(EndpointError::Runtime)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        endpoint: EndpointArgs,
    }

    fn who(args: &[&str], env: &[(&str, &str)]) -> String {
        let line = Line::parse_from(std::iter::once(&"x").chain(args));
        let variable = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        match line.endpoint.credentials(variable) {
            Ok(Credentials::Password { user, password }) => format!("{user}:{password}"),
            Ok(Credentials::Token(token)) => format!("token {token}"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn credentials_are_found_in_the_order_of_the_help() {
        let env = [("RS_TOKEN", "t"), ("RS_KEY", "u:p:q")];
        assert_eq!(who(&[], &[]), "rocketskates:r0cketsk8ts");
        assert_eq!(who(&[], &env[1..]), "u:p:q");
        assert_eq!(who(&[], &env), "token t");
        assert_eq!(who(&["-U", "a", "-P", "b"], &env), "a:b");
        assert_eq!(who(&["-U", "a"], &[]), "a:r0cketsk8ts");
        assert_eq!(who(&["-T", "x"], &env), "token x");
        assert_eq!(who(&[], &[("RS_TOKEN", ""), ("RS_KEY", "")]), "rocketskates:r0cketsk8ts");
        let message = who(&[], &[("RS_KEY", "canary")]);
        assert!(message.contains("RS_KEY") && !message.contains("canary"), "{message}");
        assert!(Line::try_parse_from(["x", "-T", "t", "-U", "u"]).is_err());
    }

    #[test]
    fn advice_names_where_the_credentials_come_from() {
        let says = |args: &[&str], env: &[(&str, &str)]| {
            let line = Line::parse_from(std::iter::once(&"x").chain(args));
            let variable = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            line.endpoint.whose_credentials(variable, clock::at_second(1000)).unwrap()
        };
        assert!(says(&[], &[]).starts_with("no credentials were given (-U and -P, -T, RS_KEY or RS_TOKEN)"));
        let from_key = says(&[], &[("RS_KEY", "a:canary")]);
        assert_eq!(from_key, "the user is `a` (from RS_KEY), the password comes from RS_KEY");
        let mixed = says(&["-U", "b"], &[("RS_KEY", "a:canary"), ("RS_TOKEN", "canary")]);
        assert_eq!(mixed, "the user is `b` (from -U), the password comes from RS_KEY");
        assert!(says(&["-U", "b"], &[]).starts_with("the user is `b` (from -U); no password was given"));
        let default = says(&["-P", "canary"], &[]);
        assert_eq!(default, "the user is `rocketskates` (the default), the password comes from -P");
        let token = |exp: i64| format!("h.{}.s", URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{exp},"sub":"a"}}"#)));
        assert_eq!(says(&["-T", &token(1001)], &[]), "the token comes from -T");
        let expired = "the token of RS_TOKEN expired at 1970-01-01T00:16:40Z; get a new one";
        assert_eq!(says(&[], &[("RS_TOKEN", &token(1000))]), expired);
        assert_eq!(says(&[], &[("RS_TOKEN", "sealed")]), "the token comes from RS_TOKEN");
    }

    #[test]
    fn the_flag_beats_the_variable() {
        let url = |args: &[&str], value: &'static str| {
            let line = Line::parse_from(std::iter::once(&"x").chain(args));
            line.endpoint.url(|name| (name == "RS_ENDPOINT").then(|| value.to_owned()))
        };
        assert_eq!(url(&["-E", "http://a"], "http://b"), "http://a");
        assert_eq!(url(&[], "http://b"), "http://b");
        assert_eq!(url(&[], ""), DEFAULT_ENDPOINT);
        let asks = |args: &[&str], value: &'static str| {
            let line = Line::parse_from(std::iter::once(&"x").chain(args));
            line.endpoint.which_server(|name| (name == "RS_ENDPOINT").then(|| value.to_owned()))
        };
        assert_eq!(asks(&["-E", "http://a"], "http://b"), "is http://a a hydrant server? The endpoint comes from -E");
        assert!(asks(&[], "http://b").ends_with("comes from RS_ENDPOINT") && asks(&[], "").contains("the default"));
    }
}
