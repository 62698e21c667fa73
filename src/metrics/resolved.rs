//! Counters with one label, each of whose series is looked up once.
//!
//! Why: looking a series up takes a lock, a hash and a comparison, each time.

use std::borrow::Cow;
use std::sync::OnceLock;

use prometheus::{IntCounter, IntCounterVec};

use super::declare::Declare;

/// A family of counters whose label is a small number in one form or another.
#[derive(Debug)]
pub(super) struct Resolved {
    family: IntCounterVec,
    /// The series looked up so far, by number.
    series: Box<[OnceLock<IntCounter>]>,
}

impl Resolved {
    /// Creates a table of the numbers below `numbers`.
    pub(super) fn new(family: IntCounterVec, numbers: usize) -> Self {
        Self { family, series: (0..numbers).map(|_| OnceLock::new()).collect() }
    }

    /// Returns the whole family.
    pub(super) fn family(&self) -> &IntCounterVec {
        &self.family
    }

    /// Adds to the series with this number, which must be below the table's size; `label` is called if it is new.
    pub(super) fn add(&self, number: usize, count: u64, label: impl FnOnce() -> Cow<'static, str>) {
        let series = self.series[number].get_or_init(|| self.family.with_label_values(&[label()]));
        series.inc_by(count);
    }
}

/// HTTP responses, by status.
#[derive(Debug)]
pub struct HttpResponses(Resolved);

impl HttpResponses {
    pub(super) fn declare(declare: &Declare<'_>) -> Self {
        let family = declare.counters("hydrant_http_responses_total", "HTTP responses, by status", "status");
        // A status has three digits.
        Self(Resolved::new(family, 1000))
    }

    /// Counts a response. Statuses that HTTP does not have count as 999.
    pub fn count(&self, status: u16) {
        let status = status.min(999);
        self.0.add(status.into(), 1, || status.to_string().into());
    }
}
