//! Tells the service manager how the server is: systemd's `sd_notify(3)`.
//!
//! With `Type=notify` systemd takes the service for started once it listens, shows a line of status, waits while it
//! reloads, and restarts it when its signs of life stop. They stop while a shard's thread is stuck or the control
//! threads do not run.
//!
//! Contract: without `NOTIFY_SOCKET` nothing happens. A message that cannot be sent is dropped with a line at DEBUG:
//! the server does not depend on who watches it.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::server::Server;

/// The server listens; also the end of a reload.
pub(super) fn ready(server: &Server) {
    let addresses: Vec<_> = server.addresses().iter().map(ToString::to_string).collect();
    notify(&[NotifyState::Ready, NotifyState::Status(&format!("Serving on {}", addresses.join(", ")))]);
}

/// Files are read again; [`ready`] ends it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock to tell the service manager of a reload"),
    }
}

/// The server drains.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("Draining")]);
}

/// Gives signs of life as often as the service manager has asked for, as long as `is_well`. Never returns if it has.
pub(super) async fn signs_of_life(is_well: impl Fn() -> bool) {
    let Some(most) = sd_notify::watchdog_enabled() else { return };
    // systemd recommends half of the time after which it gives up; an interval must not be zero.
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
        tracing::debug!(%error, "cannot tell the service manager");
    }
}
