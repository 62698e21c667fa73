//! Helpers that declare and register metrics.

use prometheus::core::Collector;
use prometheus::{CounterVec, Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Declares and registers metrics in one step, so that none is declared and forgotten.
pub(super) struct Declare<'r>(pub(super) &'r Registry);

impl Declare<'_> {
    pub(super) fn add<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let collector = made.expect("names and labels are constants that follow the rules");
        self.0.register(Box::new(collector.clone())).expect("every name is declared once");
        collector
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }

    pub(super) fn counters(&self, name: &str, help: &str, label: &str) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), &[label]))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, label: &str) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), &[label]))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help))
    }

    pub(super) fn seconds(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::new(name, help))
    }

    pub(super) fn seconds_counters(&self, name: &str, help: &str, label: &str) -> CounterVec {
        self.add(CounterVec::new(Opts::new(name, help), &[label]))
    }

    pub(super) fn build_info(&self) {
        let opts = Opts::new("hydrant_build_info", "Always 1").const_label("version", env!("CARGO_PKG_VERSION"));
        self.add(IntGauge::with_opts(opts)).set(1);
    }
}
