//! A deliberately naive matcher: a list of registrations, scanned for every event. The reference model for the index's
//! tests.

use super::filter::{self, Engine, Filter, View};
use super::{MACHINE_JOBS, Spec, WORK_ORDER_JOBS};
use crate::event::Event;

/// Returns whether a registration matches an event, following the rules of the protocol literally.
pub(super) fn wants(spec: &Spec, event: &Event) -> bool {
    let named = |name: &str| spec.kind.iter().flatten().any(|other| other == name);
    let by_key = spec.kind.matches(event.kind());
    let owner = |owner: Option<&str>| owner.is_some_and(|owner| spec.key.matches(owner));
    spec.action.matches(event.action())
        && spec.filter.as_ref().is_none_or(|filter| is_true(filter, event))
        && (by_key && spec.key.matches(event.key())
            || named(MACHINE_JOBS) && owner(event.machine())
            || named(WORK_ORDER_JOBS) && owner(event.work_order()))
}

/// Evaluates each filter in an engine of its own; the filter tests have a naive evaluator of their own.
fn is_true(filter: &Filter, event: &Event) -> bool {
    let mut engine = Engine::new();
    let id = engine.intern(filter);
    engine.begin(View::event(event)).matches(id)
}

/// Subscribers and their registrations in plain lists.
#[derive(Debug, Default)]
pub(super) struct Naive {
    pub(super) registrations: Vec<(u32, String)>,
}

impl Naive {
    pub(super) fn register(&mut self, subscriber: u32, text: &str) {
        let registration = (subscriber, text.to_owned());
        if !self.registrations.contains(&registration) {
            self.registrations.push(registration);
        }
    }

    pub(super) fn deregister(&mut self, subscriber: u32, text: &str) -> bool {
        let before = self.registrations.len();
        self.registrations.retain(|(other, spec)| *other != subscriber || spec != text);
        before != self.registrations.len()
    }

    pub(super) fn unsubscribe(&mut self, subscriber: u32) {
        self.registrations.retain(|(other, _)| *other != subscriber);
    }

    pub(super) fn matches(&self, event: &Event) -> Vec<u32> {
        let wanted = self
            .registrations
            .iter()
            .filter(|(_, text)| wants(&Spec::parse(text, &filter::Limits::default()).unwrap(), event));
        let mut hits: Vec<u32> = wanted.map(|(subscriber, _)| *subscriber).collect();
        hits.sort_unstable();
        hits.dedup();
        hits
    }
}
