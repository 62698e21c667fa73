//! Slots for unauthenticated connections.
//!
//! Contract: their number is fixed. When all are in use, a newcomer replaces a connection that is idle: one that has
//! sent nothing for a quarter of a second, or whose request has been incomplete for two ([`super::signs`]). The
//! connection to close is chosen among those from the network with the most slots, oldest first; so a crowd of silent
//! sockets costs its own members their slots and locks no other client out. Neither does a crowd that keeps its
//! connections busy with requests: if nobody is idle and a network has more than a quarter of the slots, a newcomer
//! from a network with fewer replaces one connection of the largest such network that is between two requests. A
//! connection whose request is being processed, or whose response is being sent, is never closed for that. If its
//! request has come since it was chosen, it closes after the response, unless its client has shown valid credentials by
//! then. If there is none to close, the newcomer gets no slot and waits for one ([`super::waiting`]); slots that become
//! free are given to those that wait.
//!
//! The search visits every slot, so it frees several idle ones at a time. After it found none it is not repeated
//! immediately, except for a newcomer from a network with fewer slots, which may replace what the other could not. So a
//! crowd's own search in vain does not keep others from replacing its connections.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use super::signs::Signs;
use crate::places::{Network, Number, Places, Taken, network};

/// Time between two searches that find no idle connection.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Entry {
    network: Network,
    signs: Arc<Signs>,
    cut: Arc<Notify>,
}

impl Entry {
    fn new(network: Network) -> Self {
        Self { network, signs: Arc::new(Signs::new()), cut: Arc::new(Notify::new()) }
    }
}

#[derive(Debug)]
struct Table {
    next: u64,
    all: HashMap<u64, Entry>,
    /// The number of slots of each network that has any.
    counts: HashMap<Network, usize>,
    /// The least number of slots that a newcomer's network had when a search found none, and the end of the pause:
    /// until then there is no search for a newcomer whose network has as many.
    pause: Option<(usize, Instant)>,
    /// The newcomers that wait for a slot.
    places: Places<oneshot::Sender<PendingSlot>>,
}

impl Table {
    fn new(places: usize) -> Self {
        Self { next: 0, all: HashMap::new(), counts: HashMap::new(), pause: None, places: Places::new(places) }
    }

    fn insert(&mut self, entry: Entry) -> u64 {
        let id = self.next;
        self.next += 1;
        self.insert_as(id, entry);
        id
    }

    fn insert_as(&mut self, id: u64, entry: Entry) {
        let count = self.counts.entry(entry.network).or_default();
        *count += 1;
        self.places.note_slots(entry.network, *count);
        self.all.insert(id, entry);
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.all.remove(&id)?;
        let count = self.counts.get_mut(&entry.network).expect("a network with a slot is counted");
        *count -= 1;
        self.places.note_slots(entry.network, *count);
        if *count == 0 {
            self.counts.remove(&entry.network);
        }
        Some(entry)
    }

    fn count(&self, network: Network) -> usize {
        self.counts.get(&network).copied().unwrap_or(0)
    }

    /// Takes slots away from up to `slots` connections for a newcomer: from idle ones, or else from a crowd.
    fn make_room(&mut self, newcomer: Network, now: Instant, slots: usize) {
        let own = self.count(newcomer);
        if self.pause.is_some_and(|(least, until)| own >= least && now < until) {
            return;
        }
        let idle = self.all.iter().filter_map(|(id, entry)| {
            Some((std::cmp::Reverse(self.count(entry.network)), entry.signs.idle_since(now)?, *id))
        });
        let mut idle: Vec<_> = idle.collect();
        idle.sort_unstable();
        let mut leaving: Vec<u64> = idle.into_iter().map(|(.., id)| id).collect();
        if leaving.is_empty() {
            leaving = self.free_one_of_a_crowd(own).into_iter().collect();
        }
        if leaving.is_empty() {
            self.pause = Some((own, now + PAUSE));
        }
        for id in leaving.into_iter().take(slots) {
            if let Some(entry) = self.remove(id) {
                entry.cut.notify_one();
            }
        }
    }

    /// Returns the connection that has been between two requests for longest, of the network with the most slots.
    /// Returns `None` if that network has no more than a quarter of the slots, or no more than the newcomer's network,
    /// which has `own`, would have.
    fn free_one_of_a_crowd(&self, own: usize) -> Option<u64> {
        let (largest, count) = self.counts.iter().max_by_key(|(_, count)| **count)?;
        if 4 * count <= self.all.len() || *count <= own + 1 {
            return None;
        }
        let of_it = self.all.iter().filter(|(_, entry)| entry.network == *largest);
        let free = of_it.filter_map(|(id, entry)| Some((entry.signs.free_since()?, *id)));
        free.min().map(|(_, id)| id)
    }
}

/// What a newcomer gets.
#[derive(Debug)]
pub(super) enum Entered {
    Slot(PendingSlot),
    /// The number of its place, and what receives a slot. It receives nothing if another newcomer gets its place.
    Place(Number, oneshot::Receiver<PendingSlot>),
    /// No slot, and no place to wait for one.
    Nothing,
}

