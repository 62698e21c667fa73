//! Newcomers that wait for a slot ([`super::pending`]).
//!
//! Contract: a newcomer for which there is no slot waits for one for up to [`WAIT`], beside a bounded number of others.
//! Meanwhile nothing is read from it or sent to it, and it costs a file descriptor and a small task. The listener does
//! not wait for it, so a newcomer that may replace another connection still does that at once. When a slot becomes
//! free, the newcomer that has waited longest is woken first, but one that arrives at that moment may be faster.
//!
//! Why: a fleet that reconnects at once takes all slots within milliseconds, although each is needed only briefly. If
//! all others were refused, their backoff and not the capacity of the server would determine when they are back.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::pending::{Pending, PendingSlot};

/// Maximum time for which a newcomer waits.
const WAIT: Duration = Duration::from_secs(1);

/// Interval at which it looks for a connection that has become idle, because no event announces that.
const INTERVAL: Duration = Duration::from_millis(100);

/// The slots, and the places of those that wait for one.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    pending: Arc<Pending>,
    places: Arc<Semaphore>,
}

/// What a newcomer gets: a slot, or a place to wait for one.
#[derive(Debug)]
pub(super) enum Admission {
    Slot(PendingSlot),
    Place(Waiting),
}

/// A newcomer that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pending: Arc<Pending>,
    peer: IpAddr,
    _place: OwnedSemaphorePermit,
}

impl WaitingRoom {
    /// Creates a room for `slots` connections that have a slot, and `places` that wait for one.
    pub(super) fn new(slots: usize, places: usize) -> Self {
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self { pending: Arc::new(Pending::new(slots)), places }
    }

    /// Returns a slot or a place for a newcomer, or `None` if neither is free.
    pub(super) fn enter(&self, peer: IpAddr) -> Option<Admission> {
        if let Some(slot) = self.pending.admit(peer, Instant::now()) {
            return Some(Admission::Slot(slot));
        }
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Admission::Place(Waiting { pending: Arc::clone(&self.pending), peer, _place: place }))
    }
}

impl Admission {
    /// Returns the slot as soon as there is one, or `None` after [`WAIT`].
    pub(super) async fn slot(self) -> Option<PendingSlot> {
        match self {
            Self::Slot(slot) => Some(slot),
            Self::Place(waiting) => timeout(WAIT, waiting.slot()).await.ok(),
        }
    }
}

impl Waiting {
    async fn slot(self) -> PendingSlot {
        let mut freed = pin!(self.pending.freed());
        loop {
            tokio::select! {
                () = freed.as_mut() => freed.set(self.pending.freed()),
                () = sleep(INTERVAL) => {}
            }
            if let Some(slot) = self.pending.admit(self.peer, Instant::now()) {
                return slot;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    async fn enter(room: &WaitingRoom) -> PendingSlot {
        room.enter(PEER).expect("a place").slot().await.expect("a slot")
    }

    /// A newcomer that has begun to wait.
    async fn waits(room: &WaitingRoom) -> JoinHandle<Option<PendingSlot>> {
        let waiting = tokio::spawn(room.enter(PEER).expect("a place").slot());
        tokio::task::yield_now().await;
        waiting
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_longest_gets_the_slot_that_becomes_free_at_once() {
        let room = WaitingRoom::new(1, 8);
        let first = enter(&room).await;
        first.signs().busy();
        let (second, third) = (waits(&room).await, waits(&room).await);
        let begun = tokio::time::Instant::now();
        drop(first);
        let second = second.await.unwrap().expect("the slot of the first");
        second.signs().busy();
        assert!(!third.is_finished());
        drop(second);
        assert!(third.await.unwrap().is_some(), "the slot of the second");
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody has looked by itself");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_in_vain_is_refused_and_leaves_its_place() {
        let room = WaitingRoom::new(1, 8);
        let first = enter(&room).await;
        first.signs().busy();
        let waiting: Vec<_> = (0..8).map(|_| room.enter(PEER).unwrap()).collect();
        assert!(room.enter(PEER).is_none(), "all eight places are taken");
        for place in waiting {
            assert!(place.slot().await.is_none());
        }
        assert!(room.enter(PEER).is_some());
    }
}
