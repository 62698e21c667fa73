//! What the stream lacks and the history has, in its place among the chunks of a page.
//!
//! A stream that had no leader, or was slow, has jumps in the numbers of nodes whose events went past it. This node had
//! most of them live.

use std::ops::Range;

use jiff::Timestamp;

use crate::broker::archive::{Chunk, Page};
use crate::broker::gap::Gap;
use crate::broker::history::{History, Retained};
use crate::broker::origin::NodeId;
use crate::broker::splice::{Delivered, WINDOW};

/// Retained events that are looked at together.
const PORTION: usize = 512;

/// A jump in the numbers of a node.
#[derive(Debug)]
pub(super) struct Hole {
    /// The chunks of the page that stand before it.
    pub(super) at: usize,
    pub(super) node: NodeId,
    pub(super) numbers: Range<u64>,
    /// Of the message that shows it.
    pub(super) position: u64,
    pub(super) stored: Timestamp,
}

/// Calls `look` for every retained event that goes between nodes, in the order of the history from `first` on.
pub(super) fn scan(history: &History, first: u64, mut look: impl FnMut(&Retained, NodeId, u64)) {
    let (mut from, end) = (history.first().max(first), history.position().sequence);
    let mut retained = Vec::new();
    while from < end {
        from = history.read(from..end, u64::MAX, PORTION, &mut retained).next;
        for one in retained.drain(..) {
            if let Some(trace) = one.trace {
                look(&one, trace.origin.node, trace.origin.number);
            }
        }
    }
}

/// The page with what the history has of its holes, and a gap for what it has not.
pub(super) fn fill(page: Page, holes: &[Hole], history: &History, delivered: &mut Delivered) -> Page {
    let mut found: Vec<Vec<(u64, Retained)>> = holes.iter().map(|_| Vec::new()).collect();
    scan(history, 0, |one, node, number| {
        let fits = |hole: &Hole| hole.node == node && hole.numbers.contains(&number);
        if let Some(at) = holes.iter().position(fits) {
            found[at].push((number, one.clone()));
        }
    });
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

fn fill_one(hole: &Hole, mut found: Vec<(u64, Retained)>, delivered: &mut Delivered, filled: &mut Page) {
    found.sort_unstable_by_key(|(number, _)| *number);
    found.dedup_by_key(|(number, _)| *number);
    let missing = (hole.numbers.end - hole.numbers.start) - found.len() as u64;
    if missing > 0 {
        let events = (missing <= WINDOW).then_some(missing);
        filled.push(Chunk::Gap(Gap { from: None, to: hole.stored, events }));
    }
    for (_, Retained { event, trace, .. }) in found {
        if trace.is_some_and(|trace| delivered.fill(trace, &event)) {
            filled.push(Chunk::Event(hole.position, event));
        }
    }
}

/// How many of these numbers of nodes the history does not hold from `first` on.
pub(super) fn lacking(numbers: &[(NodeId, Range<u64>)], history: &History, first: u64) -> u64 {
    if numbers.is_empty() {
        return 0;
    }
    let all: u64 = numbers.iter().map(|(_, range)| range.end - range.start).sum();
    let mut held = 0;
    scan(history, first, |_, node, number| {
        held += u64::from(numbers.iter().any(|(other, range)| *other == node && range.contains(&number)));
    });
    all.saturating_sub(held)
}
