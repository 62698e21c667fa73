//! Metrics of connections that wait for a slot.

use prometheus::{IntCounter, IntGauge};

use super::declare::Declare;

/// How the wait of a newcomer ended; the value of the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It got a slot.
    Served,
    /// No slot became free in time.
    Late,
    /// A newcomer of a network with fewer places got its place.
    Displaced,
    /// It got no place to wait.
    Full,
}

impl Wait {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Served, Self::Late, Self::Displaced, Self::Full];

    fn label(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Late => "late",
            Self::Displaced => "displaced",
            Self::Full => "full",
        }
    }
}

/// Metrics of newcomers for which no slot was free.
#[derive(Debug)]
pub struct NewcomerMetrics {
    /// Those that wait.
    pub waiting: IntGauge,
    ended: [IntCounter; 4],
}

impl NewcomerMetrics {
    pub(super) fn declare(declare: &Declare<'_>) -> Self {
        let ended = declare.counters(
            "hydrant_newcomers_total",
            "New connections for which no slot was free, by how their wait ended",
            "outcome",
        );
        Self {
            waiting: declare.gauge("hydrant_newcomers_waiting", "New connections that wait for a slot"),
            ended: Wait::ALL.map(|wait| ended.with_label_values(&[wait.label()])),
        }
    }

    /// Counts the end of a wait.
    pub fn ended(&self, wait: Wait) {
        self.ended[wait as usize].inc();
    }

    /// Returns how many waits ended in this way.
    pub fn count(&self, wait: Wait) -> u64 {
        self.ended[wait as usize].get()
    }
}
