//! Tracks how far each other node has got, so that every loss between two nodes is detected.
//!
//! Every node numbers the events it forwards, including those it loses, and repeats the next number in heartbeats. A
//! jump in the numbers is a loss, wherever it happened: in the sender's full queue, on a broken connection, in a NATS
//! server that disconnected a slow consumer, or in our own buffers. A node that falls silent without a goodbye may have
//! accepted events that it never forwarded.
//!
//! Anyone who may publish can make up numbers. Since the events of a node arrive in order, an event from a skipped
//! range shows that the jump was not real, and counting resumes there. A live node does so within two seconds, by its
//! next heartbeat; a range from which nothing arrives for [`SETTLED`] was a loss. A jump of more than [`WINDOW`] is not
//! counted as a number of lost events, and a node that falls back by more than that is tracked from scratch.
//!
//! The numbers before the first one that we receive form such a range as well, although nothing was lost. The node may
//! have sent them before we subscribed, and it sends them again if its connection breaks. If later events have arrived
//! by then, the order of the node's events is broken. The order is promised unless a loss is reported, so one is
//! reported.
//!
//! Nor does a number that was counted show that the node's own event has arrived: somebody may use the next number
//! before the node does. The latest events are therefore remembered by their digests. An event with a number below the
//! expected one is a repetition (it was sent again after a connection broke, or arrived over two) only if the same
//! event came with that number; any other is new.
//!
//! A node that was removed may only have been cut off. When it is back, it sends again what no server has confirmed. So
//! the last [`GONE`] nodes that were removed are remembered with their digests, as long as there is room for these.
//!
//! Contract: pure; the caller passes the time of the monotonic clock. Bounded: at most [`MOST`] nodes, of which the
//! longest silent one is evicted, and [`CHUNKS`] of digests per node, which hold more events than a node ever sends
//! again. If there are so many nodes that they exceed [`ALL_CHUNKS`] together, each has its share. Beyond that an event
//! is delivered twice rather than never.

use std::cmp::Ordering;
use std::ops::Range;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::recalled::Recalled;

/// Maximum number of tracked nodes.
const MOST: usize = 1024;

/// Silence after which a node is gone; heartbeats come every two seconds.
pub(super) const SILENCE: Duration = Duration::from_secs(10);

/// The largest loss that is counted, in events.
pub const WINDOW: u64 = 1 << 20;

/// Time after which a jump counts as real if nothing from the skipped range has arrived.
const SETTLED: Duration = Duration::from_mins(1);

/// Maximum number of chunks of remembered digests per node: 131,072 events. A node sends those again that no server has
/// confirmed, at most 4 MiB and one batch of 65,536 events.
const CHUNKS: usize = 512;

/// Maximum number of such chunks of all nodes together, as long as each has at least [`FEWEST_CHUNKS`].
const ALL_CHUNKS: usize = 4096;

/// Number of chunks that every node may have.
const FEWEST_CHUNKS: usize = 4;

/// Maximum number of removed nodes that are remembered.
const GONE: usize = 64;

/// Maximum number of skipped ranges remembered per node; further ones are merged into the last.
const STRETCHES: usize = 8;

/// The id of one run of one node.
pub type NodeId = u64;

/// A range of skipped numbers.
#[derive(Debug)]
struct Stretch {
    numbers: Range<u64>,
    since: Instant,
    /// Whether it was reported as a loss.
    is_told: bool,
}

#[derive(Debug)]
struct Peer {
    next: u64,
    heard: Instant,
    /// When its silence began: later than it was heard if this node could not receive anything meanwhile.
    silent: Instant,
    /// Ranges skipped recently.
    skipped: SmallVec<[Stretch; 1]>,
    recalled: Recalled,
}

