//! Slots for unauthenticated connections.
//!
//! Contract: their number is fixed. When all are in use, a newcomer replaces a connection that is idle: one that has
//! sent nothing for [`SILENT`], or whose request has been incomplete for [`SLOW`]. The connection to close is chosen
//! among those from the network with the most slots, oldest first; so a crowd of silent sockets costs its own members
//! their slots and locks no other client out. Neither does a crowd that keeps its connections busy with requests: if
//! nobody is idle and a network has more than a quarter of the slots, a newcomer from a network with fewer replaces one
//! connection of the largest such network that is between two requests. A connection whose request is being processed,
//! or whose response is being sent, is never closed for that. If there is none to close, the newcomer gets no slot
//! ([`super::waiting`]).
//!
//! The search visits every slot, so it frees several idle ones at a time. After it found none it is not repeated
//! immediately, except for a newcomer from a network with fewer slots, which may replace what the other could not. So a
//! crowd's own search in vain does not keep others from replacing its connections.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::reading::Reading;

/// After this long without a byte a connection may lose its slot.
const SILENT: Duration = Duration::from_millis(250);

/// After this long without a complete request a connection may lose its slot.
const SLOW: Duration = Duration::from_secs(2);

/// Time between two searches that find no idle connection.
const PAUSE: Duration = Duration::from_millis(100);

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Nothing has been received yet.
    Silent,
    /// Something has been received, but not yet a complete request.
    Waiting,
    /// A request is being processed.
    Busy,
}

/// The state of a connection, reported by the code that serves it.
#[derive(Debug)]
pub struct Signs {
    begun: Instant,
    phase: AtomicU8,
    /// When the phase began, in milliseconds after `begun`.
    since: AtomicU64,
    /// The number of requests received.
    requests: AtomicU64,
    /// Whether the client may still send data that will not be read.
    unread: AtomicBool,
    answer: AtomicU8,
    /// The body of the current request, if it has one.
    body: Mutex<Option<Reading>>,
}

/// The state of the response to the last request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// All of it was passed to the kernel, or there was no request yet.
    Done,
    /// The request is being processed, or its response written.
    Open,
    /// Its last byte is in hyper's buffer.
    Written,
    /// The connection no longer speaks HTTP.
    Upgraded,
}

impl Signs {
    /// Creates the signs of a connection that begins now.
    pub fn new() -> Self {
        let phase = AtomicU8::new(Phase::Silent as u8);
        let answer = AtomicU8::new(Stage::Done as u8);
        let (since, requests) = (AtomicU64::new(0), AtomicU64::new(0));
        let (unread, body) = (AtomicBool::new(false), Mutex::new(None));
        Self { begun: Instant::now(), phase, since, requests, unread, answer, body }
    }

    /// Notes that data has been received.
    pub fn heard(&self) {
        if self.phase.load(Ordering::Relaxed) == Phase::Silent as u8 {
            self.enter(Phase::Waiting);
        }
    }

    /// Notes that bytes of a response have been sent: its body may take far longer than its head, and the connection is
    /// not idle while it makes progress.
    pub fn wrote(&self) {
        if self.phase.load(Ordering::Relaxed) == Phase::Waiting as u8 {
            self.enter(Phase::Waiting);
        }
    }

    /// Notes that a request has been received.
    pub fn busy(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.answer.store(Stage::Open as u8, Ordering::Relaxed);
        self.enter(Phase::Busy);
    }

    /// Returns the number of requests received so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Sets the reading state of the current request's body.
    pub(super) fn reads(&self, body: Option<Reading>) {
        *self.body.lock() = body;
    }

    /// Returns whether more of a body is expected.
    pub(super) fn awaits_body(&self) -> bool {
        self.body.lock().as_ref().is_some_and(Reading::waits)
    }

    /// Notes that the last byte of a response is in hyper's buffer.
    pub(super) fn written(&self) {
        self.answer.store(Stage::Written as u8, Ordering::Relaxed);
    }

