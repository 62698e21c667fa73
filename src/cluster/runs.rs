//! Collects received events into runs that are sequenced together.
//!
//! Contract: pure. The runs keep the order of the events. Within a run, either all events have a repeat index or none.

use crate::broker::dedup::RepeatIndex;
use crate::broker::origin::Origin;
use crate::event::Event;

/// A run of events that are sequenced together.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) events: Vec<Event>,
    /// The origin of each event; `None` for gap notices.
    pub(super) origins: Vec<Option<Origin>>,
    /// The repeat index of each event; empty if there can be no duplicates.
    pub(super) repeat_indexes: Vec<RepeatIndex>,
}

/// The runs that have not been sequenced yet.
#[derive(Debug, Default)]
pub(super) struct Runs(Vec<Run>);

impl Runs {
    /// Adds an event to the last run, or to a new one.
    pub(super) fn push(&mut self, event: Event, origin: Option<Origin>, repeat_index: Option<RepeatIndex>) {
        let of_one_kind = |run: &&mut Run| run.repeat_indexes.is_empty() == repeat_index.is_none();
        match self.0.last_mut().filter(of_one_kind) {
            Some(run) => {
                run.events.push(event);
                run.origins.push(origin);
                run.repeat_indexes.extend(repeat_index);
            }
            None => self.0.push(Run {
                events: vec![event],
                origins: vec![origin],
                repeat_indexes: repeat_index.into_iter().collect(),
            }),
        }
    }

    /// Removes and returns all runs.
    pub(super) fn take(&mut self) -> Vec<Run> {
        std::mem::take(&mut self.0)
    }
}
