//! What the last pages of a replay contained, in case the client does not handle them.
//!
//! Contract: pages that are not the last two to be sent have been handled: one was begun when the next was sent, and no
//! more than one waits behind it. So no more is remembered than may be withdrawn.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::broker::dedup::{Digest, RepeatIndex};
use crate::broker::origin::{NodeId, Trace};
use crate::broker::splice::Delivered;
use crate::event::Event;

/// The number of pages that may be withdrawn.
const PAGES: usize = 2;

/// An event of a page.
#[derive(Debug)]
struct Sent {
    number: (NodeId, u64),
    copy_key: Option<(Digest, RepeatIndex)>,
    position: u64,
}

/// The events of the last pages, and of the one that is being made.
#[derive(Debug, Default)]
pub(super) struct LastPages {
    sent: VecDeque<Vec<Sent>>,
    next: Vec<Sent>,
}

impl LastPages {
    /// Adds an event to the page that is being made.
    pub(super) fn add(&mut self, trace: Trace, event: &Event, position: u64, delivered: &Delivered) {
        let copy_key = delivered.copy_key(trace, event);
        self.next.push(Sent { number: numbered(trace), copy_key, position });
    }

    /// Notes that the page was sent.
    pub(super) fn send(&mut self) {
        self.sent.push_back(std::mem::take(&mut self.next));
        if self.sent.len() > PAGES {
            self.sent.pop_front();
        }
    }

    /// Returns a function that returns the position of an event of these pages. A copy counts as the event.
    pub(super) fn positions<'d>(&self, delivered: &'d Delivered) -> impl Fn(Trace, &Event) -> Option<u64> + 'd {
        let all = || self.sent.iter().flatten();
        let by_number: HashMap<(NodeId, u64), u64> = all().map(|sent| (sent.number, sent.position)).collect();
        let by_copy: HashMap<(Digest, RepeatIndex), u64> =
            all().filter_map(|sent| Some((sent.copy_key?, sent.position))).collect();
        move |trace, event| {
            let copy = || delivered.copy_key(trace, event).and_then(|key| by_copy.get(&key));
            by_number.get(&numbered(trace)).or_else(copy).copied()
        }
    }
}

fn numbered(trace: Trace) -> (NodeId, u64) {
    (trace.origin.node, trace.origin.number)
}
