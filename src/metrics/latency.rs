//! The latency histogram, filled from the counts that shards keep.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto;

use crate::stats::{BUCKETS, Latency, bucket_bound_us};

/// A histogram to which whole buckets can be added, unlike the library's own.
#[derive(Debug, Clone)]
pub(super) struct LatencyHistogram {
    desc: Desc,
    cells: Arc<LatencyCells>,
}

#[derive(Debug, Default)]
struct LatencyCells {
    counts: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl LatencyHistogram {
    pub(super) fn new() -> prometheus::Result<Self> {
        let desc = Desc::new(
            "hydrant_delivery_latency_seconds".to_owned(),
            "Time from the intake of an event until its last byte is handed to the kernel, per delivery".to_owned(),
            Vec::new(),
            std::collections::HashMap::new(),
        )?;
        Ok(Self { desc, cells: Arc::default() })
    }

    /// Returns the counts by bucket, not cumulative.
    pub(super) fn counts(&self) -> Vec<u64> {
        self.cells.counts.iter().map(|cell| cell.load(Ordering::Relaxed)).collect()
    }

    pub(super) fn add(&self, latency: &Latency) {
        for (cell, &count) in self.cells.counts.iter().zip(&latency.counts) {
            if count > 0 {
                cell.fetch_add(count, Ordering::Relaxed);
            }
        }
        self.cells.sum_us.fetch_add(latency.sum_us, Ordering::Relaxed);
    }
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus values are floating point")]
pub(super) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

impl Collector for LatencyHistogram {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut histogram = proto::Histogram::default();
        let mut count = 0;
        let mut buckets = Vec::with_capacity(BUCKETS);
        for (at, cell) in self.cells.counts.iter().enumerate() {
            count += cell.load(Ordering::Relaxed);
            if let Some(bound) = bucket_bound_us(at) {
                let mut bucket = proto::Bucket::default();
                bucket.set_upper_bound(seconds(bound));
                bucket.set_cumulative_count(count);
                buckets.push(bucket);
            }
        }
        histogram.set_bucket(buckets);
        histogram.set_sample_count(count);
        histogram.set_sample_sum(seconds(self.cells.sum_us.load(Ordering::Relaxed)));
        let mut metric = proto::Metric::default();
        metric.set_histogram(histogram);
        let mut family = proto::MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(proto::MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        vec![family]
    }
}
