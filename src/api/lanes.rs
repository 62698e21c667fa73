//! Lanes: so many requests of one kind are processed at a time for each principal, and its further ones wait.
//!
//! Contract: no request waits for those of another principal. Only principals with requests are remembered.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The lanes of all principals.
#[derive(Debug)]
pub(super) struct Lanes {
    width: usize,
    by_account: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// The permit of one request in the lane of a principal. Another request gets it once it is dropped.
#[derive(Debug)]
pub(super) struct LanePermit<'l> {
    lanes: &'l Lanes,
    account: &'l str,
    /// `None` while it waits.
    permit: Option<OwnedSemaphorePermit>,
}

impl Lanes {
    /// Creates lanes for `width` requests of each principal.
    pub(super) fn new(width: usize) -> Self {
        Self { width, by_account: Mutex::default() }
    }

    /// Returns the permit of a request of this account; `None` if it did not get one within `longest`.
    pub(super) async fn enter<'l>(&'l self, account: &'l str, longest: Duration) -> Option<LanePermit<'l>> {
        // It also forgets the account if the caller leaves.
        let mut entered = LanePermit { lanes: self, account, permit: None };
        let lane = {
            let mut lanes = self.by_account.lock();
            let lane = lanes.entry_ref(account).or_insert_with(|| Arc::new(Semaphore::new(self.width)));
            Arc::clone(lane)
        };
        entered.permit = Some(timeout(longest, lane.acquire_owned()).await.ok()?.expect("it is never closed"));
        Some(entered)
    }
}

impl Drop for LanePermit<'_> {
    fn drop(&mut self) {
        self.permit = None;
        let mut lanes = self.lanes.by_account.lock();
        // Each request that has a permit or waits for one has a reference to the lane.
        if lanes.get(self.account).is_some_and(|lane| Arc::strong_count(lane) == 1) {
            lanes.remove(self.account);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::*;

    const LONGEST: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_principal_waits_for_itself_alone_and_not_for_ever() {
        let lanes = Lanes::new(2);
        let held = [lanes.enter("a", LONGEST).await, lanes.enter("a", LONGEST).await];
        assert!(held.iter().all(Option::is_some));
        let begun = Instant::now();
        assert!(lanes.enter("a", LONGEST).await.is_none());
        assert_eq!(begun.elapsed(), LONGEST);
        assert!(lanes.enter("b", LONGEST).now_or_never().flatten().is_some());
        let mut waits = Box::pin(lanes.enter("a", LONGEST));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(held);
        assert!(waits.await.is_some());
        assert!(lanes.by_account.lock().is_empty(), "nobody is remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_while_waiting_is_forgotten() {
        let lanes = Lanes::new(1);
        let held = lanes.enter("a", LONGEST).await;
        let mut waits = Box::pin(lanes.enter("a", LONGEST));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(held);
        drop(waits);
        assert!(lanes.by_account.lock().is_empty());
    }
}
