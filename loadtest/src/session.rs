//! The server that a run is about: started by us or found at an endpoint, and its CPU clock.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::args::Target;
use crate::cpu::{Cores, ProcessClock};
use crate::endpoint::Endpoint;
use crate::server::Server;

/// See the module's text. A server that was started ends when this is dropped.
#[derive(Debug)]
pub struct Session {
    /// Where and how to get in; with a token if the server gives any.
    pub endpoint: Endpoint,
    /// What the server says of itself, `null` if nothing.
    pub info: serde_json::Value,
    clock: Option<ProcessClock>,
    server: Option<Server>,
}

impl Session {
    /// Starts the server if it is ours to start, and logs in.
    ///
    /// # Errors
    /// It does not start, or the command line makes no sense. A server that cannot be reached is told at the first
    /// connection.
    pub fn open(target: &Target, cores: Cores) -> Result<Self> {
        let server = target.launch(cores).map(|launch| Server::start(&launch)).transpose()?;
        let url = match &server {
            Some(server) => server.url.clone(),
            None => target.endpoint.clone().context("no --endpoint and no --serve")?,
        };
        let pid = server.as_ref().map(Server::pid).or(target.server_pid);
        let endpoint = target.endpoint_at(&url)?.with_token();
        let info = endpoint.get("/api/v3/info").ok().and_then(|body| serde_json::from_slice(&body).ok());
        let info = info.unwrap_or(serde_json::Value::Null);
        Ok(Self { endpoint, info, clock: pid.map(ProcessClock::of).transpose()?, server })
    }

    /// CPU time of the server so far; nothing if we do not know its process.
    ///
    /// # Errors
    /// The server has ended.
    pub fn cpu(&self) -> Result<Option<Duration>> {
        self.clock.map(ProcessClock::time).transpose()
    }

    /// Bytes of memory that the server holds in RAM; nothing if we do not know its process.
    ///
    /// # Errors
    /// The server has ended.
    pub fn resident(&self) -> Result<Option<u64>> {
        self.clock.map(ProcessClock::resident).transpose()
    }

    /// Adds to an error what a server of ours has said last.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        match &self.server {
            Some(server) => error.context(format!("the server said: {}", server.said())),
            None => error,
        }
    }
}
