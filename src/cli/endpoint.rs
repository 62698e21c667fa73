//! The flags and environment variables with which commands find their server: those of drpcli.

#![expect(clippy::doc_markdown, reason = "the comments on flags are their help texts")]

use std::env::VarError;
use std::path::PathBuf;

use clap::Args;

use thiserror::Error;
use tokio::runtime::{Builder, Runtime};

use crate::client::{ClientError, Credentials, DEFAULT_ENDPOINT, Target, Trust};

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
#[derive(Args)]
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
    fn the_flag_beats_the_variable() {
        let url = |args: &[&str], value: &'static str| {
            let line = Line::parse_from(std::iter::once(&"x").chain(args));
            line.endpoint.url(|name| (name == "RS_ENDPOINT").then(|| value.to_owned()))
        };
        assert_eq!(url(&["-E", "http://a"], "http://b"), "http://a");
        assert_eq!(url(&[], "http://b"), "http://b");
        assert_eq!(url(&[], ""), DEFAULT_ENDPOINT);
    }
}
