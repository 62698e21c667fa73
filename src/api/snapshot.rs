//! Answers that callers share for a moment, so that twenty pages that poll cost as much as one.
//!
//! Contract: a request permits a shared answer with `Cache-Control: max-age=SECONDS`, at most [`LONGEST`]. Without that
//! header its answer is begun after the request has arrived, so a client whose registration was answered is in the
//! list. One answer is computed at a time, by a task of its own, so that nobody has to begin anew if the caller for
//! whom it was begun leaves; it takes at most [`TIME`]. Callers that arrive meanwhile share the next one, and also its
//! error, so a crowd costs two computations, whatever header it sends. Shared values must not depend on the caller;
//! rights are checked when a value is used. A value is kept for [`LONGEST`] and then dropped, because a list of all
//! connections takes far more memory than the connections themselves. An error is never given to callers that arrive
//! later.

use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::CACHE_CONTROL;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};

use crate::fanout::pool::PoolError;
use crate::tasks;

/// The greatest age of a shared answer.
const LONGEST: Duration = Duration::from_secs(5);

/// How long the computation of an answer may take: a shard that is stuck does not answer.
const TIME: Duration = Duration::from_secs(30);

/// The last value, and the error if making a newer one has failed since, each with the time at which it was begun.
#[derive(Debug)]
struct Kept<T, E> {
    value: Option<(Instant, Arc<T>)>,
    failure: Option<(Instant, E)>,
}

impl<T, E: Copy> Kept<T, E> {
    /// Returns what a caller may share that asked at this time and permits this age. What was begun while it waited is
    /// as good as its own, however long it took.
    fn outcome(&self, asked: Instant, age: Duration) -> Option<Result<Arc<T>, E>> {
        let is_good = |begun: &Instant| *begun > asked || (!age.is_zero() && begun.elapsed() <= age);
        if let Some((_, value)) = self.value.as_ref().filter(|(begun, _)| is_good(begun)) {
            return Some(Ok(Arc::clone(value)));
        }
        let (_, error) = self.failure.as_ref().filter(|(begun, _)| *begun > asked)?;
        Some(Err(*error))
    }
}

/// The last value of something that callers may share.
#[derive(Debug)]
pub(super) struct Snapshot<T, E = PoolError>(Arc<Mutex<Kept<T, E>>>);

impl<T, E> Default for Snapshot<T, E> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Kept { value: None, failure: None })))
    }
}

impl<T, E> Snapshot<T, E>
where
    T: Send + Sync + 'static,
    E: Copy + From<Elapsed> + Send + 'static,
{
    /// Returns a value that is at most `age` old or was begun after this call: the last one, or a new one from `make`.
    ///
    /// # Errors
    /// Those of `make`, of this or of another call that began meanwhile.
    pub(super) async fn get<M>(&self, age: Duration, make: impl FnOnce() -> M) -> Result<Arc<T>, E>
    where
        M: Future<Output = Result<T, E>> + Send + 'static,
    {
        match self.present(age).await {
            Ok(outcome) => outcome,
            Err(computation) => {
                let making = tasks::spawn(computation.run(make()));
                // It is never cancelled.
                making.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
            }
        }
    }

    /// Like [`get`](Self::get), with a computation that belongs to its caller: it ends if the caller leaves, and the
    /// next one begins its own.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub(super) async fn get_for_caller(
        &self,
        age: Duration,
        make: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, E> {
        match self.present(age).await {
            Ok(outcome) => outcome,
            Err(computation) => computation.run(make).await,
        }
    }

    /// Returns what a caller may share that permits this age; otherwise the computation of a new one.
    async fn present(&self, age: Duration) -> Result<Result<Arc<T>, E>, Computation<T, E>> {
        let asked = Instant::now();
        let kept = Arc::clone(&self.0).lock_owned().await;
        kept.outcome(asked, age).ok_or_else(|| Computation { kept, shared: Arc::downgrade(&self.0) })
    }
}

/// The right to compute the value, which one caller has at a time.
struct Computation<T, E> {
    kept: OwnedMutexGuard<Kept<T, E>>,
    shared: Weak<Mutex<Kept<T, E>>>,
}

impl<T, E> Computation<T, E>
where
    T: Send + Sync + 'static,
    E: Copy + From<Elapsed> + Send + 'static,
{
    /// Computes the value and keeps it, or the error.
    async fn run(mut self, make: impl Future<Output = Result<T, E>>) -> Result<Arc<T>, E> {
        let begun = Instant::now();
        match timeout(TIME, make).await.unwrap_or_else(|late| Err(late.into())) {
            Ok(value) => {
                let value = Arc::new(value);
                (self.kept.value, self.kept.failure) = (Some((begun, Arc::clone(&value))), None);
                tasks::spawn(forget(self.shared, begun));
                Ok(value)
            }
            Err(error) => {
                self.kept.failure = Some((begun, error));
                Err(error)
            }
        }
    }
}

