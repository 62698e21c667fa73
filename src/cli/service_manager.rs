//! Reports the state of the server to the service manager: systemd's `sd_notify(3)`.
//!
//! With `Type=notify` systemd considers the service started once it listens, shows a status line, waits while it
//! reloads, and restarts it if its watchdog messages stop. They stop while a shard's thread is stuck or the control
//! threads do not run.
//!
//! Contract: without `NOTIFY_SOCKET` nothing happens. Sending a message blocks while the service manager does not read,
//! so a thread of its own sends them, in order. A message that finds [`WAITING`] others, or cannot be sent, is dropped
//! with a line at DEBUG: the server does not depend on its supervisor.

use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use sd_notify::NotifyState;

use crate::server::Server;

/// Maximum number of messages that wait for the service manager to read.
const WAITING: usize = 16;

/// What is reported, until the thread sends it.
#[derive(Debug)]
enum Message {
    Ready(String),
    Reloading(NotifyState<'static>),
    Stopping,
    Alive,
}

/// The service manager, if there is one. Clones report to the same.
#[derive(Debug, Clone)]
pub(super) struct ServiceManager(Option<Sender<Message>>);

impl ServiceManager {
    /// Starts the thread that sends messages, if the environment names a service manager. The thread ends with the
    /// process.
    pub(super) fn from_env() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Self(None);
        }
        let (messages, waiting) = bounded::<Message>(WAITING);
        let started =
            std::thread::Builder::new().name("notify".to_owned()).spawn(move || waiting.into_iter().for_each(send));
        if let Err(error) = started {
            tracing::warn!(%error, "cannot report to the service manager: no thread");
            return Self(None);
        }
        Self(Some(messages))
    }

    /// Reports that the server listens, or that a reload has ended.
    pub(super) fn ready(&self, server: &Server) {
        let addresses: Vec<_> = server.addresses().iter().map(ToString::to_string).collect();
        self.report(Message::Ready(format!("Serving on {}", addresses.join(", "))));
    }

    /// Reports that files are being reloaded; [`ServiceManager::ready`] reports the end.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.report(Message::Reloading(now)),
            Err(error) => tracing::debug!(%error, "cannot report a reload to the service manager: no monotonic clock"),
        }
    }

    /// Reports that the server is draining.
    pub(super) fn stopping(&self) {
        self.report(Message::Stopping);
    }

    /// Sends watchdog messages as often as the service manager has requested, while `is_well` returns true. Returns
    /// only if it has requested none.
    pub(super) async fn signs_of_life(self, is_well: impl Fn() -> bool) {
        let Some(most) = sd_notify::watchdog_enabled() else { return };
        // systemd recommends half of its timeout; an interval must not be zero.
        let mut ticks = tokio::time::interval((most / 2).max(Duration::from_millis(1)));
        loop {
            ticks.tick().await;
            // One that waits is enough; the other places are for what happens once.
            if is_well() && self.0.as_ref().is_some_and(Sender::is_empty) {
                self.report(Message::Alive);
            }
        }
    }

    fn report(&self, message: Message) {
        if let Some(messages) = &self.0
            && messages.try_send(message).is_err()
        {
            tracing::debug!("the service manager does not read: a message is dropped");
        }
    }
}

fn send(message: Message) {
    let sent = match message {
        Message::Ready(status) => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&status)]),
        Message::Reloading(now) => sd_notify::notify(&[NotifyState::Reloading, now]),
        Message::Stopping => sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("Draining")]),
        Message::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}
