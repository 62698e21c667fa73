//! Waiting for many sockets on one thread.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mio::{Events, Poll};

/// Waits for events of sockets, at most for `timeout`. A signal ends the wait without events.
///
/// # Errors
/// Fails if the kernel refuses to poll.
pub(crate) fn wait(poll: &mut Poll, events: &mut Events, timeout: Duration) -> Result<()> {
    match poll.poll(events, Some(timeout)) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other.context("waiting for socket events failed"),
    }
}
