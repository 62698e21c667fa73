//! Explains step by step whether a registration matches an event.

use super::parts::{Cause, Step, StepResult};
use crate::event::Event;
use crate::index::filter::{Engine, Evaluation, Filter, FilterId, Term, View};
use crate::index::{Field, MACHINE_JOBS, Spec, WORK_ORDER_JOBS};

/// Maximum number of characters shown of a value or of a list.
const SHOWN: usize = 200;

/// One way in which a registration may match the names of an event.
struct Way {
    kind: bool,
    action: bool,
    key: bool,
    /// The type and the key of the event when matched in this way.
    found: (String, String),
}

impl Way {
    fn missing(&self) -> usize {
        [self.kind, self.action, self.key].into_iter().filter(|holds| !holds).count()
    }
}

/// Evaluates a registration, and returns what prevents a match.
pub(super) fn explain(spec: &Spec, event: &Event) -> (Step, Vec<Cause>) {
    let way = way(spec, event);
    let mut causes = Vec::new();
    let mut steps = Vec::new();
    let mut ask = |holds: bool, what: &str, field: &Field, found: &str, cause: fn(String, String) -> Cause| {
        let wanted = text(field);
        if !holds {
            causes.push(cause(wanted.clone(), quoted(found)));
        }
        steps.push(Step::new(StepResult::of(holds), format!("the {what} is {wanted}")).found(quoted(found)));
    };
    ask(way.kind, "type", &spec.kind, &way.found.0, |wanted, found| Cause::Type { wanted, found });
    ask(way.action, "action", &spec.action, event.action(), |wanted, found| Cause::Action { wanted, found });
    ask(way.key, "key", &spec.key, &way.found.1, |wanted, found| Cause::Key { wanted, found });
    if let Some(filter) = &spec.filter {
        let (step, cause) = filtered(filter, event);
        causes.extend(cause);
        steps.push(step);
    }
    (Step::new(StepResult::of(causes.is_empty()), "the registration matches").with(steps), causes)
}

/// Returns the way that is nearest to a match: by the event's own names or, for jobs, by their machine or work order.
fn way(spec: &Spec, event: &Event) -> Way {
    let action = spec.action.matches(event.action());
    let own = Way {
        kind: spec.kind.matches(event.kind()),
        action,
        key: spec.key.matches(event.key()),
        found: (event.kind().to_owned(), event.key().to_owned()),
    };
    let named = |name: &str| spec.kind.iter().flatten().any(|other| other == name);
    let owners = [(MACHINE_JOBS, event.machine()), (WORK_ORDER_JOBS, event.work_order())];
    let owned = owners.into_iter().filter(|(name, _)| named(name)).filter_map(|(name, owner)| {
        let key = owner?;
        Some(Way { kind: true, action, key: spec.key.matches(key), found: (name.to_owned(), key.to_owned()) })
    });
    std::iter::once(own).chain(owned).min_by_key(Way::missing).expect("there is one")
}

fn filtered(filter: &Filter, event: &Event) -> (Step, Option<Cause>) {
    let mut engine = Engine::new();
    let terms: Vec<FilterId> = (0..filter.terms().len()).map(|index| engine.intern(&filter.subtree(index))).collect();
    let mut evaluation = engine.begin(View::event(event));
    let mut walk = Walk { filter, terms: &terms, evaluation: &mut evaluation, last: None };
    let (holds, step) = walk.term(0);
    let cause = walk.last.filter(|_| !holds).map(|(term, value)| Cause::Filter { term, value });
    (Step::new(StepResult::of(holds), "the filter is true").with(vec![step]), cause)
}

/// Evaluates from left to right, no further than needed. Recursion is bounded by the nesting limit of filters.
struct Walk<'w, 'e> {
    filter: &'w Filter,
    terms: &'w [FilterId],
    evaluation: &'w mut Evaluation<'e>,
    /// The term that was evaluated last, or its negation, whichever is false; and its value.
    last: Option<(String, Option<String>)>,
}

impl Walk<'_, '_> {
    fn term(&mut self, index: usize) -> (bool, Step) {
        let filter = self.filter;
        match &filter.terms()[index] {
            Term::And(_) => self.combine(index, "all of", |holds| !holds),
            Term::Or(_) => self.combine(index, "one of", |holds| holds),
            Term::Not(_) => {
                let (holds, step) = self.term(index + 1);
                (!holds, Step::new(StepResult::of(!holds), "not").with(vec![step]))
            }
            Term::Test(test) => {
                let holds = self.evaluation.matches(self.terms[index]);
                let [value, before] = self.evaluation.values(self.terms[index]).map(|json| json.map(cut));
                // Under a `Not` a term may be decisive because it is true: then its negation is what is false.
                let decisive = if holds { format!("Not({test})") } else { test.to_string() };
                self.last = Some((decisive, value.clone()));
                let mut found = value.unwrap_or_else(|| "missing".to_owned());
                if test.op.name() == "Changed" {
                    found = format!("{found}, previously {}", before.unwrap_or_else(|| "missing".to_owned()));
                }
                (holds, Step::new(StepResult::of(holds), test.to_string()).found(found))
            }
        }
    }

    /// Evaluates children until one is decisive.
    fn combine(&mut self, index: usize, name: &str, decides: fn(bool) -> bool) -> (bool, Step) {
        let filter = self.filter;
        let (mut outcome, mut steps) = (None, Vec::new());
        for child in filter.children(index) {
            if outcome.is_some() {
                steps.push(Step::new(StepResult::Skipped, cut(filter.subtree(child).to_string())));
                continue;
            }
            let (holds, step) = self.term(child);
            steps.push(step);
            outcome = decides(holds).then_some(holds);
        }
        // Nothing was decisive: all of an And, none of an Or.
        let holds = outcome.unwrap_or(!decides(true));
        (holds, Step::new(StepResult::of(holds), name).with(steps))
    }
}

fn text(field: &Field) -> String {
    let names: Vec<String> = field.iter().map(|name| name.map_or_else(|| "anything".to_owned(), quoted)).collect();
    cut(names.join(" or "))
}

fn quoted(name: &str) -> String {
    format!("`{}`", cut(name))
}

fn cut(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}
