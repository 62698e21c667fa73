//! The plain numbers that a shard counts: deliveries, drops, depths and delivery latencies.
//!
//! They belong to one thread and are added up without a lock or an atomic; `metrics` takes them over once a batch.
//!
//! Contract: pure. No I/O, no clock; a count never goes down but when it is taken.

mod counts;
mod latency;

pub use counts::{Counts, Delivery, Depth, Dropped, OutboxLimits};
pub use latency::{BUCKETS, Latency, bucket_bound_us};
