//! A histogram of latencies.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

/// Maximum latency in microseconds (five minutes); longer ones count as this.
const MICROS_MAX: u64 = 300_000_000;

/// Records latencies with three significant digits.
#[derive(Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// Quantiles of latencies, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// Number of recorded latencies.
    pub count: u64,
    /// The median.
    pub p50: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The 99.9th percentile.
    pub p999: u64,
    /// The maximum.
    pub max: u64,
}

impl Latencies {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, MICROS_MAX, 3).context("cannot create a histogram")?))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn quantiles(&self) -> Quantiles {
        let at = |quantile| self.0.value_at_quantile(quantile);
        Quantiles { count: self.0.len(), p50: at(0.5), p99: at(0.99), p999: at(0.999), max: self.0.max() }
    }

    /// Returns latencies by number of nines: (1, the 90th percentile), (2, the 99th), ...
    pub(crate) fn nines(&self) -> Vec<(f64, u64)> {
        let at = |tenth: u32| {
            let nines = f64::from(tenth) / 4.0;
            (nines, self.0.value_at_quantile(1.0 - 10_f64.powf(-nines)))
        };
        (0..=16).map(at).collect()
    }
}

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {} µs, p99 {} µs, p99.9 {} µs, max {} µs", self.p50, self.p99, self.p999, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::new().unwrap();
        for micros in 1..=1_000 {
            latencies.record(Duration::from_micros(micros));
        }
        latencies.record(Duration::from_hours(1));
        let found = latencies.quantiles();
        assert_eq!((found.count, found.p50), (1_001, 501));
        assert!((989..=992).contains(&found.p99) && found.max >= MICROS_MAX, "{found}");
        let nines = latencies.nines();
        assert!(nines[0].1 == 1 && (899..=903).contains(&nines[4].1), "{nines:?}");
    }
}
