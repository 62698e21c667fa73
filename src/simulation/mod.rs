//! Deterministic simulation: the real core in one thread, with made-up time, sockets and chance.
//!
//! A run is 150 steps that follow from a seed. It has the real sequencer, inboxes, history, index, rights,
//! outboxes, replays and budgets, and the real event loops of one to three shards ([`crate::fanout::driver`]), whose
//! sockets are replaced at the one seam that there is, [`crate::fanout::socket::Socket`]. Clocks stand still until the
//! run moves them ([`crate::clock::simulated`]). A shard runs a turn only when its thread would have woken up, so a
//! wake-up that is forgotten is seen.
//!
//! | part | what it is |
//! |---|---|
//! | `world` | a run: its parts, its steps and their order |
//! | `steps` | clients come, command, flood, stall, part; rights change; the node dies |
//! | `end` | everything comes to rest, is judged and leaves |
//! | `node` | a broker with its shards, and what has to hold after every turn |
//! | `client`, `wire` | a client, frame by frame, and what the kernel is to a shard |
//! | `rights` | the file of users, at times unreadable, and a naive reading of it |
//! | `facts` | events and registrations, matched as plainly as possible |
//! | `judge` | what a client must have received: once, in order, allowed, each loss told by its true number |
//! | `seeds`, `trace` | which seeds run, and what a failure prints; for both simulations |
//! | `nodes` | another simulation: several nodes that share their events over NATS |
//!
//! Bounds are checked after every turn. At the end each client has received every event or a notice of its loss, and
//! once all clients have left, nothing is held for them.
//!
//! `HYDRANT_SIM_SEEDS=100000` runs that many seeds, `HYDRANT_SIM_SEED=7` only this one, with the last steps printed.
//! `scripts/simulation-bugs` puts known bugs into a copy of the sources and says which seed finds each.

mod client;
mod end;
mod facts;
mod judge;
mod node;
#[cfg(feature = "nats")]
mod nodes;
mod random;
mod rights;
mod seeds;
mod steps;
mod trace;
mod wire;
mod world;

mod tests {
    use super::seeds::{run, run_wanted};
    use super::world::World;

    #[test]
    fn runs_keep_every_promise() {
        run_wanted::<World>();
    }

    #[test]
    fn a_seed_is_always_the_same_run() {
        for seed in 0..20 {
            assert_eq!(run::<World>(seed), run::<World>(seed), "seed {seed}");
        }
    }
}