impl Peer {
    /// Creates a node whose first number is `next`, which may be made up, and the node's own ones below it.
    fn new(next: u64, heard: Instant) -> Self {
        let before = Stretch { numbers: 0..next, since: heard, is_told: false };
        let skipped = Some(before).filter(|before| !before.numbers.is_empty()).into_iter().collect();
        Self { next, heard, silent: heard, skipped, recalled: Recalled::default() }
    }

    fn hear(&mut self, now: Instant) {
        (self.heard, self.silent) = (now, now);
    }

    fn jump(&mut self, to: u64, now: Instant) {
        let from = match self.skipped.len() {
            STRETCHES.. => self.skipped.pop().map_or(self.next, |last| last.numbers.start),
            _ => self.next,
        };
        self.skipped.push(Stretch { numbers: from..to, since: now, is_told: true });
    }

    /// Resumes counting at the number if it was skipped. Returns whether events after it were accepted although no loss
    /// before them was reported.
    fn fall_back(&mut self, number: u64) -> Option<bool> {
        let is_here = |stretch: &Stretch| stretch.numbers.contains(&number);
        let at = self.skipped.iter().position(is_here)?;
        self.skipped.truncate(at + 1);
        let was_told = std::mem::replace(&mut self.skipped[at].is_told, true);
        self.skipped[at].numbers.end = number;
        self.skipped.retain(|stretch| !stretch.numbers.is_empty());
        Some(!was_told && self.recalled.chunks() > 0)
    }

    /// Forgets jumps that nothing has disproved within [`SETTLED`].
    fn settle(&mut self, now: Instant) {
        self.skipped.retain(|stretch| now.saturating_duration_since(stretch.since) <= SETTLED);
    }
}

/// How the number of a message relates to the expected one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceCheck {
    /// The expected number, or a lower one with which no event or another one has arrived.
    Next,
    /// The next one that arrived; some events are missing before it.
    After(Loss),
    /// An event that has arrived before, or a heartbeat with a number below the expected one.
    Repeated,
}

/// How events of a node are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// This many events did not arrive.
    Events(u64),
    /// An unknown number of events: the node's numbers moved by more than [`WINDOW`], or back before the
    /// first one that was heard.
    Unknown,
    /// The node fell silent.
    Silent,
}

/// A loss of events of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// The node whose events are missing.
    pub node: NodeId,
    /// How they are missing.
    pub missing: Missing,
    /// When the node was last heard before the loss.
    pub since: Instant,
}

/// The sequence state of every other node, from which losses are detected. At most [`MOST`] nodes.
#[derive(Debug, Default)]
pub struct Peers {
    peers: HashMap<NodeId, Peer>,
    /// Nodes that were removed, in case they are only cut off; at most [`GONE`].
    gone: HashMap<NodeId, Peer>,
}

impl Peers {
    /// Records an event with this number. `digest` must differ between different events.
    pub fn event(&mut self, node: NodeId, number: u64, digest: u64, now: Instant) -> SequenceCheck {
        let check = self.heard(node, number, now);
        let share = self.share();
        let peer = self.peers.get_mut(&node).expect("heard");
        if check != SequenceCheck::Repeated {
            peer.next = number + 1;
        }
        let before = peer.recalled.chunks();
        let was_here = peer.recalled.record(number, digest, share);
        if peer.recalled.chunks() > before {
            self.trim();
        }
        if was_here {
            // Also after a jump: what is missing before it was reported when it came for the first time, or had come.
            return SequenceCheck::Repeated;
        }
        if check == SequenceCheck::Repeated { SequenceCheck::Next } else { check }
    }

    /// Returns the number of chunks that each node may have now.
    fn share(&self) -> usize {
        (ALL_CHUNKS / self.peers.len().max(1)).clamp(FEWEST_CHUNKS, CHUNKS)
    }

