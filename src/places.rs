//! The places of newcomers that wait for a slot, shared fairly between networks.
//!
//! Pending connections wait in them (`transport::pending`), and requests to an endpoint. Behind a balancer that
//! speaks the PROXY protocol all new connections wait as the balancer's network: nothing has been read from them.
//!
//! Contract: pure. At most a fixed number of places. When all are taken, a newcomer whose network has at least two
//! places fewer than another one takes the place of the last newcomer of the network with the most. So a network cannot
//! keep others from waiting, however many newcomers it has. The next one to get a slot is the one that has waited
//! longest in the network with the fewest slots; of several such networks, in the one whose first newcomer has waited
//! longest. Every operation takes logarithmic time, except for leaving from the middle of a long queue.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use hashbrown::HashMap;

/// A network, as slots and places are shared. The last byte is 0.
pub type Network = [u8; 8];

/// Returns the network of an address, for sharing what is scarce fairly: /24 of IPv4, /56 of IPv6.
pub fn network(peer: IpAddr) -> Network {
    let mut network = [0; 8];
    match peer.to_canonical() {
        IpAddr::V4(v4) => {
            // No IPv6 network begins with these bytes.
            network[..3].copy_from_slice(&[0xff, 0xff, 4]);
            network[3..6].copy_from_slice(&v4.octets()[..3]);
        }
        IpAddr::V6(v6) => network[..7].copy_from_slice(&v6.octets()[..7]),
    }
    network
}

/// The number of a newcomer, in the order of arrival.
pub type Number = u64;

/// The newcomers of one network.
#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<(Number, T)>,
    /// The number of slots that the network has.
    slots: usize,
}

/// Bounded queues of newcomers, one of each network.
#[derive(Debug)]
pub struct Places<T> {
    limit: usize,
    taken: usize,
    next: Number,
    queues: HashMap<Network, Queue<T>>,
    /// The networks by the number of their places.
    by_size: BTreeSet<(usize, Network)>,
    /// The networks by the number of their slots, and the number of their first newcomer.
    by_need: BTreeSet<(usize, Number, Network)>,
}

/// A newcomer that has a place.
#[derive(Debug)]
pub struct Taken<T> {
    /// Its number.
    pub number: Number,
    /// The newcomer whose place it was.
    pub displaced: Option<T>,
}

impl<T> Places<T> {
    /// Creates this many places.
    pub fn new(limit: usize) -> Self {
        Self { limit, taken: 0, next: 0, queues: HashMap::new(), by_size: BTreeSet::new(), by_need: BTreeSet::new() }
    }

    /// Gives a place to a newcomer of a network that has so many slots. Returns `None` if it gets none.
    pub fn take(&mut self, network: Network, slots: usize, newcomer: T) -> Option<Taken<T>> {
        let displaced = if self.taken < self.limit { None } else { Some(self.displace(network)?) };
        let number = self.next;
        self.next += 1;
        self.taken += 1;
        self.queues.entry(network).or_insert_with(|| Queue { waiting: VecDeque::new(), slots });
        self.change(network, |queue| queue.waiting.push_back((number, newcomer)));
        Some(Taken { number, displaced })
    }

    /// Removes the last newcomer of the network with the most places, for one of a network with fewer.
    fn displace(&mut self, newcomer: Network) -> Option<T> {
        let own = self.queues.get(&newcomer).map_or(0, |queue| queue.waiting.len());
        let (most, network) = *self.by_size.last()?;
        if most < own + 2 {
            return None;
        }
        self.taken -= 1;
        self.change(network, |queue| queue.waiting.pop_back())?.map(|(_, newcomer)| newcomer)
    }

    /// Removes a newcomer that no longer waits, if it still has its place.
    pub fn leave(&mut self, network: Network, number: Number) -> Option<T> {
        let queue = self.queues.get(&network)?;
        let at = queue.waiting.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.taken -= 1;
        self.change(network, |queue| queue.waiting.remove(at))?.map(|(_, newcomer)| newcomer)
    }

    /// Returns how many slots the network has whose newcomer gets the next one.
    pub fn fewest_slots(&self) -> Option<usize> {
        self.by_need.first().map(|(slots, ..)| *slots)
    }

    /// Removes the newcomer that gets the next slot.
    pub fn take_next(&mut self) -> Option<(Network, T)> {
        let (.., network) = *self.by_need.first()?;
        self.taken -= 1;
        let (_, newcomer) = self.change(network, |queue| queue.waiting.pop_front())??;
        Some((network, newcomer))
    }

    /// Notes that a network now has so many slots.
    pub fn note_slots(&mut self, network: Network, slots: usize) {
        self.change(network, |queue| queue.slots = slots);
    }

