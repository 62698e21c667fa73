//! A latency histogram cheap enough to update for every delivery: one bucket per power of two of microseconds.

/// The number of buckets; the last one is unbounded.
pub const BUCKETS: usize = 22;

/// The first bound is 2 to this power, in microseconds.
const FIRST: u32 = 5;

/// Returns the upper bound of a bucket in microseconds; the last bucket has none.
pub fn bucket_bound_us(bucket: usize) -> Option<u64> {
    let exponent = FIRST + u32::try_from(bucket).expect("a few dozen buckets");
    (bucket + 1 < BUCKETS).then(|| 1 << exponent)
}

/// A histogram of one shard's latencies since the last read: counts per bucket and the sum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latency {
    /// Observations in each bucket, not cumulative.
    pub counts: [u64; BUCKETS],
    /// The sum of all observations in microseconds.
    pub sum_us: u64,
}

impl Latency {
    /// Counts one delivery that took `us` microseconds.
    #[inline]
    pub fn observe(&mut self, us: u64) {
        self.observe_many(us, 1);
    }

    /// Counts `deliveries` deliveries that took `us` microseconds each.
    #[inline]
    pub fn observe_many(&mut self, us: u64, deliveries: u64) {
        let bits = u64::BITS - us.saturating_sub(1).leading_zeros();
        let bucket = bits.saturating_sub(FIRST) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += deliveries;
        self.sum_us += us * deliveries;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_fall_below_their_bound() {
        for us in [0, 1, 31, 32, 33, 64, 65, 1_000_000, 1 << 25, (1 << 25) + 1, 1 << 26, u64::MAX / 2] {
            let mut latency = Latency::default();
            latency.observe(us);
            let bucket = latency.counts.iter().position(|&n| n == 1).unwrap();
            assert!(bucket_bound_us(bucket).is_none_or(|bound| us <= bound), "{us}");
            assert!(bucket == 0 || bucket_bound_us(bucket - 1).is_some_and(|bound| us > bound), "{us}");
        }
    }
}
