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
        let listeners = settings.listen.len() + settings.listen_proxy_protocol.len();
        let limits = ListenLimits {
            handshake: settings.timeouts.handshake,
            header: settings.timeouts.header,
            // A download from the endpoint may pause for as long as its own setting allows.
            stalled: settings.timeouts.idle.max(settings.proxy.idle),
            pending: settings.limits.pending_handshakes,
            waiting: places(settings.limits.pending_handshakes, listeners, descriptors),
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
        // Nobody waits for the metrics with a descriptor that a client could have.
        let limits_of_probe = ListenLimits { descriptors: u64::MAX, waiting: 0, ..limits };
        let probe = match settings.metrics_listen {
            Some(address) => Some(bind(address, limits_of_probe, metrics)?),
            None => None,
        };
        Ok(Self { listeners, probe })
    }

    /// Returns the addresses of the API, with the ports that the system chose for port 0.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.address().ok()).collect()
    }
}

/// Returns how many newcomers may wait at each listener: eight per slot, together at most a quarter of the descriptors.
fn places(slots: usize, listeners: usize, descriptors: u64) -> usize {
    let quarter = usize::try_from(descriptors / 4).unwrap_or(usize::MAX);
    slots.saturating_mul(8).min(quarter / listeners.max(1))
}

fn bind(address: SocketAddr, limits: ListenLimits, metrics: &Arc<Metrics>) -> Result<Listener, StartError> {
    let bound = Listener::bind(address, limits, Arc::clone(metrics));
    bound.map_err(|source| StartError::Bind { address, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_that_wait_leave_descriptors_to_others() {
        assert_eq!(places(512, 1, 100_000), 8 * 512);
        assert_eq!(places(512, 1, 400), 100);
        assert_eq!(places(512, 2, 400), 50, "at each of two");
    }
}