    /// Forgets digests of the nodes that have more than their share, as far as all have too many together.
    fn trim(&mut self) {
        let (share, most) = (self.share(), ALL_CHUNKS.max(FEWEST_CHUNKS * self.peers.len()));
        let chunks = |peers: &HashMap<NodeId, Peer>| peers.values().map(|peer| peer.recalled.chunks()).sum::<usize>();
        let mut all = chunks(&self.peers) + chunks(&self.gone);
        while all > most
            && let Some(peer) = take_oldest(&mut self.gone)
        {
            all -= peer.recalled.chunks();
        }
        while all > most
            && let Some(peer) = self.peers.values_mut().max_by_key(|peer| peer.recalled.chunks())
        {
            let before = peer.recalled.chunks();
            peer.recalled.shrink(peer.next, share);
            all -= before - peer.recalled.chunks();
        }
    }

    /// Records a heartbeat: the next event will have the number `next`.
    pub fn heartbeat(&mut self, node: NodeId, next: u64, now: Instant) -> Option<Loss> {
        match self.heard(node, next, now) {
            SequenceCheck::After(loss) => Some(loss),
            SequenceCheck::Next | SequenceCheck::Repeated => None,
        }
    }

    /// Records a greeting from a node, whose number does not count yet.
    pub fn greeting(&mut self, node: NodeId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.hear(now);
        }
    }

    /// Compares a number with the expected one and makes it the expected one unless it has arrived before.
    fn heard(&mut self, node: NodeId, number: u64, now: Instant) -> SequenceCheck {
        if !self.peers.contains_key(&node) {
            self.greet(node, number, now);
        }
        let peer = self.peers.get_mut(&node).expect("greeted");
        peer.settle(now);
        let (expected, since) = (peer.next, peer.heard);
        peer.hear(now);
        let check = match number.cmp(&expected) {
            Ordering::Equal => SequenceCheck::Next,
            Ordering::Greater => {
                peer.jump(number, now);
                let lost = number - expected;
                let missing = if lost > WINDOW { Missing::Unknown } else { Missing::Events(lost) };
                SequenceCheck::After(Loss { node, missing, since })
            }
            Ordering::Less => match peer.fall_back(number) {
                Some(false) => SequenceCheck::Next,
                Some(true) => SequenceCheck::After(Loss { node, missing: Missing::Unknown, since }),
                None if expected - number > WINDOW => {
                    *peer = Peer::new(number, now);
                    SequenceCheck::After(Loss { node, missing: Missing::Unknown, since })
                }
                None => return SequenceCheck::Repeated,
            },
        };
        peer.next = number;
        check
    }

    /// Returns the number of a node's next event.
    pub fn next(&self, node: NodeId) -> Option<u64> {
        self.peers.get(&node).map(|peer| peer.next)
    }

    /// Starts to track a node; what it forwarded before is no loss, unless it was tracked before.
    fn greet(&mut self, node: NodeId, number: u64, now: Instant) {
        if self.peers.len() >= MOST {
            take_oldest(&mut self.peers);
        }
        let peer = self.gone.remove(&node).unwrap_or_else(|| Peer::new(number, now));
        self.peers.insert(node, peer);
    }

    /// Remembers a removed node: if it was only cut off, it sends some of its events again when it is back.
    fn remember(&mut self, node: NodeId, peer: Peer) {
        if self.gone.len() >= GONE {
            take_oldest(&mut self.gone);
        }
        self.gone.insert(node, peer);
    }

    /// Records that a node ended properly after the events below `next`. Those that did not arrive are lost.
    pub fn goodbye(&mut self, node: NodeId, next: u64, now: Instant) -> Option<Loss> {
        let loss = self.heartbeat(node, next, now);
        if let Some(peer) = self.peers.remove(&node) {
            self.remember(node, peer);
        }
        loss
    }

    /// Removes the nodes that fell silent and returns their losses. A node that `has_more` to be recorded, because its
    /// messages wait for those of others, is not silent.
    pub fn drain_silent(&mut self, now: Instant, has_more: impl Fn(NodeId) -> bool) -> Vec<Loss> {
        let is_silent = |node, peer: &Peer| now.saturating_duration_since(peer.silent) > SILENCE && !has_more(node);
        let mut silent: Vec<(NodeId, Peer)> = self.peers.extract_if(|node, peer| is_silent(*node, peer)).collect();
        silent.sort_unstable_by_key(|(node, _)| *node);
        let loss = |(node, peer): (NodeId, Peer)| {
            let loss = Loss { node, missing: Missing::Silent, since: peer.heard };
            self.remember(node, peer);
            loss
        };
        silent.into_iter().map(loss).collect()
    }

    /// Forgives silence up to now, because this node could not receive anything.
    pub fn excuse(&mut self, now: Instant) {
        self.peers.values_mut().for_each(|peer| peer.silent = now);
    }

    /// The same for the last part of the time only: this node got none, and is yet to receive what came.
    pub fn excuse_for(&mut self, part: Duration, now: Instant) {
        self.peers.values_mut().for_each(|peer| peer.silent = now.min(peer.silent + part));
    }

    /// Returns the tracked nodes.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.peers.keys().copied().collect()
    }

    /// Returns the number of tracked nodes.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Returns whether no node is tracked.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }
}

