//! Newcomers that wait for a slot ([`super::pending`]).
//!
//! Contract: a newcomer for which there is no slot waits for one for up to [`WAIT`], beside a bounded number of others
//! ([`crate::places`]). Meanwhile nothing is read from it or sent to it, and it costs a file descriptor and a small
//! task. The listener does not wait for it, so a newcomer that may replace another connection still does that at once,
//! and keeps that slot whoever else waits.
//! Slots and places are shared fairly between networks: a slot that becomes free goes to the network with the fewest,
//! and there to the newcomer that has waited longest. When all places are taken, a newcomer of a network with fewer
//! takes one of the network with the most, whose last newcomer is refused.
//!
//! Why: a fleet that reconnects at once takes all slots within milliseconds, although each is needed only briefly. If
//! all others were refused, their backoff and not the capacity of the server would determine when they are back.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::pending::{Entered, Pending, PendingSlot};
use crate::metrics::{Metrics, Wait};
use crate::places::Number;

/// Maximum time for which a newcomer waits.
const WAIT: Duration = Duration::from_secs(1);

/// Interval at which it looks for a connection that has become idle, because no event announces that.
const INTERVAL: Duration = Duration::from_millis(100);

/// The slots, and the places of those that wait for one.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    pending: Arc<Pending>,
    metrics: Arc<Metrics>,
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
    metrics: Arc<Metrics>,
    peer: IpAddr,
    number: Number,
    given: oneshot::Receiver<PendingSlot>,
}

impl WaitingRoom {
    /// Creates a room for `slots` connections that have a slot, and `places` that wait for one.
    pub(super) fn new(slots: usize, places: usize, metrics: Arc<Metrics>) -> Self {
        Self { pending: Arc::new(Pending::new(slots, places)), metrics }
    }

    /// Returns a slot or a place for a newcomer, or `None` if neither is free.
    pub(super) fn enter(&self, peer: IpAddr) -> Option<Admission> {
        match self.pending.enter(peer, Instant::now()) {
            Entered::Slot(slot) => Some(Admission::Slot(slot)),
            Entered::Place(number, given) => {
                self.metrics.newcomers.waiting.inc();
                let (pending, metrics) = (Arc::clone(&self.pending), Arc::clone(&self.metrics));
                Some(Admission::Place(Waiting { pending, metrics, peer, number, given }))
            }
            Entered::Nothing => {
                self.metrics.newcomers.ended(Wait::Full);
                None
            }
        }
    }
}

impl Admission {
    /// Returns the slot as soon as there is one, or `None` after [`WAIT`], or when another newcomer gets the place.
    pub(super) async fn slot(self) -> Option<PendingSlot> {
        let mut waiting = match self {
            Self::Slot(slot) => return Some(slot),
            Self::Place(waiting) => waiting,
        };
        let (wait, slot) = match timeout(WAIT, waiting.slot()).await {
            Ok(Some(slot)) => (Wait::Served, Some(slot)),
            Ok(None) => (Wait::Displaced, None),
            Err(_) => (Wait::Late, None),
        };
        waiting.metrics.newcomers.ended(wait);
        slot
    }
}

impl Waiting {
    async fn slot(&mut self) -> Option<PendingSlot> {
        loop {
            tokio::select! {
                slot = &mut self.given => return slot.ok(),
                () = sleep(INTERVAL) => self.pending.look_for(self.peer, Instant::now()),
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.metrics.newcomers.waiting.dec();
        self.pending.leave(self.peer, self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn room(slots: usize, places: usize) -> WaitingRoom {
        WaitingRoom::new(slots, places, Arc::new(Metrics::new()))
    }

    async fn enter(room: &WaitingRoom) -> PendingSlot {
        room.enter(PEER).expect("a place").slot().await.expect("a slot")
    }

    /// A newcomer that has begun to wait.
    async fn waits(room: &WaitingRoom, peer: IpAddr) -> JoinHandle<Option<PendingSlot>> {
        let waiting = tokio::spawn(room.enter(peer).expect("a place").slot());
        tokio::task::yield_now().await;
        waiting
    }

    /// How many wait, and how many waits ended in each way.
    fn counted(room: &WaitingRoom) -> (i64, [u64; 4]) {
        let newcomers = &room.metrics.newcomers;
        (newcomers.waiting.get(), Wait::ALL.map(|wait| newcomers.count(wait)))
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_longest_gets_the_slot_that_becomes_free_at_once() {
        let room = room(1, 8);
        let first = enter(&room).await;
        first.signs().busy();
        let (second, third) = (waits(&room, PEER).await, waits(&room, PEER).await);
        assert_eq!(counted(&room).0, 2);
        let begun = tokio::time::Instant::now();
        drop(first);
        assert!(matches!(room.enter(PEER), Some(Admission::Place(_))), "and no newcomer is faster");
        let second = second.await.unwrap().expect("the slot of the first");
        second.signs().busy();
        assert!(!third.is_finished());
        drop(second);
        assert!(third.await.unwrap().is_some(), "the slot of the second");
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody has looked by itself");
        assert_eq!(counted(&room), (0, [2, 0, 0, 0]));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_in_vain_is_refused_and_leaves_its_place() {
        let room = room(1, 8);
        let first = enter(&room).await;
        first.signs().busy();
        let waiting: Vec<_> = (0..8).map(|_| room.enter(PEER).unwrap()).collect();
        assert!(room.enter(PEER).is_none(), "all eight places are taken");
        for place in waiting {
            assert!(place.slot().await.is_none());
        }
        assert!(room.enter(PEER).is_some());
        assert_eq!(counted(&room), (0, [0, 8, 0, 1]));
    }

    /// Neither the places nor the slots that become free are all for the network with the most newcomers.
    #[tokio::test(start_paused = true)]
    async fn a_crowd_that_waits_delays_no_other_network() {
        let room = room(2, 4);
        let slots = [enter(&room).await, enter(&room).await];
        slots.iter().for_each(|slot| slot.signs().busy());
        let mut crowd = Vec::new();
        for _ in 0..4 {
            crowd.push(waits(&room, PEER).await);
        }
        let other = waits(&room, OTHER).await;
        assert!(crowd.pop().unwrap().await.unwrap().is_none(), "the last of the crowd is refused at once");
        let [first, _second] = slots;
        drop(first);
        assert!(other.await.unwrap().is_some(), "a network without a slot is next");
        assert_eq!(counted(&room), (3, [1, 0, 1, 0]));
    }
}
