//! Finding the subscribers of an event: its strings as symbols, the leaves that these lead to, their members.
//!
//! Nothing here allocates. With a hundred thousand keys the time goes into waiting for memory, so each step is made such
//! that the next ones need not wait for it: every probe's place depends on nothing but the event's strings.

use super::filter::View;
use super::groups::Groups;
use super::leaf::{Leaf, Room};
use super::trie::Names;
use super::{Class, Index, Mark};
use crate::event::Event;

impl<S: Copy> Index<S> {
    /// Calls `hit` once for every subscriber that has registered for the event and whose class is `allowed` to see it.
    /// `allowed` is asked at most once a class.
    pub fn matches(&mut self, event: &Event, allowed: impl FnMut(Class) -> bool, hit: impl FnMut(S)) {
        let names = self.names(event);
        self.next_event();
        let Self { trie, engine, groups, marks, verdicts, .. } = self;
        let mut hits = Hits { event: self.event, groups, marks, verdicts, allowed, hit };
        // Begun only when the trie leads to a filter.
        let mut engine = Some(engine);
        let mut evaluation = None;
        trie.visit(&names, |leaf: &mut Leaf| {
            match leaf.room() {
                Room::Empty => {}
                Room::Whole(class, members) => hits.take(*class, members.as_slice()),
                Room::Numbered(group) => hits.take_group(*group),
            }
            leaf.listed().iter().for_each(|&group| hits.take_group(group));
            if let Some(filtered) = leaf.filtered() {
                if let Some(engine) = engine.take() {
                    evaluation = Some(engine.begin(View::event(event)));
                }
                if let Some(evaluation) = &mut evaluation {
                    filtered.candidates(evaluation, |group| hits.take_group(group));
                }
            }
        });
    }

    /// Numbers are shorter than a server may run: before one is used again, nothing may remember it.
    fn next_event(&mut self) {
        self.event = self.event.wrapping_add(1);
        if self.event == 0 {
            self.event = 1;
            self.marks.iter_mut().for_each(|mark| mark.event = 0);
            self.verdicts.clear();
        }
    }

    fn names(&self, event: &Event) -> Names {
        let kind = event.kind();
        let owned = kind == "jobs" && self.trie.wants_owners();
        let name = |text: &str| self.symbols.name(text);
        let (machine, work_order) = if owned { (event.machine(), event.work_order()) } else { (None, None) };
        Names {
            kind: name(kind),
            action: name(event.action()),
            key: name(event.key()),
            machine: machine.map(name),
            work_order: work_order.map(name),
        }
    }
}

/// The subscribers of one event, each once.
struct Hits<'i, S, A, H> {
    event: u32,
    groups: &'i Groups,
    marks: &'i mut [Mark<S>],
    verdicts: &'i mut Vec<(u32, bool)>,
    allowed: A,
    hit: H,
}

impl<S: Copy, A: FnMut(Class) -> bool, H: FnMut(S)> Hits<'_, S, A, H> {
    fn take_group(&mut self, group: u32) {
        let (class, members) = self.groups.get(group);
        self.take(class, members);
    }

    fn take(&mut self, class: Class, members: &[u32]) {
        if !self.judge(class) {
            return;
        }
        for &member in members {
            let mark = &mut self.marks[member as usize];
            if mark.event != self.event {
                mark.event = self.event;
                (self.hit)(mark.id);
            }
        }
    }

    fn judge(&mut self, class: Class) -> bool {
        let at = class.0 as usize;
        if at >= self.verdicts.len() {
            self.verdicts.resize(at + 1, (0, false));
        }
        if self.verdicts[at].0 != self.event {
            self.verdicts[at] = (self.event, (self.allowed)(class));
        }
        self.verdicts[at].1
    }
}
