//! Whether the endpoint discloses what rights depend on, for `/readyz` and the metrics.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

use super::error::IdentityError;
use crate::clock;
use crate::metrics::{IdentityDecision, IdentityFailure, Metrics};

/// The state of reading the endpoint's data at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Report {
    /// The endpoint's URL.
    pub endpoint: String,
    /// Whether users, roles and tenants have been read and no read has failed since.
    pub readable: bool,
    /// When it entered this state.
    pub since: String,
    /// The reason if it is not readable; empty if it is, or if the first read is still in progress.
    pub error: String,
}

#[derive(Debug)]
struct State {
    since: Timestamp,
    readable: bool,
    /// Whether everything was ever read.
    has_read: bool,
    /// The failure that ends as soon as the endpoint answers at all.
    silence: Option<(IdentityFailure, String)>,
    /// The failure that ends when everything outstanding has been read.
    lasting: Option<(IdentityFailure, String)>,
}

/// The state that results from all reads; the tasks that read report to it.
#[derive(Debug)]
pub(super) struct Health {
    endpoint: String,
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

impl Health {
    /// Creates the state before the first read.
    pub(super) fn new(endpoint: String, now: Timestamp, metrics: Arc<Metrics>) -> Self {
        let state = State { since: now, readable: false, has_read: false, silence: None, lasting: None };
        Self { endpoint, state: Mutex::new(state), metrics }
    }

    /// Returns the current state.
    pub(super) fn report(&self) -> Report {
        let state = self.state.lock();
        Report {
            endpoint: self.endpoint.clone(),
            readable: state.readable,
            since: state.since.to_string(),
            error: state.failure().map_or_else(String::new, |(_, text)| text.clone()),
        }
    }

    /// Records that everything outstanding was read.
    pub(super) fn read(&self) {
        self.change(|state| (state.has_read, state.silence, state.lasting) = (true, None, None));
    }

    /// Records that the endpoint has answered, which only ends its silence.
    pub(super) fn answered(&self) {
        self.change(|state| state.silence = None);
    }

    /// Records that a read or a check of a credential has failed.
    pub(super) fn failed(&self, failure: &IdentityError) {
        let reported = Some((kind(failure), failure.to_string()));
        self.change(|state| {
            if failure.is_silence() {
                state.silence = reported;
            } else {
                (state.silence, state.lasting) = (None, reported);
            }
        });
    }

    /// Counts the outcome of a login.
    pub(super) fn decided(&self, decision: IdentityDecision) {
        self.metrics.identity.decided(decision);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let readable = state.has_read && state.failure().is_none();
        if readable != state.readable {
            (state.readable, state.since) = (readable, clock::now());
        }
        self.metrics.identity.failure(state.failure().map(|(kind, _)| *kind));
    }
}

impl State {
    fn failure(&self) -> Option<&(IdentityFailure, String)> {
        self.silence.as_ref().or(self.lasting.as_ref())
    }
}

fn kind(failure: &IdentityError) -> IdentityFailure {
    match failure {
        IdentityError::Away(_) => IdentityFailure::Away,
        IdentityError::Late => IdentityFailure::Late,
        IdentityError::Refused { .. } | IdentityError::NoDirectory => IdentityFailure::Refused,
        IdentityError::Unreadable { .. } => IdentityFailure::Unreadable,
        IdentityError::Lacks { .. } => IdentityFailure::Claims,
        IdentityError::Opaque => IdentityFailure::Token,
        IdentityError::Credential(_) => IdentityFailure::Credential,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_silence_and_nothing_else() {
        let health = Health::new("https://drp:8092".to_owned(), Timestamp::UNIX_EPOCH, Arc::new(Metrics::new()));
        let gauge = |reason: &str| {
            let text = health.metrics.render(0);
            text.contains(&format!("hydrant_identity_trouble{{reason=\"{reason}\"}} 1"))
        };
        let seen = || (health.report().readable, health.report().error.is_empty());
        assert_eq!(seen(), (false, true));
        health.failed(&IdentityError::Late);
        assert!(gauge("late") && health.report().error.contains("within 5 s"));
        health.answered();
        assert_eq!((seen(), gauge("late")), ((false, true), false), "nothing has been read yet");
        health.read();
        assert_eq!(seen(), (true, true));
        health.failed(&IdentityError::Lacks { claims: vec!["roles/list/*"] });
        health.failed(&IdentityError::Late);
        health.answered();
        assert!(gauge("claims") && health.report().error.contains("roles/list/*"), "{:?}", health.report());
        let since = health.report().since;
        health.failed(&IdentityError::Opaque);
        assert_eq!((seen(), health.report().since), ((false, false), since));
        health.read();
        assert_eq!((seen(), gauge("token")), ((true, true), false));
    }
}
