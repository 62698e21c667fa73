//! Binds the addresses before anything is created on disk, so that a failed start leaves nothing behind.

use std::net::SocketAddr;
use std::sync::Arc;

use super::error::StartError;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::transport::listener::{ListenLimits, Listener};

/// Bound listeners that do not accept connections yet.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listeners: Vec<Listener>,
    /// The listener of the metrics.
    pub(super) probe: Option<Listener>,
}

impl Bound {
    /// Binds the configured addresses. Client sockets get no file descriptor from `descriptors` on; the metrics' do.
    pub(super) fn all(settings: &Settings, descriptors: u64, metrics: &Arc<Metrics>) -> Result<Self, StartError> {
        let limits = ListenLimits {
            handshake: settings.timeouts.handshake,
            header: settings.timeouts.header,
            // A download from the endpoint may pause for as long as its own setting allows.
            stalled: settings.timeouts.idle.max(settings.proxy.idle),
            pending: settings.limits.pending_handshakes,
            descriptors,
            send_buffer: settings.limits.socket_buffer,
        };
        let mut listeners = Vec::new();
        for &address in &settings.listen {
            listeners.push(bind(address, limits, metrics)?);
        }
        for &address in &settings.listen_proxy_protocol {
            listeners.push(bind(address, limits, metrics)?.proxied());
        }
        let probe = match settings.metrics_listen {
            Some(address) => Some(bind(address, ListenLimits { descriptors: u64::MAX, ..limits }, metrics)?),
            None => None,
        };
        Ok(Self { listeners, probe })
    }

    /// Returns the addresses of the API, with the ports that the system chose for port 0.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.address().ok()).collect()
    }
}

fn bind(address: SocketAddr, limits: ListenLimits, metrics: &Arc<Metrics>) -> Result<Listener, StartError> {
    let bound = Listener::bind(address, limits, Arc::clone(metrics));
    bound.map_err(|source| StartError::Bind { address, source })
}
