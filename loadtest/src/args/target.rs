//! The server under test and its credentials.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::{ArgGroup, Args};
use hydrant::client::{Credentials, Endpoint as Location};

use crate::cpu::Cores;
use crate::endpoint::Endpoint;
use crate::server::{Launch, System};
use crate::tls::Trust;
use crate::usage::UsageError;

/// The user that a server creates at its first start, as DRP does.
const FIRST_USER: &str = "rocketskates:r0cketsk8ts";

/// The server under test and its credentials.
#[derive(Clone, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("server").required(true).args(["endpoint", "serve"]))]
pub struct Target {
    /// URL of the server: http, https, ws or wss, host and port. Not read from `RS_ENDPOINT`, so that a production
    /// server is not loaded by accident.
    #[arg(short = 'E', long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Start this hydrant on --server-core with a new data directory, and stop it afterwards.
    #[arg(long, value_name = "PROGRAM")]
    pub serve: Option<PathBuf>,
    /// Additional argument for the server that --serve starts; may be repeated.
    #[arg(long, value_name = "ARG", requires = "serve", allow_hyphen_values = true)]
    pub serve_arg: Vec<String>,
    /// Let the server that --serve starts use TLS.
    #[arg(long, requires = "serve")]
    pub serve_tls: bool,
    /// Process id of the server at --endpoint, to read its CPU time; without it there is no CPU figure.
    #[arg(long, value_name = "PID", conflicts_with = "serve")]
    pub server_pid: Option<u32>,
    /// Host and port of the metrics of the server at --endpoint.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "serve")]
    pub metrics: Option<String>,
    /// Accept any certificate.
    #[arg(short = 'k', long)]
    pub insecure: bool,
    /// Accept certificates signed by one in this PEM file.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// User and password.
    #[arg(
        long,
        env = "RS_KEY",
        hide_env_values = true,
        value_name = "USER:PASSWORD",
        default_value = FIRST_USER
    )]
    pub key: String,
    /// A token instead of user and password.
    #[arg(long, env = "RS_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("endpoint", &self.endpoint).field("serve", &self.serve).finish_non_exhaustive()
    }
}

impl Target {
    /// Checks the URL, the address of the metrics, and the credentials.
    ///
    /// # Errors
    /// Fails with a [`UsageError`] if one of them is not what its flag takes.
    pub(super) fn checked(&self) -> Result<()> {
        if let Some(url) = &self.endpoint {
            let wrong = |why: &dyn fmt::Display| UsageError(format!("--endpoint {url}: {why}"));
            ensure!(url.contains("://"), wrong(&"it is not a URL such as https://host:8092"));
            url.parse::<Location>().map_err(|error| wrong(&error))?;
        }
        if let Some(metrics) = &self.metrics {
            let port = metrics.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            ensure!(port.is_some(), UsageError(format!("--metrics {metrics}: it is not HOST:PORT")));
        }
        if self.token.is_none() {
            self.user_and_password()?;
        }
        Ok(())
    }

    /// Returns how to start the server, if --serve is given.
    pub fn launch(&self, cores: Cores) -> Option<Launch> {
        let program = self.serve.clone()?;
        let cores = cores.server.into_iter().collect();
        let (tls, arguments) = (self.serve_tls, self.serve_arg.clone());
        Some(Launch { system: System::Hydrant, program, tls, cores, arguments })
    }

    /// Returns the endpoint at `url`.
    ///
    /// # Errors
    /// Fails if the URL or the credentials are invalid.
    pub fn endpoint_at(&self, url: &str) -> Result<Endpoint> {
        let credentials = if let Some(token) = &self.token {
            Credentials::Token(token.clone())
        } else {
            let (user, password) = self.user_and_password()?;
            Credentials::Password { user: user.to_owned(), password: password.to_owned() }
        };
        self.endpoint_with(url, &credentials)
    }

    /// Returns the endpoint at `url` with other credentials.
    ///
    /// # Errors
    /// Fails if the URL or the credentials are invalid.
    pub fn endpoint_with(&self, url: &str, credentials: &Credentials) -> Result<Endpoint> {
        let trust = match &self.ca {
            _ if self.insecure || self.serve_tls => Trust::Anyone,
            Some(path) => Trust::Authorities(path),
            None => Trust::Nobody,
        };
        Endpoint::new(url, trust, Some(credentials))
    }

    /// Returns a hydrant that this program starts, with the user that it creates at its first start.
    pub fn of(program: &Path, tls: bool, arguments: &[String]) -> Self {
        Self {
            endpoint: None,
            serve: Some(program.to_owned()),
            serve_arg: arguments.to_vec(),
            serve_tls: tls,
            server_pid: None,
            metrics: None,
            insecure: false,
            ca: None,
            key: FIRST_USER.to_owned(),
            token: None,
        }
    }

    /// Returns the same server, to be started again with or without TLS.
    #[must_use]
    pub fn with_tls(&self, tls: bool) -> Self {
        Self { serve_tls: tls, ..self.clone() }
    }

    /// Returns the user whose name the published events carry.
    pub fn user(&self) -> &str {
        self.key.split(':').next().unwrap_or_default()
    }

    fn user_and_password(&self) -> Result<(&str, &str)> {
        let parts = self.key.split_once(':');
        ensure!(parts.is_some(), UsageError("--key (RS_KEY) must be USER:PASSWORD".to_owned()));
        Ok(parts.unwrap_or_default())
    }
}
