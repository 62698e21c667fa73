//! Reports connections by events.
//!
//! Contract: an account that causes too many of these events has some left out ([`Pace`]). Events
//! that are left out, for this reason or because the inboxes were full, are counted in the next one of the account.
//! Log lines about it are limited as by [`Summary`].

use jiff::Timestamp;
use parking_lot::Mutex;

use super::connection::Connection;
use super::pace::Pace;
use super::{Broker, PublishError};
use crate::clock;
use crate::event::Event;
use crate::logging::summary::Summary;
use crate::metrics::Source;

/// What is known about events about connections.
#[derive(Debug, Default)]
pub(super) struct Announcing {
    pace: Mutex<Pace>,
    omissions: Summary,
}

impl Broker {
    /// Returns the event that reports a connection: `create` when it opens, `delete` when it closes. Returns `None` if
    /// its account causes too many of them, which is counted and logged.
    pub fn connection_event(&self, action: &str, connection: &Connection, now: Timestamp) -> Option<Event> {
        self.may_report(connection).map(|omitted| connection.event(action, omitted, now))
    }

    /// Publishes the event that reports a connection, unless its account causes too many of them.
    ///
    /// # Errors
    /// [`PublishError`]; then the event is left out.
    pub fn announce(&self, action: &str, connection: &Connection, now: Timestamp) -> Result<(), PublishError> {
        let Some(omitted) = self.may_report(connection) else { return Ok(()) };
        let published = self.publish(vec![connection.event(action, omitted, now)], Source::Connections);
        published.map(drop).inspect_err(|_| {
            self.metrics.connection_events_omitted.inc();
            self.announcing.pace.lock().omit(&connection.account, omitted + 1);
        })
    }

    /// Returns the number of events left out before the next one about this account, or `None` if that is left out too.
    fn may_report(&self, connection: &Connection) -> Option<u64> {
        let asked = self.announcing.pace.lock().ask(&connection.account, self.now_us());
        asked
            .map_err(|omitted| {
                self.metrics.connection_events_omitted.inc();
                if omitted.first
                    && let Some(suppressed) = self.announcing.omissions.count(clock::instant())
                {
                    let principal = &connection.principal;
                    tracing::warn!(
                        principal,
                        suppressed,
                        "a principal connects too often: dropping some of the events about its connections"
                    );
                }
            })
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::connection::Kind;
    use crate::broker::history::{History, HistoryLimits};
    use crate::broker::inbox::{InboxLimits, inbox};
    use crate::clock::simulated;
    use crate::event::Draft;
    use crate::logging::summary::{INTERVAL, captured};
    use crate::metrics::Metrics;

    fn connection(account: &str) -> Connection {
        let peer = "192.0.2.1:9".parse().unwrap();
        Connection::new(Kind::Api, ("user:a", account), peer, clock::now(), None)
    }

    fn broker() -> Broker {
        let limits = HistoryLimits { events: 10, bytes: 1 << 20 };
        Broker::new(Arc::new(Metrics::new()), clock::instant(), History::new(limits, 1, clock::now()))
    }

    #[test]
    fn what_full_inboxes_refuse_is_counted_in_the_next_event() {
        let broker = broker();
        let (sender, inbox) = inbox(InboxLimits { events: 1, bytes: 1 << 20 }, || ());
        broker.attach(sender);
        let announce = || broker.announce("create", &connection("user:a"), clock::now());
        broker.publish(vec![Draft::new("a", "b", "c").seal(clock::now())], Source::Post).unwrap();
        assert!(announce().is_err() && announce().is_err());
        assert_eq!(broker.metrics.connection_events_omitted.get(), 2);
        while inbox.next().is_some() {}
        announce().unwrap();
        let batch = inbox.next().unwrap();
        assert!(batch.events[0].object().ends_with(r#""OmittedEvents":2}"#), "{}", batch.events[0].object());
    }

    /// After each event that is let through, dropping begins anew.
    #[test]
    fn a_principal_that_connects_too_often_fills_no_log() {
        simulated::begin();
        let broker = broker();
        let report = |account: &str| broker.connection_event("create", &connection(account), clock::now());
        let lines = captured::lines(|| {
            for n in 0..1000 {
                while report(&format!("user:{n}")).is_some() {}
            }
            simulated::pass(INTERVAL);
            while report("user:a").is_some() {}
        });
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[1].contains("suppressed=999"), "{lines:#?}");
    }

    #[test]
    fn a_namesake_of_another_store_has_a_pace_of_its_own() {
        let broker = broker();
        let report = |account| broker.connection_event("create", &connection(account), clock::now());
        while report("endpoint/user:a").is_some() {}
        assert!(report("user:a").is_some());
    }
}