    /// Returns whether the last byte of a response is in hyper's buffer.
    pub(super) fn is_written(&self) -> bool {
        self.answer.load(Ordering::Relaxed) == Stage::Written as u8
    }

    /// Notes that hyper's buffer is empty. Returns whether that was the end of a response.
    pub(super) fn flushed(&self) -> bool {
        let is_end = self.answer.load(Ordering::Relaxed) == Stage::Written as u8;
        if is_end {
            self.answer.store(Stage::Done as u8, Ordering::Relaxed);
        }
        is_end
    }

    /// Notes that the protocol has changed.
    pub(super) fn upgraded(&self) {
        self.answer.store(Stage::Upgraded as u8, Ordering::Relaxed);
    }

    /// Returns whether a request is being answered.
    pub(super) fn is_answering(&self) -> bool {
        let stage = self.answer.load(Ordering::Relaxed);
        stage == Stage::Open as u8 || stage == Stage::Written as u8
    }

    /// Returns whether no request is being answered: what hyper writes then answers a request that it could not parse.
    pub(super) fn is_between_requests(&self) -> bool {
        self.answer.load(Ordering::Relaxed) == Stage::Done as u8
    }

    /// Notes that the client may still send data that will not be read.
    pub(super) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Release);
    }

    /// Notes that the request was answered; `unread` says that part of its body is still to come, so the connection
    /// ends.
    pub fn answered(&self, unread: bool) {
        self.unread.store(unread, Ordering::Release);
        self.enter(Phase::Waiting);
    }

    /// Returns whether the client may still send data that will not be read.
    pub fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Acquire)
    }

    fn enter(&self, phase: Phase) {
        self.since.store(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn since(&self) -> Instant {
        self.begun + Duration::from_millis(self.since.load(Ordering::Relaxed))
    }

    /// Returns the time since which the connection has been between two requests, if it is.
    fn free_since(&self) -> Option<Instant> {
        let is_waiting = self.phase.load(Ordering::Relaxed) == Phase::Waiting as u8;
        // The phase changes when the response is known, before it is sent.
        (self.requests() > 0 && is_waiting && self.is_between_requests()).then(|| self.since())
    }

    /// Returns since when the connection has been idle, if that is long enough to lose its slot.
    fn idle_since(&self, now: Instant) -> Option<Instant> {
        let since = self.since();
        let most = match self.phase.load(Ordering::Relaxed) {
            phase if phase == Phase::Silent as u8 => SILENT,
            phase if phase == Phase::Waiting as u8 => SLOW,
            _ => return None,
        };
        (now.saturating_duration_since(since) >= most).then_some(since)
    }
}

impl Default for Signs {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the network of an address for the fair distribution of slots: /24 of IPv4, /56 of IPv6.
fn network(peer: IpAddr) -> [u8; 8] {
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

#[derive(Debug)]
struct Entry {
    network: [u8; 8],
    signs: Arc<Signs>,
    cut: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    all: HashMap<u64, Entry>,
    /// The number of slots of each network that has any.
    counts: HashMap<[u8; 8], usize>,
    /// The least number of slots that a newcomer's network had when a search found none, and the end of the pause:
    /// until then there is no search for a newcomer whose network has as many.
    pause: Option<(usize, Instant)>,
}

impl Table {
    fn insert(&mut self, entry: Entry) -> u64 {
        let id = self.next;
        self.next += 1;
        self.insert_as(id, entry);
        id
    }

    fn insert_as(&mut self, id: u64, entry: Entry) {
        *self.counts.entry(entry.network).or_default() += 1;
        self.all.insert(id, entry);
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.all.remove(&id)?;
        let count = self.counts.get_mut(&entry.network).expect("a network with a slot is counted");
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&entry.network);
        }
        Some(entry)
    }

    fn count(&self, network: [u8; 8]) -> usize {
        self.counts.get(&network).copied().unwrap_or(0)
    }

    /// Takes slots away from up to `slots` connections for a newcomer: from idle ones, or else from a crowd.
    fn make_room(&mut self, newcomer: [u8; 8], now: Instant, slots: usize) {
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

/// A bounded set of unauthenticated connections that evicts idle ones to admit new ones.
#[derive(Debug)]
pub struct Pending {
    limit: usize,
    table: Mutex<Table>,
    freed: Notify,
}

impl Pending {
    /// Creates a set of `limit` slots.
    pub fn new(limit: usize) -> Self {
        Self { limit, table: Mutex::default(), freed: Notify::new() }
    }

    /// Completes when a slot may have become free; of several that wait, only the first is woken.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Returns a slot for a connection, evicting idle ones if necessary; `None` if there is none to evict.
    pub fn admit(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Option<PendingSlot> {
        let mut table = self.table.lock();
        if table.all.len() >= self.limit {
            table.make_room(network(peer), now, self.limit.div_ceil(16));
            // The newcomer takes one of the slots that it has made free.
            (table.all.len() + 1..self.limit).for_each(|_| self.freed.notify_one());
        }
        if table.all.len() >= self.limit {
            return None;
        }
        let (signs, cut) = (Arc::new(Signs::new()), Arc::new(Notify::new()));
        let id = table.insert(Entry { network: network(peer), signs: Arc::clone(&signs), cut: Arc::clone(&cut) });
        Some(PendingSlot { pending: Arc::clone(self), id, signs, cut })
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
        // Whoever took the slot away has told of it.
        if self.pending.table.lock().remove(self.id).is_some() {
            self.pending.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_cut(slot: &PendingSlot) -> bool {
        slot.cut.notified().now_or_never().is_some()
    }

    #[test]
    fn silent_ones_of_the_largest_crowd_make_room() {
        let pending = Arc::new(Pending::new(4));
        let now = Instant::now();
        let other = pending.admit(ip("192.0.2.1"), now).unwrap();
        let crowd: Vec<PendingSlot> =
            (1..=3).map(|n| pending.admit(ip(&format!("198.51.100.{n}")), now).unwrap()).collect();
        crowd[0].signs.busy();
        crowd[1].signs.heard();
        assert!(pending.admit(ip("203.0.113.1"), now).is_none(), "nobody has had time to speak");
        let later = now + SILENT + PAUSE;
        let newcomer = pending.admit(ip("203.0.113.1"), later).unwrap();
        assert_eq!(crowd.iter().map(is_cut).collect::<Vec<_>>(), [false, false, true], "the silent one of the crowd");
        assert!(!is_cut(&other));
        newcomer.signs.heard();
        let much_later = now + SLOW + PAUSE;
        let _second = pending.admit(ip("203.0.113.1"), much_later).unwrap();
        // Two each: the one that has been silent for longer is closed first.
        assert!(is_cut(&other) || is_cut(&crowd[1]));
        assert!(!is_cut(&crowd[0]), "somebody works on its request");
    }

    #[test]
    fn a_crowd_that_has_most_of_the_slots_shuts_out_only_itself() {
        let pending = Arc::new(Pending::new(5));
        let now = Instant::now();
        let other = pending.admit(ip("192.0.2.1"), now).unwrap();
        let crowd: Vec<PendingSlot> =
            (1..=4).map(|n| pending.admit(ip(&format!("198.51.100.{n}")), now).unwrap()).collect();
        for slot in crowd.iter().chain([&other]) {
            slot.signs.busy();
        }
        assert!(pending.admit(ip("203.0.113.1"), now).is_none(), "each of them is being answered");
        for slot in crowd[1..].iter().chain([&other]) {
            slot.signs.answered(false);
        }
        let later = now + PAUSE;
        assert!(pending.admit(ip("203.0.113.1"), later).is_none(), "each response is still being sent");
        for slot in [&other, &crowd[1], &crowd[2]] {
            slot.signs.written();
            assert!(slot.signs.flushed());
        }
        let much_later = later + PAUSE;
        assert!(pending.admit(ip("198.51.100.9"), much_later).is_none(), "one more of the crowd");
        let newcomer = pending.admit(ip("203.0.113.1"), much_later + PAUSE).unwrap();
        let cut: Vec<bool> = crowd.iter().map(is_cut).collect();
        assert!(!cut[0] && cut[1] != cut[2] && !cut[3], "one of those between two requests: {cut:?}");
        assert!(!is_cut(&other));
        newcomer.signs.busy();
    }

    /// Slots whose connections have had an answer and are between two requests.
    fn answered(pending: &Arc<Pending>, peers: &[&str], now: Instant) -> Vec<PendingSlot> {
        let answered = |peer: &&str| {
            let slot = pending.admit(ip(peer), now).unwrap();
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
        let pending = Arc::new(Pending::new(3));
        let now = Instant::now();
        let crowd = answered(&pending, &["198.51.100.1", "198.51.100.2", "198.51.100.3"], now);
        assert!(pending.admit(ip("198.51.100.9"), now).is_none(), "one more of the crowd");
        assert!(pending.admit(ip("203.0.113.1"), now).is_some());
        assert_eq!(crowd.iter().filter(|slot| is_cut(slot)).count(), 1);
    }

    #[test]
    fn a_large_crowd_does_not_displace_a_smaller_one() {
        let pending = Arc::new(Pending::new(5));
        let now = Instant::now();
        let small = answered(&pending, &["192.0.2.1", "192.0.2.2"], now);
        let _large = answered(&pending, &["198.51.100.1", "198.51.100.2", "198.51.100.3"], now);
        assert!(pending.admit(ip("198.51.100.4"), now).is_none());
        assert!(!small.iter().any(is_cut));
    }

    #[test]
    fn two_crowds_that_share_the_slots_shut_nobody_out() {
        let pending = Arc::new(Pending::new(4));
        let now = Instant::now();
        let slots = answered(&pending, &["192.0.2.1", "192.0.2.2", "198.51.100.1", "198.51.100.2"], now);
        assert!(pending.admit(ip("203.0.113.1"), now).is_some());
        assert_eq!(slots.iter().filter(|slot| is_cut(slot)).count(), 1);
    }

    #[test]
    fn a_place_counts_for_the_client_behind_a_proxy() {
        let pending = Arc::new(Pending::new(3));
        let now = Instant::now();
        let slots: Vec<PendingSlot> = (0..3).map(|_| pending.admit(ip("10.0.0.1"), now).unwrap()).collect();
        slots[0].belongs_to(ip("192.0.2.1"));
        let _newcomer = pending.admit(ip("203.0.113.1"), now + SILENT + PAUSE).unwrap();
        assert!(!is_cut(&slots[0]), "the crowd is the proxy's");
    }

    #[test]
    fn places_are_given_back() {
        let pending = Arc::new(Pending::new(1));
        let now = Instant::now();
        let slot = pending.admit(ip("::1"), now).unwrap();
        slot.signs.busy();
        assert!(pending.admit(ip("::2"), now + Duration::from_mins(1)).is_none());
        drop(slot);
        assert!(pending.admit(ip("::2"), now).is_some());
    }

    #[test]
    fn a_network_is_what_one_customer_has() {
        assert_eq!(network(ip("192.0.2.1")), network(ip("::ffff:192.0.2.99")));
        assert_ne!(network(ip("192.0.2.1")), network(ip("192.0.3.1")));
        assert_eq!(network(ip("2001:db8:1:200::1")), network(ip("2001:db8:1:2ff::1")));
        assert_ne!(network(ip("2001:db8:1:200::1")), network(ip("2001:db8:1:300::1")));
    }
}
