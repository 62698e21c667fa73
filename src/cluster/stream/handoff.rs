//! Where a replay leaves the stream: whether the stream has delivered enough, and where the history takes over.
//!
//! The guarantees of this splice are stated and tested in [`crate::broker::splice`]. Events that the history is to add
//! must still be in the history when the splice is made, but it may drop them while the reader waits for the node or
//! the client. So nothing is awaited between [`Handoff::join`], which checks that they are there, and the end of the
//! replay. If the history has dropped some, the reader continues with the stream.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::filling;
use crate::broker::archive::Reading;
use crate::broker::gap::Gap;
use crate::broker::history::Retained;
use crate::broker::origin::Trace;
use crate::broker::splice::{Delivered, Missing, Splice, WINDOW};
use crate::broker::{Broker, Frontier};
use crate::clock;
use crate::event::Event;

/// How long the end of the stream may lag behind what the node has accepted without progress; heartbeats come every two
/// seconds.
pub(super) const LAG: Duration = Duration::from_secs(6);

/// How long the node may lag behind the stream without progress; longer than a connection to NATS may be silent before
/// it is given up.
pub(super) const GRACE: Duration = Duration::from_secs(6);

/// Interval between two checks while either lags.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How far a producer's clock may be ahead of the NATS server's: the limit of the history, plus the possible difference
/// of the two clocks.
pub(super) const LEAD: SignedDuration = SignedDuration::from_secs(330);

/// How much earlier than requested a replay begins. The order of the stream is not that of the client's former node:
/// events that node had yet to accept when it delivered its last event may have been stored this much earlier.
pub(super) const OVERLAP: SignedDuration = SignedDuration::from_secs(5);

/// Number of retained events compared at a time.
const PORTION: usize = 512;

/// What the stream has yet to deliver at its end.
pub(super) struct Goal {
    frontier: Frontier,
    missing: Missing,
    /// The part of it that neither the stream nor the history holds.
    pub(super) gap: Option<Gap>,
    /// How much longer to wait for it.
    pub(super) patience: Duration,
}

impl Goal {
    /// Returns whether the stream need not be waited for.
    pub(super) fn is_reached(&self) -> bool {
        self.gap.is_none() || self.patience.is_zero()
    }

    /// Notes that the stream was waited for.
    pub(super) fn waited(self) -> Self {
        Self { patience: self.patience.saturating_sub(POLL_INTERVAL), ..self }
    }
}

/// A splice in the making.
struct Splicing {
    splice: Splice,
    /// The numbers of the history that are still to be compared.
    rest: Range<u64>,
    /// Room for a portion of them.
    retained: Vec<Retained>,
}

impl Splicing {
    fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}

/// A replay at the end of the stream.
pub(super) struct Handoff<'r> {
    pub(super) broker: Arc<Broker>,
    pub(super) reading: &'r Reading,
    pub(super) delivered: &'r Delivered,
}

