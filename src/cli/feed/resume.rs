//! Where a new connection resumes that does not know its position: a few seconds before the last event.
//!
//! Pure. The time is that of the server's clock, as far as it is known: this machine's clock may be wrong.
//!
//! Another node may answer. It has the events in another order and a clock of its own, so [`OVERLAP`] is subtracted
//! from the Time of the last event. The server then sends some events again; they are recognized by their text and
//! skipped ([`Delivered`]).
//!
//! The server run on which the feed began is not asked for events from before that moment. Any other is asked from
//! [`OVERLAP`] before it: if its clock is slow, it has dated the feed's first events earlier. So a feed that moves may
//! deliver some events that are older than the feed; losing some would be worse.
//!
//! A Time counts only once all registrations have been answered: until then one of them may have delivered events and
//! another not. An implausible Time (none at all, or minutes ahead) is skipped, and so are notices of the server
//! itself: the Time of an earlier event is just as safe. A Time that is ahead of the clock counts as the time at which
//! its event came.
//!
//! A position is valid in one run of one server. A feed that began with live events resumes from the position of its
//! first connection until an event has a later Time; if another server answers, it resumes from the time of that
//! connection. Likewise, a time that the user gave is sent unchanged only to the run that answered it first.

use jiff::{SignedDuration, Timestamp};

use super::delivered::Delivered;
use super::position::Position;
use crate::event::parse_time;
use crate::json;
use crate::protocol::gap::HYDRANT;

/// How much earlier than the last event a new connection begins: nodes order events differently that were posted to
/// different nodes at nearly the same time, and their clocks differ.
const OVERLAP: SignedDuration = SignedDuration::from_secs(5);

/// A Time further ahead than this is not a position to resume from; the tolerance covers differences between the clocks
/// of servers and producers.
const SKEW: SignedDuration = SignedDuration::from_mins(4);

/// The point from which a feed resumes after a reconnect, and the events to skip because they were already delivered.
#[derive(Debug, Default)]
pub(super) struct Resume {
    since: Option<String>,
    /// The time from which events are wanted, by the clock of the server that was asked first, if it is known.
    began: Option<Timestamp>,
    /// Whether there has been a connection.
    connected: bool,
    /// The position of the first connection while `since` is the time that the user gave.
    exact: Option<String>,
    delivered: Delivered,
    last_time: Option<Timestamp>,
    /// Number of registrations of this connection that are not answered yet.
    unanswered: usize,
}

impl Resume {
    pub(super) fn new(since: Option<String>) -> Self {
        let began = since.as_deref().and_then(|since| since.parse().ok());
        Self { since, began, ..Self::default() }
    }

    /// Returns the point to request; `None` on a first connection that wants live events only.
    pub(super) fn since(&self) -> Option<&str> {
        self.since.as_deref()
    }

    /// Notes a new connection to a server that was at `position` at the time `now`. Returns whether missed events will
    /// be delivered.
    pub(super) fn opened(&mut self, position: Option<&str>, now: Timestamp) -> bool {
        let resumes = self.since.is_some() && position.is_some();
        let is_first = !std::mem::replace(&mut self.connected, true);
        if self.since.is_none() {
            self.since = position.map(str::to_owned);
            self.began = Some(now);
        } else if is_first {
            self.exact = position.filter(|_| self.began.is_some()).map(str::to_owned);
            if self.exact.is_none() {
                // What is asked for from now on may be asked of another node.
                self.since = self.began.map(before).or_else(|| self.since.take());
            }
        }
        // No registration has been answered yet.
        self.unanswered = usize::MAX;
        resumes
    }

    /// Returns a position in the only run of a server where the point to request means what it should.
    pub(super) fn run(&self) -> Option<&str> {
        self.exact.as_deref().or(self.since())
    }