/// A bounded set of unauthenticated connections that evicts idle ones to admit new ones, and bounded queues of those
/// that wait.
#[derive(Debug)]
pub struct Pending {
    limit: usize,
    table: Mutex<Table>,
}

impl Pending {
    /// Creates a set of `limit` slots, and `places` to wait for one.
    pub fn new(limit: usize, places: usize) -> Self {
        Self { limit, table: Mutex::new(Table::new(places)) }
    }

    /// Admits a newcomer, evicting idle connections if necessary.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Entered {
        let (network, mut table) = (network(peer), self.table.lock());
        self.make_room(&mut table, network, now);
        if table.all.len() < self.limit {
            // The newcomer takes one of the slots that it has made free.
            let slot = self.slot(&mut table, network);
            self.hand_out(table);
            return Entered::Slot(slot);
        }
        let (slot, given) = oneshot::channel();
        let slots = table.count(network);
        let taken = table.places.take(network, slots, slot);
        drop(table);
        let Some(Taken { number, displaced }) = taken else { return Entered::Nothing };
        // The newcomer whose place it was hears that there is no slot for it.
        drop(displaced);
        Entered::Place(number, given)
    }

    /// Looks for connections that have become idle, for a newcomer that waits.
    pub(super) fn look_for(self: &Arc<Self>, peer: IpAddr, now: Instant) {
        let mut table = self.table.lock();
        self.make_room(&mut table, network(peer), now);
        self.hand_out(table);
    }

    /// Ends the wait of a newcomer.
    pub(super) fn leave(&self, peer: IpAddr, number: Number) {
        // Dropped without the lock.
        let left = self.table.lock().places.leave(network(peer), number);
        drop(left);
    }

    fn make_room(&self, table: &mut Table, newcomer: Network, now: Instant) {
        if table.all.len() >= self.limit {
            table.make_room(newcomer, now, self.limit.div_ceil(16));
        }
    }

    fn slot(self: &Arc<Self>, table: &mut Table, network: Network) -> PendingSlot {
        let entry = Entry::new(network);
        let (signs, cut) = (Arc::clone(&entry.signs), Arc::clone(&entry.cut));
        PendingSlot { pending: Arc::clone(self), id: table.insert(entry), signs, cut }
    }

    /// Gives free slots to newcomers that wait.
    fn hand_out(self: &Arc<Self>, mut table: MutexGuard<'_, Table>) {
        let mut given = Vec::new();
        while table.all.len() < self.limit
            && let Some((network, newcomer)) = table.places.take_next()
        {
            given.push((newcomer, self.slot(&mut table, network)));
        }
        drop(table);
        for (newcomer, slot) in given {
            // If it has just given up, the slot is dropped here, and goes to the next one.
            drop(newcomer.send(slot));
        }
    }
}

/// The slot of a connection; freed when dropped.
#[derive(Debug)]
pub struct PendingSlot {
    pending: Arc<Pending>,
    id: u64,
    signs: Arc<Signs>,
    cut: Arc<Notify>,
}

impl PendingSlot {
    /// Returns the signs to which the code that serves the connection reports.
    pub fn signs(&self) -> Arc<Signs> {
        Arc::clone(&self.signs)
    }

    /// Attributes the connection to `client`, whose network it counts for from now on.
    pub fn belongs_to(&self, client: IpAddr) {
        let mut table = self.pending.table.lock();
        if let Some(entry) = table.remove(self.id) {
            table.insert_as(self.id, Entry { network: network(client), ..entry });
        }
    }

    /// Returns the notification that the slot was given to another connection.
    pub fn cut(&self) -> Arc<Notify> {
        Arc::clone(&self.cut)
    }
}

