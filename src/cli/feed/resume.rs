//! Where a new websocket resumes: at the time of the last event that the old one delivered.
//!
//! The server sends the event of that time again, and perhaps some before it ([`crate::broker::history`]); these
//! duplicates are recognized by their text and skipped. That is exact as long as there are no more than [`KNOWN`] of
//! them.
//!
//! A Time counts only once all registrations have been answered: until then one of them may have delivered events and
//! another not. An implausible Time (none at all, or minutes ahead) is skipped, and so are notices of the server
//! itself: the Time of an earlier event is just as safe.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use jiff::{SignedDuration, Timestamp};

use crate::{clock, json};

/// Number of events of the last connection that are remembered.
const KNOWN: usize = 4096;

/// A Time further ahead than this is not a position to resume from; the tolerance covers differences between the clocks
/// of servers, producers and this machine.
const SKEW: SignedDuration = SignedDuration::from_mins(4);

/// The Type of a server's own notices.
const HYDRANT: &str = "hydrant";

/// The point from which `watch` resumes after a reconnect, and the events to skip because they were already printed.
#[derive(Debug, Default)]
pub(super) struct Resume {
    since: Option<String>,
    hasher: RandomState,
    /// Hashes of the texts of this connection's events.
    seen: VecDeque<u64>,
    /// Hashes of the events delivered before `since` was requested, with their counts.
    known: HashMap<u64, usize>,
    last_time: Option<String>,
    /// Number of registrations of this connection that are not answered yet.
    unanswered: usize,
}

impl Resume {
    pub(super) fn new(since: Option<String>) -> Self {
        Self { since, ..Self::default() }
    }

    /// Returns the point to request; `None` on a first connection that wants live events only.
    pub(super) fn since(&self) -> Option<&str> {
        self.since.as_deref()
    }

    /// Notes a new connection to a server that was at `position`. Returns whether missed events will be delivered.
    pub(super) fn opened(&mut self, position: Option<&str>) -> bool {
        let resumes = self.since.is_some() && position.is_some();
        if self.since.is_none() {
            self.since = position.map(str::to_owned);
        }
        // No registration has been answered yet.
        self.unanswered = usize::MAX;
        resumes
    }

    /// Sets the number of registrations that are not answered yet.
    pub(super) fn answered(&mut self, left: usize) {
        self.unanswered = left;
    }

    /// Notes an event, and returns whether the previous connection delivered it already.
    pub(super) fn is_known(&mut self, event: &str) -> bool {
        let hash = self.hasher.hash_one(event);
        if self.seen.len() >= KNOWN {
            self.seen.pop_front();
        }
        self.seen.push_back(hash);
        if let Some(time) = time(event) {
            self.last_time = Some(time);
        }
        let known = self.known.get_mut(&hash).filter(|times| **times > 0);
        known.map(|times| *times -= 1).is_some()
    }

    /// Notes that the connection is lost.
    pub(super) fn reconnect(&mut self) {
        match self.last_time.take().filter(|_| self.unanswered == 0) {
            Some(time) => {
                self.since = Some(time);
                self.known.clear();
            }
            // All of it comes again, including what this connection did not reach.
            None if self.known.len() > KNOWN => self.known.clear(),
            None => {}
        }
        self.seen.drain(..).for_each(|hash| *self.known.entry(hash).or_default() += 1);
    }
}

/// Returns the Time of an event, if one can resume from it.
fn time(event: &str) -> Option<String> {
    let field = |name| json::members(event).find(|member| member.name() == name);
    if json::as_string(field("Type")?.value)? == HYDRANT {
        return None;
    }
    let text = json::as_string(field("Time")?.value)?.into_owned();
    let time: Timestamp = text.parse().ok()?;
    let usable = time > Timestamp::UNIX_EPOCH && time <= clock::now().checked_add(SKEW).ok()?;
    usable.then_some(text)
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
        resume.answered(0);
        assert!((1..4).all(|n| !resume.is_known(&event(n))));
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:03Z"));
        resume.opened(Some("x:12"));
        resume.answered(0);
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
        resume.opened(Some("x:9"));
        resume.answered(0);
        resume.is_known(&event(1));
        resume.reconnect();
        resume.opened(Some("x:9"));
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:01Z"));
        assert!(resume.is_known(&event(1)));
    }

    #[test]
    fn before_all_registrations_are_answered_no_time_counts_and_nothing_is_printed_twice() {
        let mut resume = Resume::new(Some("x:1".to_owned()));
        resume.opened(Some("x:9"));
        resume.answered(1);
        assert!(!resume.is_known(&event(1)));
        resume.reconnect();
        assert_eq!(resume.since(), Some("x:1"));
        resume.opened(Some("x:9"));
        resume.answered(0);
        assert!(resume.is_known(&event(1)));
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:01Z"));
    }

    #[test]
    fn a_time_that_no_clock_has_is_passed_over() {
        let mut resume = Resume::new(None);
        resume.opened(Some("x:1"));
        resume.answered(0);
        for event in [
            event(7),
            r#"{"Time":"9999-12-31T00:00:00Z","Type":"a"}"#.to_owned(),
            r#"{"Time":"0001-01-01T00:00:00Z","Type":"a"}"#.to_owned(),
            r#"{"Time":"2026-02-01T00:00:00Z","Type":"hydrant"}"#.to_owned(),
        ] {
            assert!(!resume.is_known(&event));
        }
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:07Z"));
    }
}
