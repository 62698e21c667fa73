//! Plain counters of one shard: deliveries, drops, queue depths and delivery latencies.
//!
//! They belong to one thread and are updated without a lock or an atomic; `metrics` collects them once per batch.
//!
//! Contract: pure, no I/O, no clock. A count only falls when it is collected.

mod counts;
mod latency;

pub use counts::{Counts, Delivery, Depth, Dropped, OutboxLimits};
pub use latency::{BUCKETS, Latency, bucket_bound_us};
