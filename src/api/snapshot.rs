//! Answers that callers share for a moment, so that twenty pages that poll cost as much as one.
//!
//! Contract: a request permits a shared answer with `Cache-Control: max-age=SECONDS`, at most [`LONGEST`]. Without that
//! header, its answer is computed for it, so a client whose registration was answered is in the list. Callers that
//! permit it wait for the one that computes the answer. Shared values must not depend on the caller; rights are checked
//! when a value is used. A value is kept for [`LONGEST`] and then dropped, because a list of all connections takes far
//! more memory than the connections themselves. Errors are not kept.

use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::CACHE_CONTROL;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::tasks;

/// The greatest age of a shared answer.
const LONGEST: Duration = Duration::from_secs(5);

/// A value and when its computation began.
type Kept<T> = Option<(Instant, Arc<T>)>;

/// The last value of something that callers may share.
#[derive(Debug)]
pub(super) struct Snapshot<T>(Arc<Mutex<Kept<T>>>);

impl<T> Default for Snapshot<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }
}

impl<T: Send + Sync + 'static> Snapshot<T> {
    /// Returns a value that is at most `age` old: the last one, or a new one from `make`.
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) async fn get<E>(&self, age: Duration, make: impl Future<Output = Result<T, E>>) -> Result<Arc<T>, E> {
        if age.is_zero() {
            return make.await.map(Arc::new);
        }
        let asked = Instant::now();
        let mut kept = self.0.lock().await;
        // A value that was begun while this caller waited is as good as its own, however long it took.
        let is_good = |begun: &Instant| *begun >= asked || begun.elapsed() <= age;
        if let Some((_, value)) = kept.as_ref().filter(|(begun, _)| is_good(begun)) {
            return Ok(Arc::clone(value));
        }
        let begun = Instant::now();
        let value = Arc::new(make.await?);
        *kept = Some((begun, Arc::clone(&value)));
        tasks::spawn(forget(Arc::downgrade(&self.0), begun));
        Ok(value)
    }
}

/// Drops the value that was begun at this time once no caller may use it, unless a newer one has replaced it.
async fn forget<T>(kept: Weak<Mutex<Kept<T>>>, begun: Instant) {
    sleep_until(begun + LONGEST).await;
    let Some(kept) = kept.upgrade() else { return };
    let old = kept.lock().await.take_if(|(of, _)| *of == begun);
    // Not under the lock: a long list takes a while.
    drop(old);
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
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

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
        let answer = async |age| {
            let made = async { Ok::<_, Infallible>(made.fetch_add(1, Ordering::Relaxed)) };
            *snapshot.get(age, made).await.unwrap()
        };
        assert_eq!(answer(Duration::ZERO).await, 0);
        assert_eq!(answer(LONGEST).await, 1, "an answer for one caller is not kept");
        assert_eq!(answer(LONGEST).await, 1);
        assert_eq!(answer(Duration::ZERO).await, 2);
        assert_eq!(answer(LONGEST).await, 1);
        assert_eq!(answer(Duration::from_nanos(1)).await, 3, "too old for this caller");
    }

    #[tokio::test]
    async fn an_error_is_for_its_caller_only() {
        let snapshot = Snapshot::default();
        assert_eq!(snapshot.get(LONGEST, async { Err("busy") }).await, Err("busy"));
        assert_eq!(snapshot.get(LONGEST, async { Ok::<_, &str>(1) }).await.as_deref(), Ok(&1));
        assert_eq!(snapshot.get(Duration::ZERO, async { Err("busy") }).await, Err("busy"));
        assert_eq!(snapshot.get(LONGEST, async { Err("busy") }).await.as_deref(), Ok(&1), "still good");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_for_everybody_is_dropped() {
        let snapshot = Snapshot::default();
        let weak = |kept: Result<Arc<i32>, Infallible>| Arc::downgrade(&kept.unwrap());
        let first = weak(snapshot.get(LONGEST, async { Ok(1) }).await);
        tokio::time::sleep(LONGEST.saturating_sub(Duration::from_secs(1))).await;
        assert_eq!(first.upgrade().as_deref(), Some(&1));
        let second = weak(snapshot.get(Duration::from_secs(1), async { Ok(2) }).await);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!((first.upgrade(), second.upgrade().as_deref()), (None, Some(&2)), "the newer one has its own time");
        tokio::time::sleep(LONGEST).await;
        assert_eq!(second.upgrade(), None, "though nobody has asked again");
    }

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_wait_for_one_answer() {
        let (snapshot, made) = (Snapshot::default(), AtomicU32::new(0));
        let answer = || async {
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(made.fetch_add(1, Ordering::Relaxed))
        };
        let (first, second) = tokio::join!(snapshot.get(LONGEST, answer()), snapshot.get(LONGEST, answer()));
        assert_eq!((*first.unwrap(), *second.unwrap()), (0, 0));
    }
}
