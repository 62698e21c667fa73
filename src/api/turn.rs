//! Turns: expensive requests of one kind are processed one at a time, principals in turn.
//!
//! Contract: a request waits for the one in progress, for at most one more of each other principal, and for earlier
//! ones of its own. One that has waited for [`TURN`] is refused with the reason. So a caller with many requests delays
//! itself, and others by two of its requests at most.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::ApiError;
use crate::auth::Principal;

/// Maximum time for which a request waits for its turn.
const TURN: Duration = Duration::from_secs(2);

/// Requests that are processed one at a time.
#[derive(Debug)]
pub(super) struct Turns {
    line: Arc<Mutex<Line>>,
    what: &'static str,
}

/// The right to be processed. Dropping it lets the next request proceed.
#[derive(Debug)]
pub(super) struct Turn {
    /// `None` once it has been passed on.
    line: Option<Arc<Mutex<Line>>>,
}

/// The requests that wait. One whose caller has gone stays until its turn comes.
#[derive(Debug, Default)]
struct Line {
    is_taken: bool,
    waiting: HashMap<Principal, VecDeque<oneshot::Sender<Turn>>>,
    /// The principals that wait, in the order of their turns.
    order: VecDeque<Principal>,
}

impl Line {
    fn push(&mut self, principal: &Principal, sender: oneshot::Sender<Turn>) {
        let own = self.waiting.entry(principal.clone()).or_default();
        if own.is_empty() {
            self.order.push_back(principal.clone());
        }
        own.push_back(sender);
    }

    /// Removes the next request whose caller still waits.
    fn pop(&mut self) -> Option<oneshot::Sender<Turn>> {
        while let Some(principal) = self.order.pop_front() {
            let own = self.waiting.get_mut(&principal)?;
            let next = std::iter::from_fn(|| own.pop_front()).find(|sender| !sender.is_closed());
            if own.is_empty() {
                self.waiting.remove(&principal);
            } else {
                self.order.push_back(principal);
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }
}

impl Turns {
    /// Creates turns for `what`, in the plural.
    pub(super) fn new(what: &'static str) -> Self {
        Self { line: Arc::default(), what }
    }

    /// Waits for the turn of a request of this principal, which lasts until it is dropped.
    ///
    /// # Errors
    /// It did not come within [`TURN`].
    pub(super) async fn take(&self, principal: &Principal) -> Result<Turn, ApiError> {
        let (sender, turn) = oneshot::channel();
        {
            let mut line = self.line.lock();
            if !line.is_taken {
                line.is_taken = true;
                return Ok(Turn { line: Some(Arc::clone(&self.line)) });
            }
            line.push(principal, sender);
        }
        let turn = timeout(TURN, turn).await.map_err(|_| ApiError::Turn { what: self.what })?;
        Ok(turn.expect("a request stays in line until it gets its turn or stops waiting"))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(line) = self.line.take() else { return };
        loop {
            let mut waiting = line.lock();
            let Some(next) = waiting.pop() else {
                waiting.is_taken = false;
                return;
            };
            // The lock is released first: if the caller goes at this moment, this drops a turn, which takes the lock.
            drop(waiting);
            let Err(mut unwanted) = next.send(Self { line: Some(Arc::clone(&line)) }) else { return };
            unwanted.line = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn of(name: &str) -> Principal {
        Principal::user(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_and_who_waits_too_long_is_told_so() {
        let turns = Turns::new("searches");
        let first = turns.take(&of("a")).await.unwrap();
        let begun = tokio::time::Instant::now();
        let refused = turns.take(&of("b")).await.unwrap_err();
        assert_eq!(refused.to_string(), "other searches are in progress; try again");
        assert_eq!(begun.elapsed(), TURN);
        drop(first);
        drop(turns.take(&of("b")).await.unwrap());
        assert!(turns.line.lock().waiting.is_empty() && turns.line.lock().order.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn principals_take_turns() {
        let turns = Arc::new(Turns::new("searches"));
        let first = turns.take(&of("a")).await.unwrap();
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for (number, name) in ["a", "a", "a", "b", "a", "c"].into_iter().enumerate() {
            let (turns, served) = (Arc::clone(&turns), Arc::clone(&served));
            tasks.spawn(async move {
                let _turn = turns.take(&of(name)).await.unwrap();
                served.lock().push(number);
            });
            tokio::task::yield_now().await;
        }
        drop(first);
        tasks.join_all().await;
        assert_eq!(*served.lock(), [0, 3, 5, 1, 2, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_gone_passes_the_turn_on() {
        let turns = Turns::new("searches");
        let (a, b) = (of("a"), of("b"));
        let first = turns.take(&a).await.unwrap();
        let mut gone = Box::pin(turns.take(&b));
        let mut early = Box::pin(turns.take(&a));
        assert!((&mut gone).now_or_never().is_none() && (&mut early).now_or_never().is_none());
        drop(early);
        drop(first);
        // It has its turn, but nobody takes it any more.
        drop(gone);
        drop(turns.take(&of("c")).await.unwrap());
    }
}
