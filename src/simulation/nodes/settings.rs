//! The settings of a run of several nodes, drawn from its seed.
//!
//! Contract: in one run of five nothing fails and every limit is large, so that the strict checks of
//! [`super::judge`] apply. In the others each limit is often so small that a run reaches it.

use crate::broker::inbox::InboxLimits;
use crate::simulation::random::Random;

/// The settings of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) nodes: usize,
    /// The number of nodes that follow the endpoint from the beginning.
    pub(super) followers: usize,
    pub(super) inbox: InboxLimits,
    /// The number of batches that may wait to be sent, and of messages that may wait to be sequenced.
    pub(super) exports: usize,
    pub(super) pending: usize,
    /// The number of messages that may wait in the server for a node.
    pub(super) outbound: usize,
    /// Whether clients want only some types, so that the other events may wait.
    pub(super) is_picky: bool,
    /// Whether nothing fails.
    pub(super) is_fair: bool,
}

impl Settings {
    pub(super) fn random(random: &mut Random) -> Self {
        let is_fair = random.percent(20);
        let often = |random: &mut Random, small: [usize; 2], large: usize| {
            if is_fair || random.percent(60) { large } else { random.between(small[0], small[1]) }
        };
        let nodes = random.between(2, 4);
        Self {
            nodes,
            followers: random.between(2, nodes.min(3)),
            inbox: InboxLimits { events: often(random, [20, 100], 10_000), bytes: 64 << 20 },
            exports: often(random, [3, 20], 10_000),
            pending: often(random, [20, 200], 10_000),
            outbound: often(random, [100, 400], 10_000),
            is_picky: random.percent(30),
            is_fair,
        }
    }
}
