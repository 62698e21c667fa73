//! Reports the state of the server to the service manager: systemd's `sd_notify(3)`.
//!
//! With `Type=notify` systemd considers the service started once it listens, shows a status line, waits while it
//! reloads, and restarts it if its watchdog messages stop. They stop while a shard's thread is stuck or the control
//! threads do not run.
//!
//! Contract: without `NOTIFY_SOCKET` nothing happens. A message that cannot be sent is dropped with a line at DEBUG:
//! the server does not depend on its supervisor.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::server::Server;

/// Reports that the server listens, or that a reload has ended.
pub(super) fn ready(server: &Server) {
    let addresses: Vec<_> = server.addresses().iter().map(ToString::to_string).collect();
    notify(&[NotifyState::Ready, NotifyState::Status(&format!("Serving on {}", addresses.join(", ")))]);
}

/// Reports that files are being reloaded; [`ready`] reports the end.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "cannot report a reload to the service manager: no monotonic clock"),
    }
}

/// Reports that the server is draining.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("Draining")]);
}

/// Sends watchdog messages as often as the service manager has requested, while `is_well` returns true. Returns only if
/// it has requested none.
pub(super) async fn signs_of_life(is_well: impl Fn() -> bool) {
    let Some(most) = sd_notify::watchdog_enabled() else { return };
    // systemd recommends half of its timeout; an interval must not be zero.
    let mut ticks = tokio::time::interval((most / 2).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        if is_well() {
            notify(&[NotifyState::Watchdog]);
        }
    }
}

fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}
