//! Fills the holes of the stream from the history, each at its position among the chunks of a page.
//!
//! If a stream had no leader or was slow, it lacks events that were published then, which shows as jumps in their
//! nodes' numbers. This node received most of them live.
//!
//! Contract: every event has a position of its own, the same one whenever it is read. Events that fill a hole come
//! below the message that reveals it, in the order of their numbers ([`position_of`]). A range that is read again after
//! the first read has ended brings no event that it did not bring before: those come from the history, and are not
//! missing.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;
use jiff::Timestamp;

use crate::broker::Frontier;
use crate::broker::archive::{Chunk, POSITIONS, Page};
use crate::broker::gap::Gap;
use crate::broker::history::{History, Retained};
use crate::broker::origin::NodeId;
use crate::broker::splice::{Delivered, NODES, Splice, WINDOW};

/// Number of retained events read from the history at a time.
const PORTION: usize = 512;

/// How many bits of a position tell the events apart that come with one message.
const WITHIN: u32 = WINDOW.trailing_zeros();

/// The last message whose events have positions of their own; no stream has so many.
const LAST: u64 = (POSITIONS >> WITHIN) - 1;

/// Returns the position of an event that comes with a message of the stream, by how many numbers of its node it is
/// `before` that of the message.
pub(super) fn position_of(message: u64, before: u64) -> u64 {
    ((message.min(LAST) + 1) << WITHIN) - 1 - before.min(WINDOW - 1)
}

/// Returns the message that an event with this position comes with.
pub(super) fn message_of(position: u64) -> u64 {
    position >> WITHIN
}

/// A jump in the numbers of a node.
#[derive(Debug)]
pub(super) struct Hole {
    /// The number of chunks of the page that precede it.
    pub(super) at: usize,
    pub(super) node: NodeId,
    pub(super) numbers: Range<u64>,
    /// The message that reveals it.
    pub(super) message: u64,
    pub(super) stored: Timestamp,
}

/// Returns whether this node may be about to accept events that belong to these holes.
pub(super) fn is_on_its_way(holes: &[Hole], frontier: &Frontier, now: Instant) -> bool {
    let awaits = |hole: &Hole, next: u64| next < hole.numbers.end && hole.numbers.end - next <= WINDOW;
    let is_late = |node: NodeId, next: u64| holes.iter().any(|hole| hole.node == node && awaits(hole, next));
    frontier.watermarks.iter().any(|(node, mark)| mark.is_alive(now) && is_late(node, mark.next))
}

/// Calls `look` for the retained events that are shared between nodes, in the order of the history from `first` on,
/// until it returns false. Returns where the scan ended.
fn scan(history: &History, first: u64, mut look: impl FnMut(&Retained, NodeId, u64) -> bool) -> u64 {
    let (mut from, end) = (history.first().max(first), history.position().sequence);
    let mut retained = Vec::new();
    while from < end {
        from = history.read(from..end, u64::MAX, PORTION, &mut retained).next;
        for one in retained.drain(..) {
            if let Some(trace) = one.trace
                && !look(&one, trace.origin.node, trace.origin.number)
            {
                return one.number;
            }
        }
    }
    from
}

/// The number of an event of a hole, and the event, unless it comes from the history later.
type Found = (u64, Option<Retained>);

/// Where in the history a replay searches for events that the stream lacks.
///
/// Holes come in the order of the stream, and the numbers of a node also rise in the history: what was passed for an
/// earlier hole of a node is not scanned again. So a replay scans the history about once, however many holes it finds.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// What may be found, if the range was read before: what the history has got since then comes from there.
    brought: Option<Arc<Splice>>,
    /// The position in the history from which to search for each node's events; of [`NODES`] nodes and those of a page.
    from: HashMap<NodeId, u64>,
    /// The number of events scanned so far.
    looked: u64,
}

impl Search {
    pub(super) fn new(brought: Option<Arc<Splice>>) -> Self {
        Self { brought, ..Self::default() }
    }

    /// Returns the events in the history that belong to each hole.
    fn find(&mut self, holes: &[Hole], history: &History) -> Vec<Vec<Found>> {
        let mut found: Vec<Vec<Found>> = holes.iter().map(|_| Vec::new()).collect();
        let mut open: HashMap<NodeId, u64> = HashMap::new();
        for hole in holes {
            let end = open.entry(hole.node).or_default();
            *end = hole.numbers.end.max(*end);
        }
        let first = open.keys().map(|node| self.from.get(node).copied().unwrap_or(0)).min().unwrap_or(0);
        let Self { from, looked, brought } = self;
        if from.len() > NODES {
            from.clear();
        }
        let is_new = |number| brought.as_ref().is_some_and(|brought| !brought.leaves_out(number));
        let ended = scan(history, first, |one, node, number| {
            *looked += 1;
            let Some(&end) = open.get(&node) else { return true };
            let fits = |hole: &Hole| hole.node == node && hole.numbers.contains(&number);
            if let Some(at) = holes.iter().position(fits) {
                found[at].push((number, (!is_new(one.number)).then(|| one.clone())));
            }
            if number + 1 >= end {
                open.remove(&node);
                from.insert(node, one.number);
            }
            !open.is_empty()
        });
        from.extend(open.into_keys().map(|node| (node, ended)));
        found
    }
}

