//! Answers that callers share for a moment, so that twenty pages that poll cost as much as one.
//!
//! Contract: a request permits it with `Cache-Control: max-age=SECONDS`, at most [`LONGEST`]. Without that header its
//! answer is computed for it: a client whose registration was answered is in the list. Callers that permit it wait
//! for the one that computes the answer. What is shared must not depend on the caller; rights are checked on what is
//! taken from here. The last value is kept until a newer one replaces it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::header::CACHE_CONTROL;
use tokio::sync::Mutex;

/// The greatest age of a shared answer.
const LONGEST: Duration = Duration::from_secs(5);

/// A value and when its computation began.
type Kept<T> = Option<(Instant, Arc<T>)>;

/// The last value of something that callers may share.
#[derive(Debug)]
pub(super) struct Snapshot<T>(Mutex<Kept<T>>);

impl<T> Default for Snapshot<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Snapshot<T> {
    /// Returns a value that is at most `age` old: the last one, or a new one from `make`.
    pub(super) async fn get(&self, age: Duration, make: impl Future<Output = T>) -> Arc<T> {
        if age.is_zero() {
            return Arc::new(make.await);
        }
        let asked = Instant::now();
        let mut kept = self.0.lock().await;
        // A value that was begun while this caller waited is as good as its own, however long it took.
        let is_good = |begun: &Instant| *begun >= asked || begun.elapsed() <= age;
        if let Some((_, value)) = kept.as_ref().filter(|(begun, _)| is_good(begun)) {
            return Arc::clone(value);
        }
        let begun = Instant::now();
        let value = Arc::new(make.await);
        *kept = Some((begun, Arc::clone(&value)));
        value
    }
}

/// Returns how old an answer to this request may be: zero if it does not say.
pub(super) fn permitted_age(headers: &HeaderMap) -> Duration {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = values.flat_map(|value| value.split(',')).map(str::trim);
    let seconds = directives.find_map(|directive| directive.strip_prefix("max-age=")?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn headers(value: &'static str) -> HeaderMap {
        [(CACHE_CONTROL, value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn only_a_permitted_age_counts() {
        assert_eq!(permitted_age(&HeaderMap::new()), Duration::ZERO);
        for (value, seconds) in
            [("max-age=2", 2), ("no-store, max-age=1", 1), ("max-age=99", 5), ("no-cache", 0), ("max-age=x", 0)]
        {
            assert_eq!(permitted_age(&headers(value)), Duration::from_secs(seconds), "{value}");
        }
    }

    #[tokio::test]
    async fn who_permits_it_shares_and_nobody_else() {
        let (snapshot, made) = (Snapshot::default(), AtomicU32::new(0));
        let answer = || async { made.fetch_add(1, Ordering::Relaxed) };
        assert_eq!(*snapshot.get(Duration::ZERO, answer()).await, 0);
        assert_eq!(*snapshot.get(MINUTE, answer()).await, 1, "an answer for one caller is not kept");
        assert_eq!(*snapshot.get(MINUTE, answer()).await, 1);
        assert_eq!(*snapshot.get(Duration::ZERO, answer()).await, 2);
        assert_eq!(*snapshot.get(MINUTE, answer()).await, 1);
        assert_eq!(*snapshot.get(Duration::from_nanos(1), answer()).await, 3, "too old for this caller");
    }

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_wait_for_one_answer() {
        let (snapshot, made) = (Snapshot::default(), AtomicU32::new(0));
        let answer = || async {
            tokio::task::yield_now().await;
            made.fetch_add(1, Ordering::Relaxed)
        };
        let (first, second) = tokio::join!(snapshot.get(MINUTE, answer()), snapshot.get(MINUTE, answer()));
        assert_eq!((*first, *second), (0, 0));
    }
}
