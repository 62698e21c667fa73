//! A request whose answer is shared by all who need it, failures included.
//!
//! Contract: while one caller runs the request, all others wait for its answer; if that caller is cancelled, the next
//! one runs it.

use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::pages::PageError;

#[derive(Debug)]
struct Answer<T> {
    came: Instant,
    result: Result<T, PageError>,
}

/// One answer, requested once and given to every caller.
#[derive(Debug)]
pub(super) struct Shared<T>(OnceCell<Answer<T>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(OnceCell::new())
    }
}

impl<T: Clone> Shared<T> {
    /// Returns the answer; `ask` runs only if there is none yet.
    pub(super) async fn get(&self, ask: impl Future<Output = Result<T, PageError>>) -> Result<T, PageError> {
        let answer = self.0.get_or_init(|| async { Answer { result: ask.await, came: Instant::now() } }).await;
        answer.result.clone()
    }

    /// Returns whether the answer has expired: `good_for` returns how long a success is valid, and `failed` is how long
    /// a failure is.
    pub(super) fn is_old(&self, good_for: impl FnOnce(&T) -> Duration, failed: Duration) -> bool {
        let span = |answer: &Answer<T>| answer.result.as_ref().map_or(failed, good_for);
        self.0.get().is_some_and(|answer| answer.came.elapsed() > span(answer))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_wait_once_for_an_answer_that_does_not_come() {
        let (asked, shared) = (Cell::new(0), Shared::<u64>::default());
        let late = async || {
            asked.set(asked.get() + 1);
            tokio::time::sleep(Duration::from_secs(3)).await;
            Err(PageError::Silent)
        };
        let began = Instant::now();
        let answers = join_all((0..500).map(|_| shared.get(late()))).await;
        assert!(answers.iter().all(Result::is_err));
        assert_eq!((asked.get(), began.elapsed()), (1, Duration::from_secs(3)));
        let is_old = || shared.is_old(|_| Duration::MAX, Duration::from_secs(1));
        assert!(!is_old(), "it is remembered");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(is_old());
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_asks_in_the_place_of_one_who_gives_up() {
        let shared = Shared::<u64>::default();
        let never = tokio::time::timeout(Duration::from_secs(1), shared.get(std::future::pending())).await;
        assert!(never.is_err());
        assert_eq!(shared.get(async { Ok(7) }).await.unwrap(), 7);
    }
}
