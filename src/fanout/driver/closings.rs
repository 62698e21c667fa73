//! Logs connections that are closed because of what their clients do, at a bounded rate: a client that comes again and
//! again must not fill the log.
//!
//! Contract: that of [`Summary`], for each reason by itself. Metrics and events count every connection.

use std::net::SocketAddr;
use std::time::Instant;

use crate::auth::Principal;
use crate::logging::summary::Summary;
use crate::protocol::Close;

/// Logs closed connections.
#[derive(Debug, Default)]
pub(super) struct Closings {
    slow: Summary,
    costly: Summary,
}

impl Closings {
    /// Logs that a connection is closed, if this is its client's doing and a line is due.
    pub(super) fn note(&self, close: Close, principal: &Principal, peer: SocketAddr, now: Instant) {
        if close.is_slow_consumer()
            && let Some(suppressed) = self.slow.count(now)
        {
            tracing::warn!(%peer, %principal, reason = %close.reason(), suppressed, "closing a slow consumer");
        }
        if let Close::FilterWork { setting } = close
            && let Some(suppressed) = self.costly.count(now)
        {
            let why = "the filters of a connection cost too much; closing it";
            tracing::warn!(%peer, %principal, setting, suppressed, "{why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::logging::summary::{INTERVAL, captured};

    #[test]
    fn a_client_that_is_closed_again_and_again_fills_no_log() {
        let (closings, start) = (Closings::default(), Instant::now());
        let principal = Principal::user("a").unwrap();
        let note = |close, after| closings.note(close, &principal, "192.0.2.1:9".parse().unwrap(), start + after);
        let slow = Close::SlowConsumer { events: 7, bytes: 8 };
        let lines = captured::lines(|| {
            for n in 0..1000 {
                note(slow, Duration::from_millis(n));
                note(Close::Stale { seconds: 9 }, Duration::from_millis(n));
                note(Close::FilterWork { setting: "limits.x" }, Duration::from_millis(n));
                note(Close::Silent, Duration::from_millis(n));
            }
            note(slow, INTERVAL);
        });
        let about = |text: &str| lines.iter().filter(|line| line.contains(text)).collect::<Vec<_>>();
        let [slow, costly] = ["closing a slow consumer", "cost too much"].map(about);
        assert_eq!((lines.len(), slow.len(), costly.len()), (3, 2, 1), "{lines:#?}");
        assert!(slow[0].contains("suppressed=0") && slow[1].contains("suppressed=1999"), "{slow:?}");
        assert!(slow[0].contains("7 events") && costly[0].contains("limits.x"), "{lines:?}");
    }
}
