//! What the poll says about a socket, apart from mio: the event loop takes it from any source.

use mio::event::Event as Readiness;

use super::WAKE;
use crate::fanout::outbox::ConnId;

/// A socket that the poll found ready.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    /// The connection.
    pub(crate) conn: ConnId,
    /// Whether it accepts bytes again.
    pub(crate) writable: bool,
    /// Whether there is something to read: bytes, the end or an error.
    pub(crate) readable: bool,
}

impl Ready {
    /// Returns what the poll says about a connection; `None` for the waker.
    pub(super) fn of(event: &Readiness) -> Option<Self> {
        if event.token() == WAKE {
            return None;
        }
        let conn = ConnId(u32::try_from(event.token().0).expect("tokens are connection numbers"));
        let readable = event.is_readable() || event.is_read_closed() || event.is_error();
        Some(Self { conn, writable: event.is_writable(), readable })
    }
}