impl Handoff<'_> {
    /// Determines what the stream, at its end, lacks of the events that the node had when the reader first got there.
    pub(super) fn assess(&self, goal: Option<Goal>) -> Goal {
        let (frontier, before) = match goal {
            Some(Goal { frontier, missing, gap, patience }) => (frontier, Some((missing, gap, patience))),
            None => (self.broker.frontier(), None),
        };
        let missing = self.delivered.missing(&frontier.watermarks, start(self.reading), clock::instant());
        if let Some((_, gap, patience)) = before.filter(|(before, ..)| *before == missing) {
            return Goal { frontier, missing, gap, patience };
        }
        let gap = self.lacks(&missing);
        Goal { frontier, missing, gap, patience: LAG }
    }

    /// Returns the gap of events that were not delivered and will not come from the history either.
    fn lacks(&self, missing: &Missing) -> Option<Gap> {
        if missing.is_nothing() {
            return None;
        }
        let lacking = filling::lacking(&missing.numbers, self.broker.history(), self.reading.first);
        let events = (!missing.unknown && lacking <= WINDOW).then_some(lacking);
        (events != Some(0)).then(|| Gap { from: None, to: clock::now(), events })
    }

    /// Waits until the node has accepted what the stream has delivered; without progress no longer than `grace`.
    pub(super) async fn settle(&self, grace: &mut Duration) {
        let ahead = || self.delivered.ahead_of(&self.broker.frontier().watermarks);
        let mut before = ahead();
        while before > 0 && !grace.is_zero() {
            sleep(POLL_INTERVAL).await;
            let now = ahead();
            *grace = if now < before { GRACE } else { grace.saturating_sub(POLL_INTERVAL) };
            before = now;
        }
    }

    /// Returns the gap of a replay whose client may get events twice: the node has yet to accept some that the stream
    /// has delivered, or there were more nodes than can be remembered.
    fn doubt(&self) -> Option<Gap> {
        let is_behind = self.delivered.ahead_of(&self.broker.frontier().watermarks) > 0;
        (is_behind || self.delivered.has_forgotten()).then(|| Gap { from: None, to: clock::now(), events: None })
    }

    /// Returns where the history takes over, and the gap of what neither holds, or may come twice; nothing if the
    /// history has dropped events that the stream is still to deliver.
    pub(super) fn join(&self, goal: &Goal) -> Option<(Option<Gap>, Splice)> {
        // What is dropped from now on is not in what the splice leaves out, and reported by who reads the history.
        let splice = self.splice();
        let gap = self.lacks(&goal.missing);
        let is_whole = splice.first() <= goal.frontier.sequence && (gap.is_none() || goal.patience.is_zero());
        is_whole.then(|| (self.doubt().or(gap), splice))
    }

    /// Returns where the history takes over.
    pub(super) fn splice(&self) -> Splice {
        let mut splicing = self.splicing();
        while !splicing.is_done() {
            self.compare(&mut splicing, |_, _| None);
        }
        splicing.splice
    }

    /// The same if the client may not have handled some events that the stream has delivered: those that have a
    /// `position`. Lets others run after each portion, because when NATS is gone many replays end at once, and each may
    /// have to digest the whole history. What the history drops meanwhile is reported by who reads it.
    pub(super) async fn splice_beside(&self, position: impl Fn(Trace, &Event) -> Option<u64>) -> Splice {
        let mut splicing = self.splicing();
        while !splicing.is_done() {
            self.compare(&mut splicing, &position);
            yield_now().await;
        }
        splicing.splice
    }

    fn splicing(&self) -> Splicing {
        let from = self.broker.history().first().max(self.reading.first);
        let rest = from..self.broker.frontier().sequence;
        Splicing { splice: Splice::at(from), rest, retained: Vec::new() }
    }

    /// Compares the next portion of the history with what was delivered.
    fn compare(&self, splicing: &mut Splicing, position: impl Fn(Trace, &Event) -> Option<u64>) {
        let Splicing { splice, rest, retained } = splicing;
        rest.start = self.broker.history().read(rest.clone(), u64::MAX, PORTION, retained).next;
        for Retained { number, trace, event, .. } in retained.drain(..) {
            let Some(trace) = trace.filter(|trace| self.was_delivered(number, *trace, &event)) else { continue };
            match position(trace, &event) {
                Some(position) => splice.leave_out_if_handled(number, position),
                None => splice.leave_out(number),
            }
        }
    }

    /// Returns whether an event of the history was delivered. A range that is read again brings no copies that it did
    /// not bring before, so only what it brought then is compared with all of the event.
    fn was_delivered(&self, number: u64, trace: Trace, event: &Event) -> bool {
        let may_have_copy = || self.reading.brought.as_ref().is_none_or(|brought| brought.leaves_out(number));
        self.delivered.has_number(trace.origin) || (may_have_copy() && self.delivered.has_copy(trace, event))
    }
}

/// Returns the time of the first message that may be requested.
pub(super) fn start(reading: &Reading) -> Timestamp {
    let Reading { time, begin, .. } = *reading;
    let earliest = begin.or_else(|| time.checked_sub(LEAD).ok()).unwrap_or(time).min(time);
    earliest.checked_sub(OVERLAP).unwrap_or(earliest)
}