/// Drops the value that was begun at this time once no caller may use it, unless a newer one has replaced it.
async fn forget<T, E>(kept: Weak<Mutex<Kept<T, E>>>, begun: Instant) {
    sleep_until(begun + LONGEST).await;
    let Some(kept) = kept.upgrade() else { return };
    let old = kept.lock().await.value.take_if(|(of, _)| *of == begun);
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
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const BUSY: PoolError = PoolError::Unanswered;

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

    /// Lets a moment pass, on a paused clock.
    async fn moment() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_permits_it_shares_and_nobody_else() {
        let (snapshot, made) = (Snapshot::<_, PoolError>::default(), Arc::new(AtomicU32::new(0)));
        let answer = async |age| {
            moment().await;
            let made = Arc::clone(&made);
            *snapshot.get(age, || async move { Ok(made.fetch_add(1, Ordering::Relaxed)) }).await.unwrap()
        };
        assert_eq!(answer(Duration::ZERO).await, 0);
        assert_eq!(answer(LONGEST).await, 0);
        assert_eq!(answer(Duration::ZERO).await, 1);
        assert_eq!(answer(LONGEST).await, 1);
        assert_eq!(answer(Duration::from_nanos(1)).await, 2, "too old for this caller");
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_for_those_who_waited_for_it() {
        let snapshot = Snapshot::default();
        let fail = async || {
            moment().await;
            snapshot.get(Duration::ZERO, || async { Err(BUSY) }).await
        };
        assert_eq!(snapshot.get(LONGEST, || async { Err(BUSY) }).await, Err(BUSY));
        moment().await;
        assert_eq!(snapshot.get(LONGEST, || async { Ok(1) }).await.as_deref(), Ok(&1));
        assert_eq!(fail().await, Err(BUSY));
        assert_eq!(snapshot.get(LONGEST, || async { Err(BUSY) }).await.as_deref(), Ok(&1), "still good");
        assert_eq!(snapshot.get(Duration::ZERO, || async { Ok(2) }).await.as_deref(), Ok(&2), "it came later");
    }

    /// Counts itself, and takes a second.
    fn a_second(
        made: &Arc<AtomicU32>,
        outcome: Result<(), PoolError>,
    ) -> impl Future<Output = Result<(), PoolError>> + Send + use<> {
        let made = Arc::clone(made);
        async move {
            made.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
            outcome
        }
    }

    /// Who leaves takes nothing away from the others.
    #[tokio::test(start_paused = true)]
    async fn a_value_does_not_end_with_the_caller_for_whom_it_was_begun() {
        let (snapshot, made) = (Snapshot::default(), Arc::new(AtomicU32::new(0)));
        let ask = || snapshot.get(LONGEST, || a_second(&made, Ok(())));
        timeout(Duration::from_millis(500), ask()).await.unwrap_err();
        assert_eq!((ask().await.as_deref(), made.load(Ordering::Relaxed)), (Ok(&()), 1));
    }

    /// Nor does it keep the others waiting for ever.
    #[tokio::test(start_paused = true)]
    async fn a_value_that_does_not_come_is_given_up() {
        let snapshot = Snapshot::<(), PoolError>::default();
        assert_eq!(snapshot.get(LONGEST, std::future::pending).await, Err(BUSY));
        assert_eq!(snapshot.get(LONGEST, || async { Ok(()) }).await.as_deref(), Ok(&()));
    }

    /// However many ask, and whether it succeeds or fails: the first has its own answer, the others share one.
    #[tokio::test(start_paused = true)]
    async fn a_crowd_costs_two_answers() {
        for (age, outcome) in [(Duration::ZERO, Ok(())), (LONGEST, Err(BUSY)), (Duration::ZERO, Err(BUSY))] {
            let (snapshot, made) = (Snapshot::default(), Arc::new(AtomicU32::new(0)));
            let ask = async |after| {
                tokio::time::sleep(Duration::from_millis(after)).await;
                snapshot.get(age, || a_second(&made, outcome)).await.map(|_| ())
            };
            let answers = futures_util::future::join_all((0..50).map(ask)).await;
            assert_eq!((answers, made.load(Ordering::Relaxed)), (vec![outcome; 50], 2), "{age:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_for_everybody_is_dropped() {
        let snapshot = Snapshot::default();
        let weak = |kept: Result<Arc<i32>, PoolError>| Arc::downgrade(&kept.unwrap());
        let first = weak(snapshot.get(LONGEST, || async { Ok(1) }).await);
        tokio::time::sleep(LONGEST.saturating_sub(Duration::from_secs(1))).await;
        assert_eq!(first.upgrade().as_deref(), Some(&1));
        let second = weak(snapshot.get(Duration::from_secs(1), || async { Ok(2) }).await);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!((first.upgrade(), second.upgrade().as_deref()), (None, Some(&2)), "the newer one has its own time");
        tokio::time::sleep(LONGEST).await;
        assert_eq!(second.upgrade(), None, "though nobody has asked again");
    }
}
