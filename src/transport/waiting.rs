//! Newcomers that wait for a slot ([`super::pending`]).
//!
//! Contract: a newcomer for which there is no slot waits for one for up to [`WAIT`], beside a bounded number of others.
//! It is neither read nor answered meanwhile, and costs a file descriptor and a small task. The listener does not wait
//! for it, so newcomers that may replace another connection still do that at once. Who waits longest is woken first
//! when a slot becomes free, but a newcomer that comes at that moment may be faster.
//!
//! Why: a fleet that reconnects at once takes all slots within milliseconds, although each is needed for a moment only.
//! If the others were refused, their own backoff would decide when they are back, and not what the server can do.

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
    /// Creates the room for `slots` slots, with eight places per slot if a process that may use `descriptors` file
    /// descriptors for clients can afford them.
    pub(super) fn new(slots: usize, descriptors: u64) -> Self {
        let places = usize::try_from(descriptors / 4).unwrap_or(usize::MAX).min(slots.saturating_mul(8));
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
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    async fn enter(room: &WaitingRoom) -> PendingSlot {
        room.enter(PEER).expect("a place").slot().await.expect("a slot")
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_gets_the_slot_that_becomes_free() {
        let room = WaitingRoom::new(1, u64::MAX);
        let first = enter(&room).await;
        first.signs().busy();
        let second = tokio::spawn(room.enter(PEER).unwrap().slot());
        let third = tokio::spawn(room.enter(PEER).unwrap().slot());
        tokio::task::yield_now().await;
        drop(first);
        let second = second.await.unwrap().expect("the slot of the first");
        second.signs().busy();
        drop(second);
        assert!(third.await.unwrap().is_some(), "the slot of the second");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_in_vain_is_refused_and_leaves_its_place() {
        let room = WaitingRoom::new(1, u64::MAX);
        let first = enter(&room).await;
        first.signs().busy();
        let waiting: Vec<_> = (0..8).map(|_| room.enter(PEER).unwrap()).collect();
        assert!(room.enter(PEER).is_none(), "eight places per slot");
        for place in waiting {
            assert!(place.slot().await.is_none());
        }
        assert!(room.enter(PEER).is_some());
    }

    #[test]
    fn those_who_wait_leave_descriptors_to_others() {
        let room = WaitingRoom::new(512, 400);
        assert_eq!(room.places.available_permits(), 100);
    }
}
