//! What the server says about its own part of the latency: from intake until the last byte is in the kernel.
//!
//! Contract: pure. The server counts deliveries in buckets, so the result is the upper bound of a bucket.

use std::collections::HashMap;

/// The buckets' metric, up to the bound.
const BUCKET: &str = "hydrant_delivery_latency_seconds_bucket{le=\"";

/// Returns the bound in microseconds that 99 % of the deliveries between two readings of the metrics did not exceed;
/// `None` if there were none, or if the server does not say.
pub(super) fn p99(before: &HashMap<String, f64>, after: &HashMap<String, f64>) -> Option<u64> {
    let mut buckets: Vec<(f64, f64)> = after.iter().filter_map(|(name, now)| bucket(name, *now, before)).collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
    let (bound, _) = buckets.into_iter().find(|(bound, count)| *count >= all * 0.99 && bound.is_finite())?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bound of less than a day")]
    Some((bound * 1e6).round() as u64)
}

/// Returns the bound of a bucket, and the deliveries since `before` that did not exceed it.
fn bucket(name: &str, now: f64, before: &HashMap<String, f64>) -> Option<(f64, f64)> {
    let bound = name.strip_prefix(BUCKET)?.strip_suffix("\"}")?;
    let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
    Some((bound, now - before.get(name).copied().unwrap_or(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(counts: [f64; 3]) -> HashMap<String, f64> {
        let names = ["0.000032", "0.000064", "+Inf"].map(|bound| format!("{BUCKET}{bound}\"}}"));
        names.into_iter().zip(counts).chain([("hydrant_other".to_owned(), 9.0)]).collect()
    }

    #[test]
    fn only_what_was_delivered_in_between_counts() {
        let before = reading([50.0, 60.0, 100.0]);
        assert_eq!(p99(&before, &before), None);
        assert_eq!(p99(&before, &reading([149.0, 160.0, 200.0])), Some(32));
        assert_eq!(p99(&before, &reading([50.0, 160.0, 200.0])), Some(64));
        assert_eq!(p99(&HashMap::new(), &HashMap::new()), None);
        assert_eq!(p99(&HashMap::new(), &reading([0.0, 0.0, 1.0])), None, "beyond all bounds");
    }
}
