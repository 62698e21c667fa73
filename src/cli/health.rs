//! `hydrant health`: queries a server's probe, for the health check of a container, which has no curl.
//!
//! Prints the probe's response. Exits with 0 if the status is 200, and with 1 if it is anything else or a step takes
//! longer than [`TIMEOUT`]. It speaks plain HTTP without credentials, as probes do, on a bare socket: starting a client
//! with a runtime and a pool would take most of the command's time.

#![expect(clippy::doc_markdown, reason = "the comments on flags are their help texts")]

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;
use thiserror::Error;

use super::text::printable;

/// The timeout for connecting, for sending the request and for each part of the response.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum length of a response in bytes; `/readyz` names every upstream, and longer responses are truncated.
const ANSWER: u64 = 64 * 1024;

#[derive(Args)]
pub(super) struct HealthArgs {
    /// Check whether the server is ready for clients (/readyz), not only whether it runs (/healthz)
    #[arg(long)]
    ready: bool,
    /// The address of the server's probes, its metrics_listen, such as 127.0.0.1:8093
    #[arg(env = "HYDRANT_METRICS_LISTEN", hide_env_values = true, default_value = "127.0.0.1:8093")]
    address: String,
}

/// The reason why a server is not healthy.
#[derive(Debug, Error)]
pub(crate) enum HealthError {
    #[error("the server has no probes: metrics_listen is off (HYDRANT_METRICS_LISTEN)")]
    Off,
    #[error(
        "`{address}` is not an address with a port, such as 127.0.0.1:8093 (the argument, or HYDRANT_METRICS_LISTEN)"
    )]
    Address { address: String },
    #[error("{address} did not answer within {} s", TIMEOUT.as_secs())]
    Silent { address: String },
    #[error("{address}: {error}")]
    Unreachable { address: String, error: io::Error },
    #[error("{address} did not answer with HTTP")]
    Foreign { address: String },
    #[error("{address} answered {status}: {body}")]
    Unhealthy { address: String, status: u16, body: String },
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

pub(super) fn run(args: &HealthArgs, out: &mut dyn Write) -> Result<(), HealthError> {
    if args.address == "off" {
        return Err(HealthError::Off);
    }
    let address = || args.address.clone();
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let answer = ask(&args.address, path).map_err(|error| failure(address(), error))?;
    let (status, body) = read(&answer).ok_or_else(|| HealthError::Foreign { address: address() })?;
    let body: Vec<_> = body.trim_end().split('\n').map(printable).collect();
    let body = body.join("\n");
    if status != 200 {
        return Err(HealthError::Unhealthy { address: address(), status, body });
    }
    Ok(writeln!(out, "{body}")?)
}

fn failure(address: String, error: io::Error) -> HealthError {
    match error.kind() {
        io::ErrorKind::InvalidInput => HealthError::Address { address },
        // Unix reports the timeout of a socket as the former.
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => HealthError::Silent { address },
        _ => HealthError::Unreachable { address, error },
    }
}

/// Reads everything that the server sends until it closes the connection.
fn ask(address: &str, path: &str) -> io::Result<String> {
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Connects to the first of the addresses that accepts the connection.
fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name does not resolve to an address");
    for place in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&place, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Parses the status and the body of a response.
fn read(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body))
}