/// Fills the holes of a page with events from the history; what the history lacks too becomes a gap.
pub(super) fn fill(
    page: Page,
    holes: &[Hole],
    history: &History,
    search: &mut Search,
    delivered: &mut Delivered,
) -> Page {
    let found = search.find(holes, history);
    let mut filled = Page::with_capacity(page.len());
    let mut holes = holes.iter().zip(found).peekable();
    let mut chunks = page.into_iter().enumerate();
    loop {
        let chunk = chunks.next();
        let at = chunk.as_ref().map_or(usize::MAX, |(at, _)| *at);
        while let Some((hole, found)) = holes.next_if(|(hole, _)| hole.at <= at) {
            fill_one(hole, found, delivered, &mut filled);
        }
        let Some((_, chunk)) = chunk else { return filled };
        filled.push(chunk);
    }
}

fn fill_one(hole: &Hole, mut found: Vec<Found>, delivered: &mut Delivered, filled: &mut Page) {
    found.sort_unstable_by_key(|(number, _)| *number);
    found.dedup_by_key(|(number, _)| *number);
    let missing = (hole.numbers.end - hole.numbers.start) - found.len() as u64;
    if missing > 0 {
        let events = (missing <= WINDOW).then_some(missing);
        filled.push(Chunk::Gap(Gap { from: None, to: hole.stored, events }));
    }
    for (number, retained) in found {
        let Some(Retained { event, trace, .. }) = retained else { continue };
        let position = position_of(hole.message, hole.numbers.end - number);
        if trace.is_some_and(|trace| delivered.fill(trace, &event, position)) {
            filled.push(Chunk::Event(position, event));
        }
    }
}

/// Returns how many of these numbers the history does not hold from `first` on.
pub(super) fn lacking(numbers: &[(NodeId, Range<u64>)], history: &History, first: u64) -> u64 {
    if numbers.is_empty() {
        return 0;
    }
    let all = numbers.iter().map(|(_, range)| range.end - range.start).fold(0, u64::saturating_add);
    let mut held = 0;
    scan(history, first, |_, node, number| {
        held += u64::from(numbers.iter().any(|(other, range)| *other == node && range.contains(&number)));
        true
    });
    all.saturating_sub(held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::export::ExportLimits;
    use crate::broker::history::HistoryLimits;
    use crate::broker::origin::{Origin, Trace};
    use crate::broker::{Arrivals, Broker};
    use crate::event::{Draft, Event};
    use crate::metrics::{Metrics, Source};

    const EVENTS: u64 = 20_000;

    fn event(number: u64) -> Event {
        Draft::new("machines", "update", &number.to_string()).seal(Timestamp::UNIX_EPOCH)
    }

    /// Creates a broker whose history alternates between events of two nodes; of every hundred events of node 1 the
    /// stream lacks the first ten.
    fn broker() -> Broker {
        let history = History::new(HistoryLimits { events: 100_000, bytes: 1 << 30 }, 7, Timestamp::UNIX_EPOCH);
        let broker = Broker::new(std::sync::Arc::new(Metrics::new()), Instant::now(), history);
        let _exports = broker.share(ExportLimits { batches: 10, bytes: 1 << 20 }, 10);
        for number in 0..EVENTS {
            let origins = [1, 2].map(|node| Some(Origin { node, number }));
            let arrivals = Arrivals { origins: &origins, repeat_indexes: &[] };
            broker.publish_foreign(vec![event(number), event(number)], Source::Nats, arrivals).unwrap();
        }
        broker
    }

    /// Forged ones may be that large.
    #[test]
    fn any_numbers_may_be_lacking() {
        let history = History::new(HistoryLimits { events: 1, bytes: 1 << 20 }, 7, Timestamp::UNIX_EPOCH);
        let numbers: Vec<(NodeId, Range<u64>)> = (0..8).map(|node| (node, 0..1 << 62)).collect();
        assert_eq!(lacking(&numbers, &history, 0), u64::MAX);
    }

    #[test]
    fn events_that_come_with_one_message_have_places_of_their_own_below_it() {
        let all = [(6, 0), (7, WINDOW - 1), (7, 2), (7, 1), (7, 0), (8, WINDOW - 1)];
        let positions = all.map(|(message, before)| position_of(message, before));
        assert!(positions.is_sorted_by(|before, after| before < after), "{positions:?}");
        assert_eq!(positions.map(message_of), [6, 7, 7, 7, 7, 8]);
        assert!(position_of(u64::MAX, 0) < POSITIONS && position_of(7, u64::MAX) == positions[1]);
    }

    #[test]
    fn a_replay_goes_through_the_history_about_once_however_many_holes_there_are() {
        let broker = broker();
        let (mut search, mut delivered) = (Search::default(), Delivered::new(10));
        delivered.reach(1, 0, Timestamp::UNIX_EPOCH);
        let mut filled = Vec::new();
        for start in (0..EVENTS).step_by(100) {
            let numbers = delivered.reach(1, start + 10, Timestamp::UNIX_EPOCH);
            let hole = Hole { at: 0, node: 1, numbers, message: start, stored: Timestamp::UNIX_EPOCH };
            filled.extend(fill(Page::new(), &[hole], broker.history(), &mut search, &mut delivered));
            for number in start + 10..start + 100 {
                let origin = Origin { node: 1, number };
                delivered.event(Trace { origin, repeat_index: None }, &event(number), number, Timestamp::UNIX_EPOCH);
            }
        }
        let key = |chunk: Chunk| match chunk {
            Chunk::Event(_, event) => event.key().parse::<u64>().unwrap(),
            other => panic!("{other:?}"),
        };
        let lacked = (0..EVENTS).step_by(100).flat_map(|start| start..start + 10);
        assert!(filled.into_iter().map(key).eq(lacked));
        assert!(search.looked < 3 * EVENTS, "{} of {}", search.looked, 2 * EVENTS);
    }
}
