//! The systems that can be measured, and the best setup of each for this work.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::wire::Wire;

/// A system under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Hydrant itself.
    Hydrant,
    /// nats-server with a websocket listener.
    Nats,
    /// mosquitto with a websocket listener.
    Mosquitto,
}

/// The ports on which a started system listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    /// Port of HTTP and websockets.
    pub(super) web: u16,
    /// Port of hydrant's metrics, or of a peer's own protocol over TCP.
    pub(super) other: u16,
}

impl System {
    /// Returns the display name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hydrant => "hydrant",
            Self::Nats => "nats-server",
            Self::Mosquitto => "mosquitto",
        }
    }

    /// Returns the protocol of its clients.
    pub fn wire(self) -> Wire {
        match self {
            Self::Hydrant => Wire::Drp,
            Self::Nats => Wire::Nats,
            Self::Mosquitto => Wire::Mqtt,
        }
    }

    /// Returns the version that the program prints; empty if none.
    pub fn version(self, program: &Path) -> String {
        let argument = if self == Self::Mosquitto { "-h" } else { "--version" };
        let output = Command::new(program).arg(argument).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.lines().next().unwrap_or_default().trim().to_owned()
    }

    /// Adds the arguments that start it, and writes the files that they name into `data`.
    pub(super) fn prepare(self, command: &mut Command, data: &Path, ports: Ports, tls: bool) -> Result<()> {
        match self {
            Self::Hydrant => {
                command.args(["serve", "--tls", if tls { "self-signed" } else { "off" }]);
                command.args(["--listen", &format!("127.0.0.1:{}", ports.web)]);
                command.args(["--metrics-listen", &format!("127.0.0.1:{}", ports.other)]);
                command.arg("--data-dir").arg(data.join("data"));
            }
            Self::Nats => {
                let file = data.join("nats.conf");
                fs::write(&file, nats(ports, pair(data, tls)?.as_ref()))
                    .context("cannot write a configuration file")?;
                command.arg("--config").arg(file);
            }
            Self::Mosquitto => {
                let file = data.join("mosquitto.conf");
                fs::write(&file, mosquitto(ports, pair(data, tls)?.as_ref()))
                    .context("cannot write a configuration file")?;
                command.arg("-c").arg(file);
            }
        }
        Ok(())
    }
}

/// Creates a certificate for loopback and its key; returns their files as the configurations name them.
fn pair(data: &Path, tls: bool) -> Result<Option<[String; 2]>> {
    if !tls {
        return Ok(None);
    }
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).context("cannot create a certificate")?;
    let (certificate, key) = (data.join("certificate.pem"), data.join("key.pem"));
    fs::write(&certificate, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    Ok(Some([certificate.display().to_string(), key.display().to_string()]))
}

/// Returns the configuration. Write buffers, pending limits and deadlines have their defaults; compression is available
/// to clients that request it; pings are rare enough not to interfere; clients are not logged.
fn nats(ports: Ports, pair: Option<&[String; 2]>) -> String {
    let Ports { web, other } = ports;
    let tls = match pair {
        None => "no_tls: true".to_owned(),
        Some([certificate, key]) => format!("tls {{ cert_file: \"{certificate}\", key_file: \"{key}\" }}"),
    };
    format!(
        "listen: \"127.0.0.1:{other}\"\nping_interval: \"30m\"\nmax_connections: 100000\n\
         websocket {{\n  listen: \"127.0.0.1:{web}\"\n  compression: true\n  {tls}\n}}\n"
    )
}

/// Returns the configuration. No log, no persistence, no delay of small packets; everything else has its default.
fn mosquitto(ports: Ports, pair: Option<&[String; 2]>) -> String {
    let Ports { web, other } = ports;
    let tls = pair.map_or_else(String::new, |[certificate, key]| {
        format!("certfile {certificate}\nkeyfile {key}\nciphers_tls1.3 TLS_AES_128_GCM_SHA256\n")
    });
    // Otherwise it drops its root privileges, and can then not read its own certificate.
    let user = if nix::unistd::geteuid().is_root() { "user root\n" } else { "" };
    format!(
        "{user}allow_anonymous true\npersistence false\nlog_dest none\nset_tcp_nodelay true\n\
         listener {other} 127.0.0.1\nlistener {web} 127.0.0.1\nprotocol websockets\n{tls}"
    )
}