/// Removes the node that was not heard for the longest time.
fn take_oldest(peers: &mut HashMap<NodeId, Peer>) -> Option<Peer> {
    let oldest = *peers.iter().min_by_key(|(_, peer)| peer.heard)?.0;
    peers.remove(&oldest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::recalled::CHUNK;
    use super::*;
    use crate::clock::simulated;

    /// The number of a node's events that are remembered.
    const REMEMBERED: u64 = (CHUNKS * CHUNK) as u64;

    fn at(seconds: i64) -> Instant {
        simulated::at(seconds).instant
    }

    /// Records an event whose digest is its number.
    fn event(peers: &mut Peers, node: NodeId, number: u64, now: Instant) -> SequenceCheck {
        peers.event(node, number, number, now)
    }

    fn loss(missing: Missing, since: i64) -> Loss {
        Loss { node: 7, missing, since: at(since) }
    }

    #[test]
    fn a_jump_is_a_loss_and_a_repetition_none() {
        let mut peers = Peers::default();
        assert_eq!(event(&mut peers, 7, 100, at(1)), SequenceCheck::Next, "the first one heard");
        assert_eq!(event(&mut peers, 8, 0, at(1)), SequenceCheck::Next);
        assert_eq!(event(&mut peers, 7, 101, at(2)), SequenceCheck::Next);
        assert_eq!(event(&mut peers, 7, 101, at(3)), SequenceCheck::Repeated);
        assert_eq!(event(&mut peers, 7, 105, at(4)), SequenceCheck::After(loss(Missing::Events(3), 3)));
        assert_eq!(event(&mut peers, 7, 106, at(4)), SequenceCheck::Next);
        assert_eq!(event(&mut peers, 7, 101, at(4)), SequenceCheck::Repeated, "before what was jumped over");
        assert_eq!(event(&mut peers, 8, 1, at(4)), SequenceCheck::Next);
    }

    #[test]
    fn a_repetition_is_one_even_after_a_jump() {
        let mut peers = Peers::default();
        event(&mut peers, 7, 30, at(1));
        assert_eq!(event(&mut peers, 7, 41, at(1)), SequenceCheck::After(loss(Missing::Events(10), 1)));
        assert_eq!(event(&mut peers, 7, 42, at(1)), SequenceCheck::Next);
        assert_eq!(event(&mut peers, 7, 35, at(2)), SequenceCheck::Next, "not lost after all");
        for number in [41, 42] {
            assert_eq!(event(&mut peers, 7, number, at(2)), SequenceCheck::Repeated, "{number}");
        }
        assert_eq!(event(&mut peers, 7, 43, at(2)), SequenceCheck::Next);
    }

    #[test]
    fn a_heartbeat_shows_the_loss_of_the_last_ones() {
        let mut peers = Peers::default();
        assert_eq!(peers.heartbeat(7, 0, at(1)), None);
        assert_eq!(peers.heartbeat(7, 2, at(2)), Some(loss(Missing::Events(2), 1)));
        assert_eq!(peers.heartbeat(7, 2, at(3)), None);
        assert_eq!(event(&mut peers, 7, 2, at(3)), SequenceCheck::Next);
        assert_eq!(peers.goodbye(7, 3, at(4)), None);
        assert_eq!(peers.len(), 0);
    }

    #[test]
    fn who_falls_silent_is_told_once_unless_we_were_deaf() {
        let mut peers = Peers::default();
        peers.heartbeat(7, 0, at(1));
        peers.heartbeat(8, 0, at(9));
        assert_eq!(peers.drain_silent(at(11), |_| false), []);
        assert_eq!(peers.drain_silent(at(12), |node| node == 7), [], "its messages wait");
        assert_eq!(peers.drain_silent(at(12), |_| false), [loss(Missing::Silent, 1)]);
        peers.excuse(at(100));
        assert_eq!(peers.drain_silent(at(105), |_| false), []);
        assert_eq!(peers.drain_silent(at(111), |_| false).len(), 1);
        assert_eq!(peers.len(), 0);
    }

    #[test]
    fn what_is_lost_while_we_were_deaf_is_lost_since_the_node_was_heard() {
        let mut peers = Peers::default();
        peers.heartbeat(7, 0, at(1));
        peers.excuse_for(Duration::from_secs(12), at(13));
        assert_eq!(peers.drain_silent(at(22), |_| false), []);
        assert_eq!(peers.heartbeat(7, 3, at(22)), Some(loss(Missing::Events(3), 1)));
        peers.excuse(at(30));
        assert_eq!(peers.drain_silent(at(41), |_| false), [loss(Missing::Silent, 22)]);
    }

    /// It was only cut off, or said goodbye before it knew what had arrived.
    #[test]
    fn what_a_node_that_was_gone_sends_again_comes_once() {
        for says_goodbye in [true, false] {
            let mut peers = Peers::default();
            (0..10).for_each(|number| assert_eq!(event(&mut peers, 7, number, at(1)), SequenceCheck::Next));
            if says_goodbye {
                assert_eq!(peers.goodbye(7, 10, at(1)), None);
            }
            assert_eq!(peers.drain_silent(at(12), |_| false).len(), usize::from(!says_goodbye));
            assert_eq!((peers.len(), peers.next(7)), (0, None));
            assert_eq!(peers.heartbeat(7, 5, at(20)), None);
            (5..10).for_each(|number| assert_eq!(event(&mut peers, 7, number, at(20)), SequenceCheck::Repeated));
            assert_eq!(event(&mut peers, 7, 10, at(20)), SequenceCheck::Next);
            assert_eq!(peers.drain_silent(at(31), |_| false).len(), 1);
        }
    }

    #[test]
    fn nodes_that_are_gone_take_no_room_from_others() {
        let mut peers = Peers::default();
        for node in 0..100 {
            (0..100).for_each(|number| _ = peers.event(node, number * CHUNK as u64, 1, at(1)));
            peers.goodbye(node, 0, at(1));
            assert!(peers.gone.len() <= GONE);
        }
        let far = |number: u64| number * CHUNK as u64;
        for node in 200..208 {
            (0..CHUNKS as u64).for_each(|number| _ = peers.event(node, far(number), 1, at(2)));
        }
        assert!(peers.peers.values().all(|peer| peer.recalled.chunks() == CHUNKS));
        assert_eq!(peers.gone.values().map(|peer| peer.recalled.chunks()).sum::<usize>(), 0);
    }

    #[test]
    fn a_number_that_somebody_made_up_silences_nobody() {
        for made_up in [58 + 1_000_000_000_000, 58 + WINDOW, 58 + 10_000, 60] {
            let mut peers = Peers::default();
            event(&mut peers, 7, 56, at(1));
            event(&mut peers, 7, 57, at(1));
            let SequenceCheck::After(loss) = peers.event(7, made_up, !made_up, at(2)) else { panic!("{made_up}") };
            let counted = made_up - 58 <= WINDOW;
            assert_eq!(loss.missing, if counted { Missing::Events(made_up - 58) } else { Missing::Unknown });
            assert!((58..60).all(|number| event(&mut peers, 7, number, at(3)) == SequenceCheck::Next), "{made_up}");
            assert_eq!(event(&mut peers, 7, 59, at(3)), SequenceCheck::Repeated);
            assert_eq!(peers.next(7), Some(60));
        }
    }

    #[test]
    fn a_first_number_that_somebody_made_up_silences_nobody() {
        for made_up in [1 << 60, 58 + WINDOW, 60] {
            let mut peers = Peers::default();
            assert_eq!(peers.event(7, made_up, !made_up, at(1)), SequenceCheck::Next, "{made_up}");
            assert_eq!(peers.heartbeat(7, 58, at(2)), Some(loss(Missing::Unknown, 1)), "{made_up}");
            assert!((58..70).all(|number| event(&mut peers, 7, number, at(3)) == SequenceCheck::Next), "{made_up}");
            assert_eq!(event(&mut peers, 7, 69, at(3)), SequenceCheck::Repeated, "{made_up}");
        }
    }

    /// The node wrote 84 before we subscribed, and sends everything from 84 again because its connection broke.
    #[test]
    fn what_comes_again_from_before_the_first_is_told_if_it_is_late() {
        for heartbeat in [false, true] {
            let mut peers = Peers::default();
            assert_eq!(peers.heartbeat(7, 86, at(1)), None);
            assert_eq!(event(&mut peers, 7, 86, at(1)), SequenceCheck::Next);
            let told = if heartbeat {
                peers.heartbeat(7, 84, at(2)).map(SequenceCheck::After)
            } else {
                Some(event(&mut peers, 7, 84, at(2)))
            };
            assert_eq!(told, Some(SequenceCheck::After(loss(Missing::Unknown, 1))), "86 has come before");
            let again: Vec<SequenceCheck> = (84..88).map(|number| event(&mut peers, 7, number, at(2))).collect();
            let first = if heartbeat { SequenceCheck::Next } else { SequenceCheck::Repeated };
            assert_eq!(again, [first, SequenceCheck::Next, SequenceCheck::Repeated, SequenceCheck::Next]);
        }
    }

    #[test]
    fn what_comes_again_from_before_the_first_is_in_order_if_nothing_has_come() {
        let mut peers = Peers::default();
        assert_eq!(peers.heartbeat(7, 86, at(1)), None);
        assert!((84..88).all(|number| event(&mut peers, 7, number, at(2)) == SequenceCheck::Next));
    }

    /// Found by fuzzing.
    #[test]
    fn a_made_up_start_over_silences_nobody() {
        let mut peers = Peers::default();
        event(&mut peers, 7, 0, at(1));
        for made_up in [1 << 60, 1 << 59, 1 << 60, 1 << 59, 7_455] {
            peers.event(7, made_up, u64::MAX, at(2));
        }
        assert_ne!(event(&mut peers, 7, 1, at(3)), SequenceCheck::Repeated);
        assert_eq!(event(&mut peers, 7, 2, at(3)), SequenceCheck::Next);
    }

    #[test]
    fn a_run_of_numbers_that_somebody_made_up_silences_nobody() {
        let mut peers = Peers::default();
        event(&mut peers, 7, 99, at(1));
        let made_up = 200..200 + 2 * REMEMBERED;
        for number in made_up.clone() {
            assert_ne!(peers.event(7, number, !number, at(2)), SequenceCheck::Repeated);
        }
        assert_eq!(peers.heartbeat(7, 100, at(3)), None, "the node itself is heard");
        for number in 100..made_up.end + 10 {
            assert_eq!(event(&mut peers, 7, number, at(3)), SequenceCheck::Next, "{number}");
        }
    }

    /// Somebody counts on in the node's name before the node does, without a jump.
    #[test]
    fn the_next_numbers_that_somebody_used_first_silence_nobody() {
        for count in [1, 1000, 2 * REMEMBERED] {
            let mut peers = Peers::default();
            (0..10).for_each(|number| assert_eq!(event(&mut peers, 7, number, at(1)), SequenceCheck::Next));
            for number in 10..10 + count {
                assert_eq!(peers.event(7, number, !number, at(2)), SequenceCheck::Next);
            }
            for number in 10..count + 30 {
                assert_eq!(event(&mut peers, 7, number, at(3)), SequenceCheck::Next, "{number} of {count}");
                assert_eq!(event(&mut peers, 7, number, at(3)), SequenceCheck::Repeated, "{number} of {count}");
            }
        }
    }

    /// A minute later a jump counts as real, and what the node sends from the skipped range is its own all the same.
    #[test]
    fn a_number_made_up_long_ago_silences_nobody() {
        let mut peers = Peers::default();
        (0..10).for_each(|number| assert_eq!(event(&mut peers, 7, number, at(1)), SequenceCheck::Next));
        peers.event(7, 1000, !1000, at(1));
        peers.event(7, 1001, !1001, at(100));
        (10..1100)
            .for_each(|number| assert_eq!(event(&mut peers, 7, number, at(101)), SequenceCheck::Next, "{number}"));
    }

    /// Whatever a connection breaks: all that a node may send again is known.
    #[test]
    fn as_much_as_a_node_sends_again_is_repeated_without_a_duplicate() {
        let mut peers = Peers::default();
        let sent = 1000 + REMEMBERED;
        (0..sent).for_each(|number| assert_eq!(event(&mut peers, 7, number, at(1)), SequenceCheck::Next));
        let again = sent + CHUNK as u64 - REMEMBERED..sent;
        again.for_each(|number| assert_eq!(event(&mut peers, 7, number, at(2)), SequenceCheck::Repeated, "{number}"));
        assert_eq!(event(&mut peers, 7, sent, at(2)), SequenceCheck::Next);
    }

    #[test]
    fn what_is_written_again_after_a_loss_comes_once() {
        let mut peers = Peers::default();
        (0..10).for_each(|number| assert_eq!(event(&mut peers, 7, number, at(1)), SequenceCheck::Next));
        assert_eq!(event(&mut peers, 7, 20, at(1)), SequenceCheck::After(loss(Missing::Events(10), 1)));
        (21..30).for_each(|number| assert_eq!(event(&mut peers, 7, number, at(1)), SequenceCheck::Next));
        let again: Vec<SequenceCheck> = (5..40).map(|number| event(&mut peers, 7, number, at(2))).collect();
        let expected = |number| match number {
            10..20 | 30.. => SequenceCheck::Next,
            _ => SequenceCheck::Repeated,
        };
        assert_eq!(again, (5..40).map(expected).collect::<Vec<_>>());
    }

    #[test]
    fn a_loss_that_nothing_speaks_against_is_forgotten() {
        let mut peers = Peers::default();
        event(&mut peers, 7, 0, at(1));
        event(&mut peers, 7, 9, at(1));
        event(&mut peers, 7, 10, at(2 + SETTLED.as_secs().cast_signed()));
        assert!(peers.peers[&7].skipped.is_empty());
    }

    #[test]
    fn a_heartbeat_puts_the_count_right_too() {
        let mut peers = Peers::default();
        event(&mut peers, 7, 0, at(1));
        peers.heartbeat(7, 1_000_000_000_000, at(1));
        assert_eq!(peers.heartbeat(7, 1, at(1)), None);
        assert_eq!(event(&mut peers, 7, 1, at(1)), SequenceCheck::Next);
    }

    #[test]
    fn there_is_a_bound() {
        let mut peers = Peers::default();
        for node in 0..2 * MOST as u64 {
            peers.heartbeat(node, 0, at(i64::try_from(node).unwrap()));
        }
        assert_eq!(peers.len(), MOST);
        assert!(!peers.peers.contains_key(&0));
        let far = |number: u64| number * CHUNK as u64;
        for number in 0..100 {
            peers.event(MOST as u64, far(number), 1, at(3000));
        }
        assert_eq!(peers.peers[&(MOST as u64)].recalled.chunks(), FEWEST_CHUNKS);
    }

    /// Each one's share was larger when it came.
    #[test]
    fn there_is_a_bound_on_the_digests_of_nodes_that_come_one_after_another() {
        let mut peers = Peers::default();
        for node in 0..MOST as u64 {
            for number in 0..CHUNKS as u64 {
                peers.event(node, number * CHUNK as u64, 1, at(1));
            }
            let chunks: usize = peers.peers.values().map(|peer| peer.recalled.chunks()).sum();
            assert!(chunks <= ALL_CHUNKS.max(FEWEST_CHUNKS * peers.len()), "{chunks} of {} nodes", peers.len());
        }
    }

    proptest! {
        /// A node counts on, and made-up numbers arrive now and then: every event of the node is accepted, each once.
        #[test]
        fn all_that_a_node_sends_is_taken(
            steps in prop::collection::vec(prop::option::weighted(0.1, any::<u64>()), 1..200)
        ) {
            let mut peers = Peers::default();
            let mut next = 5_u64;
            event(&mut peers, 7, 4, at(1));
            for step in steps {
                if let Some(made_up) = step {
                    // Not the next number: then the event of the other one would be the latest with that number.
                    let made_up = (next + 1).saturating_add(made_up >> 2).min((1 << 62) - 1);
                    peers.event(7, made_up, !made_up, at(1));
                } else {
                    prop_assert_ne!(event(&mut peers, 7, next, at(1)), SequenceCheck::Repeated);
                    prop_assert_eq!(event(&mut peers, 7, next, at(1)), SequenceCheck::Repeated);
                    next += 1;
                }
            }
        }

        /// Somebody else sends with any numbers near those of a node, and often the next: every event of the node is
        /// accepted, and again only if the other has used its number since.
        #[test]
        fn a_node_is_heard_whatever_others_say(steps in prop::collection::vec(prop::option::of(-9..99_i64), 1..200)) {
            let (mut peers, mut next) = (Peers::default(), 1000_u64);
            let mut latest = std::collections::HashMap::new();
            for step in steps {
                if let Some(ahead) = step {
                    let made_up = next.saturating_add_signed(ahead.max(0) / 9 + ahead.min(0));
                    peers.event(7, made_up, !made_up, at(1));
                    latest.insert(made_up, !made_up);
                } else {
                    prop_assert_ne!(event(&mut peers, 7, next, at(1)), SequenceCheck::Repeated);
                    latest.insert(next, next);
                    next += 1;
                }
                for number in next - 5..next {
                    if latest.get(&number) == Some(&number) {
                        prop_assert_eq!(event(&mut peers, 7, number, at(1)), SequenceCheck::Repeated);
                    }
                }
            }
        }

        /// Some events are lost, and now and then the last ones are sent again: no event is accepted twice, and every
        /// one that arrives is accepted.
        #[test]
        fn what_comes_again_is_taken_once(steps in prop::collection::vec((0..4_u64, 0..20_u64), 1..100)) {
            let (mut peers, mut next, mut taken) = (Peers::default(), 1, std::collections::HashSet::from([0]));
            event(&mut peers, 7, 0, at(1));
            for (lost, again) in steps {
                next += lost;
                for number in next.saturating_sub(again).max(1)..=next {
                    let new = event(&mut peers, 7, number, at(1)) != SequenceCheck::Repeated;
                    prop_assert_eq!(new, taken.insert(number), "{}", number);
                }
                next += 1;
            }
        }
    }
}
