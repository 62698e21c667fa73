//! State that the reading and the writing side of a connection to NATS share: PINGs, their answers, and limits.
//!
//! Contract: one task reads and one writes. Only [`Line::changed`] waits, and only one task may call it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::nats::session::Pulse;

/// State of a connection shared by its reading and writing side.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) pulse: Pulse,
    pongs: AtomicU64,
    owes_pong: AtomicBool,
    /// Maximum length of a message in bytes, headers included.
    max_payload: AtomicUsize,
    changed: Notify,
}

impl Line {
    pub(super) fn new(max_payload: usize) -> Self {
        Self { max_payload: AtomicUsize::new(max_payload), ..Self::default() }
    }

    /// Records that the server has answered a PING.
    pub(super) fn pong(&self) {
        self.pongs.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_one();
    }

    /// Records that the server has sent a PING.
    pub(super) fn ping(&self) {
        self.owes_pong.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Returns whether the server has processed everything before this PING.
    pub(super) fn has_answered(&self, ping: u64) -> bool {
        self.pongs.load(Ordering::Acquire) >= ping
    }

    pub(super) fn set_max_payload(&self, bytes: usize) {
        self.max_payload.store(bytes, Ordering::Relaxed);
    }

    /// Returns the maximum length of a message in bytes, headers included; 0 if the server does not state it.
    pub(super) fn max_payload(&self) -> usize {
        self.max_payload.load(Ordering::Relaxed)
    }

    /// Returns whether a PING of the server has no answer yet. The caller must answer it.
    pub(super) fn take_ping(&self) -> bool {
        self.owes_pong.swap(false, Ordering::AcqRel)
    }

    /// Waits until the server has sent a PING or answered one.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}