    /// Notes that another run of a server answers. Returns whether there is a time to request instead.
    pub(super) fn moved(&mut self) -> bool {
        let is_exact = self.exact.take().is_some();
        if !is_exact && self.since.as_deref().is_some_and(|since| Position::parse(since).is_none()) {
            return true;
        }
        self.since = self.began.map(before).or_else(|| self.since.take());
        self.began.is_some()
    }

    /// Sets the number of registrations that are not answered yet.
    pub(super) fn answered(&mut self, left: usize) {
        self.unanswered = left;
    }

    /// Notes an event that came at the time `now`, and returns whether it was not delivered before; `is_surely_new` if
    /// the server has said so.
    pub(super) fn is_new(&mut self, event: &str, is_surely_new: bool, now: Timestamp) -> bool {
        if let Some(time) = time(event, now) {
            // What other nodes numbered before an event with a Time ahead has earlier Times.
            self.last_time = Some(time.min(now));
        }
        self.delivered.is_new(event, is_surely_new)
    }

    /// Notes that the connection is lost.
    pub(super) fn reconnect(&mut self) {
        let last = self.last_time.take().filter(|_| self.unanswered == 0);
        if let Some(time) = last
            && self.began.is_none_or(|began| time.duration_since(began) > OVERLAP)
        {
            self.since = Some(before(time));
            self.exact = None;
        }
        self.delivered.reconnect();
    }
}

/// Returns the point to request of another node, to miss nothing from this time on.
fn before(time: Timestamp) -> String {
    time.saturating_sub(OVERLAP).unwrap_or(time).to_string()
}

