//! Where a new connection goes on: at the time of the last event that the old one brought.
//!
//! The server gives the event of that time again, and perhaps some before it ([`crate::broker::history`]); those are known by their
//! text and passed over. That is exact as long as no more than [`KNOWN`] of them come.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use crate::json;

/// Events of the last connection that are remembered.
const KNOWN: usize = 4096;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Resume {
    since: Option<String>,
    hasher: RandomState,
    /// The events of this connection, by a hash of their text.
    seen: VecDeque<u64>,
    /// Those of the connection before.
    known: HashMap<u64, usize>,
    last_time: Option<String>,
}

impl Resume {
    pub(super) fn new(since: Option<String>) -> Self {
        Self { since, ..Self::default() }
    }

    /// What to ask for; nothing on a first connection that wants live events only.
    pub(super) fn since(&self) -> Option<&str> {
        self.since.as_deref()
    }

    /// A connection was made, when the server was at `position`. Returns whether it brings what was missed.
    pub(super) fn opened(&mut self, position: Option<&str>) -> bool {
        let resumes = self.since.is_some() && position.is_some();
        if self.since.is_none() {
            self.since = position.map(str::to_owned);
        }
        resumes
    }

    /// Notes an event, and tells whether the connection before brought it already.
    pub(super) fn is_known(&mut self, event: &str) -> bool {
        let hash = self.hasher.hash_one(event);
        if let Some(times) = self.known.get_mut(&hash).filter(|times| **times > 0) {
            *times -= 1;
            return true;
        }
        if self.seen.len() >= KNOWN {
            self.seen.pop_front();
        }
        self.seen.push_back(hash);
        if let Some(time) = time(event) {
            self.last_time = Some(time);
        }
        false
    }

    /// The connection is lost.
    pub(super) fn reconnect(&mut self) {
        // What was asked for and has not come is still wanted, so the oldest place that nothing came from stays.
        if let Some(time) = self.last_time.take() {
            self.since = Some(time);
            self.known.clear();
            self.seen.drain(..).for_each(|hash| *self.known.entry(hash).or_default() += 1);
        }
    }
}

fn time(event: &str) -> Option<String> {
    let member = json::members(event).find(|member| member.name() == "Time")?;
    json::as_string(member.value).map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(time: u32) -> String {
        format!(r#"{{"Time":"2026-01-01T00:00:{time:02}Z","Type":"a"}}"#)
    }

    #[test]
    fn it_goes_on_at_the_last_event_and_passes_over_what_it_had() {
        let mut resume = Resume::new(None);
        assert_eq!(resume.since(), None);
        assert!(!resume.opened(Some("x:1")));
        resume.reconnect();
        assert_eq!(resume.since(), Some("x:1"));
        assert!(resume.opened(Some("x:9")));
        assert!(!resume.opened(None), "a server that keeps nothing");
        assert!((1..4).all(|n| !resume.is_known(&event(n))));
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:03Z"));
        assert!(resume.is_known(&event(3)));
        assert!(!resume.is_known(&event(4)));
        assert!(!resume.is_known(&event(4)), "the server sent it twice");
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:04Z"));
    }

    #[test]
    fn a_connection_that_brought_nothing_changes_nothing() {
        let mut resume = Resume::new(Some("x:1".to_owned()));
        resume.reconnect();
        assert_eq!(resume.since(), Some("x:1"));
        resume.is_known(&event(1));
        resume.reconnect();
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:01Z"));
        assert!(resume.is_known(&event(1)));
    }
}