    /// Changes a queue, if there is one, and where it stands among the others. Removes it if it is then empty.
    fn change<R>(&mut self, network: Network, change: impl FnOnce(&mut Queue<T>) -> R) -> Option<R> {
        let queue = self.queues.get_mut(&network)?;
        if let Some((first, _)) = queue.waiting.front() {
            self.by_size.remove(&(queue.waiting.len(), network));
            self.by_need.remove(&(queue.slots, *first, network));
        }
        let result = change(queue);
        match queue.waiting.front() {
            Some((first, _)) => {
                self.by_size.insert((queue.waiting.len(), network));
                self.by_need.insert((queue.slots, *first, network));
            }
            None => drop(self.queues.remove(&network)),
        }
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn of(n: u8) -> Network {
        [n; 8]
    }

    fn all(places: &mut Places<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| places.take_next().map(|(_, newcomer)| newcomer)).collect()
    }

    #[test]
    fn a_network_keeps_no_other_from_waiting() {
        let mut places = Places::new(4);
        for newcomer in ["a1", "a2", "a3", "a4"] {
            assert!(places.take(of(1), 0, newcomer).unwrap().displaced.is_none());
        }
        assert!(places.take(of(1), 0, "a5").is_none(), "its own have come first");
        assert_eq!(places.take(of(2), 0, "b1").unwrap().displaced, Some("a4"));
        assert_eq!(places.take(of(2), 0, "b2").unwrap().displaced, Some("a3"));
        assert!(places.take(of(2), 0, "b3").is_none(), "both have two");
        assert!(places.take(of(1), 0, "a6").is_none());
        assert_eq!(places.take(of(3), 0, "c1").unwrap().displaced, Some("b2"), "of two with as many, either");
        assert_eq!(places.taken, 4);
    }

    #[test]
    fn the_network_with_the_fewest_slots_is_next_and_in_it_who_waits_longest() {
        let mut places = Places::new(10);
        for (network, slots, newcomer) in [(1, 2, "a1"), (1, 2, "a2"), (2, 2, "b1"), (3, 0, "c1"), (3, 0, "c2")] {
            places.take(of(network), slots, newcomer);
        }
        places.note_slots(of(3), 3);
        assert_eq!(places.take_next(), Some((of(1), "a1")));
        places.note_slots(of(1), 3);
        assert_eq!(places.take_next(), Some((of(2), "b1")));
        assert_eq!(all(&mut places), ["a2", "c1", "c2"]);
        assert_eq!((places.taken, places.queues.len(), places.by_size.len()), (0, 0, 0));
    }

    #[test]
    fn who_leaves_is_not_next() {
        let mut places = Places::new(10);
        let numbers: Vec<Number> =
            ["a1", "a2", "a3"].map(|newcomer| places.take(of(1), 0, newcomer).unwrap().number).into();
        assert_eq!(places.leave(of(1), numbers[1]), Some("a2"));
        assert_eq!((places.leave(of(1), numbers[1]), places.leave(of(2), 0)), (None, None));
        assert_eq!(all(&mut places), ["a1", "a3"]);
    }

    #[test]
    fn a_network_is_what_one_customer_has() {
        let network = |peer: &str| network(peer.parse().unwrap());
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.99"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_eq!(network("2001:db8:1:200::1"), network("2001:db8:1:2ff::1"));
        assert_ne!(network("2001:db8:1:200::1"), network("2001:db8:1:300::1"));
    }

    proptest! {
        /// The counts and both orders follow every operation, and nobody is lost or comes twice.
        #[test]
        fn everybody_is_somewhere(steps in prop::collection::vec((0..4_u8, 0..4_u8, 0..3_usize), 0..200)) {
            let (mut places, mut known) = (Places::new(6), Vec::new());
            for (what, n, slots) in steps {
                match what {
                    0 | 1 => {
                        let number = places.next;
                        let Some(taken) = places.take(of(n), slots, number) else { continue };
                        prop_assert!(taken.displaced.is_none() || known.len() == 6);
                        known.retain(|(_, number)| Some(*number) != taken.displaced);
                        known.push((of(n), taken.number));
                    }
                    2 => {
                        let next = places.take_next();
                        prop_assert_eq!(next.is_none(), known.is_empty());
                        known.retain(|one| Some(*one) != next);
                    }
                    _ => {
                        places.note_slots(of(n), slots);
                        if let Some((network, number)) = known.pop() {
                            prop_assert_eq!(places.leave(network, number), Some(number));
                        }
                    }
                }
                let waiting: usize = places.queues.values().map(|queue| queue.waiting.len()).sum();
                prop_assert_eq!((places.taken, waiting), (known.len(), known.len()));
                prop_assert_eq!(places.by_size.iter().map(|(size, _)| size).sum::<usize>(), waiting);
                prop_assert_eq!(places.by_need.len(), places.queues.len());
            }
        }
    }
}