impl Drop for PendingSlot {
    fn drop(&mut self) {
        self.signs.free_slot();
        let mut table = self.pending.table.lock();
        // Whoever took the slot away has given it to another.
        if table.remove(self.id).is_some() {
            self.pending.hand_out(table);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::transport::signs::{SILENT, SLOW};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn slots(limit: usize) -> Arc<Pending> {
        Arc::new(Pending::new(limit, 0))
    }

    fn admit(pending: &Arc<Pending>, peer: IpAddr, now: Instant) -> Option<PendingSlot> {
        match pending.enter(peer, now) {
            Entered::Slot(slot) => Some(slot),
            Entered::Place(..) | Entered::Nothing => None,
        }
    }

    fn is_cut(slot: &PendingSlot) -> bool {
        slot.cut.notified().now_or_never().is_some()
    }

    #[test]
    fn silent_ones_of_the_largest_crowd_make_room() {
        let pending = slots(4);
        let now = Instant::now();
        let other = admit(&pending, ip("192.0.2.1"), now).unwrap();
        let crowd: Vec<PendingSlot> =
            (1..=3).map(|n| admit(&pending, ip(&format!("198.51.100.{n}")), now).unwrap()).collect();
        crowd[0].signs.busy();
        crowd[1].signs.heard();
        assert!(admit(&pending, ip("203.0.113.1"), now).is_none(), "nobody has had time to speak");
        let later = now + SILENT + PAUSE;
        let newcomer = admit(&pending, ip("203.0.113.1"), later).unwrap();
        assert_eq!(crowd.iter().map(is_cut).collect::<Vec<_>>(), [false, false, true], "the silent one of the crowd");
        assert!(!is_cut(&other));
        newcomer.signs.heard();
        let much_later = now + SLOW + PAUSE;
        let _second = admit(&pending, ip("203.0.113.1"), much_later).unwrap();
        // Two each: the one that has been silent for longer is closed first.
        assert!(is_cut(&other) || is_cut(&crowd[1]));
        assert!(!is_cut(&crowd[0]), "somebody works on its request");
    }

    #[test]
    fn a_crowd_that_has_most_of_the_slots_shuts_out_only_itself() {
        let pending = slots(5);
        let now = Instant::now();
        let other = admit(&pending, ip("192.0.2.1"), now).unwrap();
        let crowd: Vec<PendingSlot> =
            (1..=4).map(|n| admit(&pending, ip(&format!("198.51.100.{n}")), now).unwrap()).collect();
        for slot in crowd.iter().chain([&other]) {
            slot.signs.busy();
        }
        assert!(admit(&pending, ip("203.0.113.1"), now).is_none(), "each of them is being answered");
        for slot in crowd[1..].iter().chain([&other]) {
            slot.signs.answered(false);
        }
        let later = now + PAUSE;
        assert!(admit(&pending, ip("203.0.113.1"), later).is_none(), "each response is still being sent");
        for slot in [&other, &crowd[1], &crowd[2]] {
            slot.signs.written();
            assert!(slot.signs.flushed());
        }
        let much_later = later + PAUSE;
        assert!(admit(&pending, ip("198.51.100.9"), much_later).is_none(), "one more of the crowd");
        let newcomer = admit(&pending, ip("203.0.113.1"), much_later + PAUSE).unwrap();
        let cut: Vec<bool> = crowd.iter().map(is_cut).collect();
        assert!(!cut[0] && cut[1] != cut[2] && !cut[3], "one of those between two requests: {cut:?}");
        assert!(!is_cut(&other));
        newcomer.signs.busy();
    }

    /// Slots whose connections have had an answer and are between two requests.
    fn answered(pending: &Arc<Pending>, peers: &[&str], now: Instant) -> Vec<PendingSlot> {
        let answered = |peer: &&str| {
            let slot = admit(pending, ip(peer), now).unwrap();
            slot.signs.busy();
            slot.signs.answered(false);
            slot.signs.written();
            slot.signs.flushed();
            slot
        };
        peers.iter().map(answered).collect()
    }

    #[test]
    fn a_crowd_that_searches_in_vain_keeps_nobody_else_from_it() {
        let pending = slots(3);
        let now = Instant::now();
        let crowd = answered(&pending, &["198.51.100.1", "198.51.100.2", "198.51.100.3"], now);
        assert!(admit(&pending, ip("198.51.100.9"), now).is_none(), "one more of the crowd");
        assert!(admit(&pending, ip("203.0.113.1"), now).is_some());
        assert_eq!(crowd.iter().filter(|slot| is_cut(slot)).count(), 1);
    }

    #[test]
    fn a_large_crowd_does_not_displace_a_smaller_one() {
        let pending = slots(5);
        let now = Instant::now();
        let small = answered(&pending, &["192.0.2.1", "192.0.2.2"], now);
        let _large = answered(&pending, &["198.51.100.1", "198.51.100.2", "198.51.100.3"], now);
        assert!(admit(&pending, ip("198.51.100.4"), now).is_none());
        assert!(!small.iter().any(is_cut));
    }

    #[test]
    fn two_crowds_that_share_the_slots_shut_nobody_out() {
        let pending = slots(4);
        let now = Instant::now();
        let slots = answered(&pending, &["192.0.2.1", "192.0.2.2", "198.51.100.1", "198.51.100.2"], now);
        assert!(admit(&pending, ip("203.0.113.1"), now).is_some());
        assert_eq!(slots.iter().filter(|slot| is_cut(slot)).count(), 1);
    }

    #[test]
    fn a_place_counts_for_the_client_behind_a_proxy() {
        let pending = slots(3);
        let now = Instant::now();
        let slots: Vec<PendingSlot> = (0..3).map(|_| admit(&pending, ip("10.0.0.1"), now).unwrap()).collect();
        slots[0].belongs_to(ip("192.0.2.1"));
        let _newcomer = admit(&pending, ip("203.0.113.1"), now + SILENT + PAUSE).unwrap();
        assert!(!is_cut(&slots[0]), "the crowd is the proxy's");
    }

    #[test]
    fn places_are_given_back() {
        let pending = slots(1);
        let now = Instant::now();
        let slot = admit(&pending, ip("::1"), now).unwrap();
        slot.signs.busy();
        assert!(admit(&pending, ip("::2"), now + Duration::from_mins(1)).is_none());
        drop(slot);
        assert!(admit(&pending, ip("::2"), now).is_some());
    }
}
