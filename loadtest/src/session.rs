//! The server under test, started by this program or found at an endpoint, with its CPU clock and its metrics.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::args::Target;
use crate::awake::Awake;
use crate::client::Swarm;
use crate::cpu::{Cores, ProcessClock};
use crate::endpoint::Endpoint;
use crate::publish::Publisher;
use crate::server::{Launch, Server, System};
use crate::tls::Trust;

/// The server under test, started by this program or remote. Dropping it stops a server that was started.
#[derive(Debug)]
pub struct Session {
    /// Address and credentials; a token if the server issues any.
    pub endpoint: Endpoint,
    /// What the server reports about itself; `null` if nothing.
    pub info: serde_json::Value,
    clock: Option<ProcessClock>,
    server: Option<Server>,
    metrics: Option<String>,
}

impl Session {
    /// Starts the server if the command line says so, and logs in.
    ///
    /// # Errors
    /// Fails if the server does not start, if the command line is contradictory, or if --metrics cannot be read. A
    /// server that cannot be reached is reported at the first connection.
    pub fn open(target: &Target, cores: Cores) -> Result<Self> {
        let server = target.launch(cores).map(|launch| Server::start(&launch)).transpose()?;
        let url = match &server {
            Some(server) => server.url.clone(),
            None => target.endpoint.clone().context("--endpoint or --serve is required")?,
        };
        let pid = server.as_ref().map(Server::pid).or(target.server_pid);
        let endpoint = target.endpoint_at(&url)?.with_token();
        let info = endpoint.get("/api/v3/info").ok().and_then(|body| serde_json::from_slice(&body).ok());
        let info = info.unwrap_or(serde_json::Value::Null);
        let metrics = server.as_ref().and_then(Server::metrics).or_else(|| target.metrics.clone());
        if let Some(host) = &target.metrics {
            metrics_text(host).with_context(|| format!("cannot read the server's metrics (--metrics {host})"))?;
        }
        Ok(Self { endpoint, info, clock: pid.map(ProcessClock::of).transpose()?, server, metrics })
    }

    /// Starts a peer, which requires no credentials.
    ///
    /// # Errors
    /// Fails if the peer does not start.
    pub fn peer(launch: &Launch) -> Result<Self> {
        let server = Server::start(launch)?;
        let endpoint = Endpoint::new(&server.url, Trust::Anyone, None)?.speaking(launch.system.wire());
        let clock = Some(ProcessClock::of(server.pid())?);
        let info = serde_json::json!({ "version": launch.system.version(&launch.program) });
        Ok(Self { endpoint, info, clock, server: Some(server), metrics: None })
    }

    /// Opens `count` websockets, compressed if `deflate`; `progress` is called after each.
    ///
    /// # Errors
    /// Fails with the first connection that fails.
    pub fn swarm(&self, deflate: bool, count: usize, progress: &mut dyn FnMut()) -> Result<Swarm> {
        let dozes = self.server.as_ref().is_some_and(|server| server.system() == System::Mosquitto);
        let wire = self.endpoint.wire();
        let awake = self.direct().filter(|_| dozes).map(|address| Awake::begin(address, wire)).transpose()?;
        let swarm = Swarm::connect(&self.endpoint.clone().deflating(deflate), count, progress);
        drop(awake);
        swarm
    }

    /// Opens a connection for publishing.
    ///
    /// # Errors
    /// Fails if the server cannot be reached.
    pub fn publisher(&self, core: Option<usize>) -> Result<Publisher> {
        self.publishers(1, core)
    }

    /// Opens `count` connections for publishing, which one thread serves.
    ///
    /// # Errors
    /// Fails if the server cannot be reached.
    pub fn publishers(&self, count: usize, core: Option<usize>) -> Result<Publisher> {
        Publisher::start(&self.endpoint, self.direct(), count, core)
    }

    fn direct(&self) -> Option<SocketAddr> {
        self.server.as_ref().and_then(Server::direct)
    }

    /// Returns the server's CPU time so far; `None` if its process is not known.
    ///
    /// # Errors
    /// Fails if the server has ended.
    pub fn cpu(&self) -> Result<Option<Duration>> {
        self.clock.map(ProcessClock::time).transpose()
    }

    /// Returns the server's resident memory in bytes; `None` if its process is not known.
    ///
    /// # Errors
    /// Fails if the server has ended.
    pub fn resident(&self) -> Result<Option<u64>> {
        self.clock.map(ProcessClock::resident).transpose()
    }

    /// Returns the server's metrics, each with its labels and also summed over labels; empty if their address is not
    /// known.
    pub fn metrics(&self) -> HashMap<String, f64> {
        parse_metrics(&self.metrics.as_ref().and_then(|host| metrics_text(host).ok()).unwrap_or_default())
    }

    /// Stops the server and starts it again with the same data. Returns false if this program did not start it.
    ///
    /// # Errors
    /// Fails if the server does not start again.
    pub fn restart(&mut self, abruptly: bool) -> Result<bool> {
        let Some(server) = &mut self.server else { return Ok(false) };
        server.restart(abruptly)?;
        self.clock = Some(ProcessClock::of(server.pid())?);
        Ok(true)
    }

    /// Creates a user without any role in a server started by this program. Returns the user's token.
    ///
    /// # Errors
    /// Fails if this program did not start the server, or if the server's commands fail.
    pub fn guest_token(&self) -> Result<String> {
        self.server.as_ref().context("this requires --serve")?.guest_token()
    }

    /// Adds the end of the server's log to an error, if this program started the server.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        match &self.server {
            Some(server) => error.context(format!("the server's log: {}", server.said())),
            None => error,
        }
    }
}

/// Reads the metrics at an address.
fn metrics_text(host: &str) -> Result<String> {
    let body = Endpoint::new(&format!("http://{host}"), Trust::Nobody, None)?.get("/metrics")?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Parses the Prometheus text format: counters and gauges only.
fn parse_metrics(text: &str) -> HashMap<String, f64> {
    let mut values = HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        values.insert(name.to_owned(), value);
        if let Some((plain, _)) = name.split_once('{') {
            *values.entry(plain.to_owned()).or_insert(0.0) += value;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_with_and_without_labels() {
        let text = "# HELP a b\n# TYPE a counter\na{x=\"1\"} 2\na{x=\"2\"} 3\nb 4.5\njunk\n";
        let values = parse_metrics(text);
        assert_eq!((values["a"], values["a{x=\"2\"}"], values["b"], values.len()), (5.0, 3.0, 4.5, 4));
    }
}
