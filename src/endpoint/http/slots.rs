//! The slots of requests to an endpoint, shared between the networks of callers with valid credentials.
//!
//! Contract: a fixed number. A network gets another slot while it has fewer than are free. So one network has at most
//! half of them, two have a third each, and a network that has none waits only if every slot is taken. As for pending
//! connections, a network is the client's, and of those that wait, the network with the
//! fewest slots is served first. Requests of no particular network are counted for none; whoever makes them bounds
//! them. Every operation takes logarithmic time.
//!
//! Why networks and not accounts: only the endpoint knows whose a token is. Why nothing is taken away from a network
//! that has many, as from pending connections: a request that was begun cannot be repeated.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::places::{Network, Number, Places};

/// The network of requests that are counted for none. The last byte of all others is 0.
const NONE: Network = [0, 0, 0, 0, 0, 0, 0, 1];

#[derive(Debug)]
struct Table {
    free: usize,
    /// The number of slots of each network that has any.
    held: HashMap<Network, usize>,
    /// The requests that wait for a slot.
    places: Places<oneshot::Sender<Permit>>,
}

impl Table {
    fn held(&self, network: Network) -> usize {
        self.held.get(&network).copied().unwrap_or(0)
    }

    fn take(&mut self, network: Network) {
        self.free -= 1;
        if network != NONE {
            let held = self.held.entry(network).or_default();
            *held += 1;
            self.places.note_slots(network, *held);
        }
    }

    fn give_back(&mut self, network: Network) {
        self.free += 1;
        let Some(held) = self.held.get_mut(&network) else { return };
        *held -= 1;
        self.places.note_slots(network, *held);
        if *held == 0 {
            self.held.remove(&network);
        }
    }
}

/// A fixed number of slots.
#[derive(Debug)]
pub(super) struct Slots(Mutex<Table>);

/// A slot; free again when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    slots: Arc<Slots>,
    network: Network,
}

/// A request that waits; leaves when dropped.
struct Waiting<'s> {
    slots: &'s Slots,
    network: Network,
    number: Number,
}

impl Slots {
    pub(super) fn new(limit: usize) -> Self {
        Self(Mutex::new(Table { free: limit, held: HashMap::new(), places: Places::new(usize::MAX) }))
    }

    /// Returns whether a slot is free.
    pub(super) fn has_free(&self) -> bool {
        self.0.lock().free > 0
    }

    /// Waits for a slot, which counts for a network if one is named.
    pub(super) async fn acquire(self: &Arc<Self>, network: Option<Network>) -> Option<Permit> {
        let network = network.unwrap_or(NONE);
        let (_waiting, given) = {
            let mut table = self.0.lock();
            let held = table.held(network);
            // If so, nobody waits that might have it: whoever has a network with fewer would have been served.
            if held < table.free {
                table.take(network);
                return Some(self.permit(network));
            }
            let (sender, given) = oneshot::channel();
            let number = table.places.take(network, held, sender)?.number;
            (Waiting { slots: self, network, number }, given)
        };
        given.await.ok()
    }

    fn permit(self: &Arc<Self>, network: Network) -> Permit {
        Permit { slots: Arc::clone(self), network }
    }

    /// Gives free slots to those that wait and may have them.
    fn hand_out(self: &Arc<Self>, mut table: MutexGuard<'_, Table>) {
        let mut given = Vec::new();
        while table.places.fewest_slots().is_some_and(|held| held < table.free)
            && let Some((network, waiting)) = table.places.take_next()
        {
            table.take(network);
            given.push((waiting, self.permit(network)));
        }
        drop(table);
        for (waiting, permit) in given {
            // If it has just given up, the slot is dropped here, and goes to the next one.
            drop(waiting.send(permit));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut table = self.slots.0.lock();
        table.give_back(self.network);
        self.slots.hand_out(table);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Dropped without the lock.
        let left = self.slots.0.lock().places.leave(self.network, self.number);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const fn of(n: u8) -> Network {
        [n, 0, 0, 0, 0, 0, 0, 0]
    }

    fn try_acquire(slots: &Arc<Slots>, network: Option<Network>) -> Option<Permit> {
        slots.acquire(network).now_or_never().flatten()
    }

    fn as_many_as_it_gets(slots: &Arc<Slots>, network: Option<Network>) -> Vec<Permit> {
        std::iter::from_fn(|| try_acquire(slots, network)).collect()
    }

    #[test]
    fn a_network_gets_half_and_leaves_some_to_every_other() {
        for limit in 1..600 {
            let slots = Arc::new(Slots::new(limit));
            let first = as_many_as_it_gets(&slots, Some(of(1)));
            assert_eq!(first.len(), limit.div_ceil(2));
            let second = as_many_as_it_gets(&slots, Some(of(2)));
            assert!(limit < 2 || !second.is_empty(), "{limit}");
            assert!(limit < 4 || try_acquire(&slots, Some(of(3))).is_some(), "{limit}");
            drop((first, second));
            let table = slots.0.lock();
            assert_eq!((table.free, table.held.len()), (limit, 0));
        }
    }

    #[test]
    fn requests_of_no_network_are_counted_for_none() {
        let slots = Arc::new(Slots::new(4));
        let _held = as_many_as_it_gets(&slots, None);
        assert!(!slots.has_free());
        assert!(slots.0.lock().held.is_empty());
    }

    #[test]
    fn the_network_with_the_fewest_slots_is_served_first() {
        let slots = Arc::new(Slots::new(4));
        let mut first = as_many_as_it_gets(&slots, Some(of(1)));
        let second = try_acquire(&slots, Some(of(2))).unwrap();
        let other = try_acquire(&slots, None).unwrap();
        let mut waits = [1, 2, 3].map(|n| Box::pin(slots.acquire(Some(of(n)))));
        assert!(waits.iter_mut().all(|waits| waits.now_or_never().is_none()));
        drop(other);
        let third = waits[2].as_mut().now_or_never().flatten().unwrap();
        first.pop();
        assert!(waits[0].as_mut().now_or_never().is_none(), "it has one, and one is free");
        drop(third);
        assert!(waits[0].as_mut().now_or_never().is_some() || waits[1].as_mut().now_or_never().is_some());
        drop(second);
    }

    #[test]
    fn who_gives_up_takes_no_slot() {
        let slots = Arc::new(Slots::new(1));
        let held = try_acquire(&slots, Some(of(1))).unwrap();
        let mut waits = [1, 2, 3].map(|n| Box::pin(slots.acquire(Some(of(n)))));
        assert!(waits.iter_mut().all(|waits| waits.now_or_never().is_none()));
        let [leaves, served, last] = waits;
        drop(leaves);
        drop(held);
        // It was given the slot, and leaves without having seen that.
        drop(served);
        assert!(last.now_or_never().flatten().is_some());
        assert!(slots.has_free());
    }
}