/// Returns the Time of an event, if one can resume from it.
fn time(event: &str, now: Timestamp) -> Option<Timestamp> {
    let field = |name| json::members(event).find(|member| member.name() == name);
    if json::as_string(field("Type")?.value)? == HYDRANT {
        return None;
    }
    let time = parse_time(json::as_string(field("Time")?.value)?.as_bytes())?;
    let usable = time > Timestamp::UNIX_EPOCH && time <= now.checked_add(SKEW).ok()?;
    usable.then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "18c5a3f2b1d00e47:1";

    fn event(time: u32) -> String {
        format!(r#"{{"Time":"2026-01-01T00:00:{time:02}Z","Type":"a"}}"#)
    }

    fn at(second: u32) -> Timestamp {
        format!("2026-01-01T00:00:{second:02}Z").parse().unwrap()
    }

    /// A connection at second `now` whose registrations are answered.
    fn open(resume: &mut Resume, now: u32) {
        resume.opened(Some(HERE), at(now));
        resume.answered(0);
    }

    fn news(resume: &mut Resume, times: &[u32]) -> Vec<bool> {
        times.iter().map(|time| resume.is_new(&event(*time), false, at(*time))).collect()
    }

    #[test]
    fn it_goes_on_some_seconds_before_the_last_event_and_passes_over_what_it_had() {
        let mut resume = Resume::new(None);
        assert_eq!(resume.since(), None);
        assert!(!resume.opened(Some(HERE), at(0)));
        resume.reconnect();
        assert_eq!(resume.since(), Some(HERE));
        assert!(resume.opened(Some(HERE), at(9)));
        assert!(!resume.opened(None, at(9)), "a server that keeps nothing");
        resume.answered(0);
        assert_eq!(news(&mut resume, &[10, 11, 13]), [true; 3]);
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:08Z"));
        open(&mut resume, 20);
        assert_eq!(news(&mut resume, &[10, 12, 11, 13, 14, 14]), [false, true, false, false, true, true]);
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:09Z"));
    }

    #[test]
    fn what_came_in_its_first_seconds_by_another_clock_is_asked_for_too() {
        let mut resume = Resume::new(None);
        open(&mut resume, 10);
        assert_eq!(news(&mut resume, &[12]), [true]);
        resume.reconnect();
        assert_eq!(resume.since(), Some(HERE), "the same run knows where it began");
        assert!(resume.moved());
        assert_eq!(resume.since(), Some("2026-01-01T00:00:05Z"));
        open(&mut resume, 12);
        assert_eq!(news(&mut resume, &[12, 7]), [false, true]);
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:05Z"), "and nothing from before that");
    }

    #[test]
    fn a_time_that_the_user_gave_is_one_of_the_first_servers_clock() {
        let mut resume = Resume::new(Some("2026-01-01T00:00:11Z".to_owned()));
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:11Z"), "nobody has answered yet");
        open(&mut resume, 20);
        assert_eq!(news(&mut resume, &[12]), [true]);
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:11Z"), "nothing older");
        assert_eq!(resume.run(), Some(HERE));
        assert!(resume.moved());
        assert_eq!(resume.since(), Some("2026-01-01T00:00:06Z"), "by another clock");
        assert!(resume.moved(), "it is one for any already");
        open(&mut resume, 20);
        assert_eq!(news(&mut resume, &[12]), [false]);
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:06Z"));
        open(&mut resume, 20);
        assert_eq!(news(&mut resume, &[17]), [true]);
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:12Z"));
    }

    #[test]
    fn a_server_without_positions_may_be_another_the_next_time() {
        let mut resume = Resume::new(Some("2026-01-01T00:00:11Z".to_owned()));
        resume.opened(None, at(20));
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:06Z"));
    }

    #[test]
    fn of_a_time_ahead_only_as_much_counts_as_had_passed() {
        let mut resume = Resume::new(None);
        open(&mut resume, 10);
        // Of a producer whose clock is ahead.
        assert!(resume.is_new(&event(59), false, at(20)));
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:15Z"));
    }

    #[test]
    fn where_a_position_means_nothing_a_time_takes_its_place() {
        let mut resume = Resume::new(None);
        open(&mut resume, 10);
        resume.reconnect();
        assert!(resume.moved());
        assert_eq!(resume.since(), Some("2026-01-01T00:00:05Z"));
        assert!(resume.moved(), "it is one already");
        let mut resume = Resume::new(Some(HERE.to_owned()));
        open(&mut resume, 10);
        assert!(!resume.moved(), "nobody knows its time");
        assert_eq!(resume.since(), Some(HERE));
    }

    #[test]
    fn a_connection_that_brought_nothing_changes_nothing() {
        let mut resume = Resume::new(Some(HERE.to_owned()));
        resume.reconnect();
        assert_eq!(resume.since(), Some(HERE));
        open(&mut resume, 0);
        assert_eq!(news(&mut resume, &[6]), [true]);
        resume.reconnect();
        resume.opened(Some(HERE), at(9));
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:01Z"));
        assert_eq!(news(&mut resume, &[6]), [false]);
    }

    #[test]
    fn before_all_registrations_are_answered_no_time_counts_and_nothing_is_printed_twice() {
        let mut resume = Resume::new(Some(HERE.to_owned()));
        resume.opened(Some(HERE), at(0));
        resume.answered(1);
        assert_eq!(news(&mut resume, &[6]), [true]);
        resume.reconnect();
        assert_eq!(resume.since(), Some(HERE));
        open(&mut resume, 0);
        assert_eq!(news(&mut resume, &[6]), [false]);
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:01Z"));
    }

    #[test]
    fn a_time_that_no_clock_has_is_passed_over() {
        let mut resume = Resume::new(None);
        open(&mut resume, 0);
        for event in [
            event(17),
            r#"{"Time":"9999-12-31T00:00:00Z","Type":"a"}"#.to_owned(),
            r#"{"Time":"0001-01-01T00:00:00Z","Type":"a"}"#.to_owned(),
            r#"{"Time":"2026-02-01T00:00:00Z","Type":"hydrant"}"#.to_owned(),
        ] {
            assert!(resume.is_new(&event, false, at(17)));
        }
        resume.reconnect();
        assert_eq!(resume.since(), Some("2026-01-01T00:00:12Z"));
    }
}
