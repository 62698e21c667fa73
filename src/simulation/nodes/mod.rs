//! Several nodes in one run: the real brokers and the real tasks of the cluster, and a simulated NATS server.
//!
//! A run is 200 steps that follow from a seed. Events are posted at all nodes; two or more follow one endpoint, which
//! sometimes repeats an event. Connections break, stall and come back. The server dies. Nodes die, shut down
//! gracefully, and come back without state. Queues are too small and events too long. Then all failures end, the run
//! comes to rest, and each node is judged. The simulation of one node judges what clients receive of a node's order.
//!
//! | part | what it is |
//! |---|---|
//! | `bus` | the server: each subscribed node gets a message, in the order of its sender |
//! | `node` | a node, its link to the endpoint, and a plain count of what it has heard |
//! | `world` | the steps, and time |
//! | `judge` | the checks: once, in order, byte for byte; each loss has a cause and was reported with its correct number |

mod bus;
mod judge;
mod node;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use world::World;

/// Steps of a run.
const STEPS: usize = 200;

/// Runs a seed and returns the digest of its steps. A failure names the seed and the last steps.
fn run(seed: u64) -> u64 {
    let mut world = World::new(seed);
    match catch_unwind(AssertUnwindSafe(|| world.run(STEPS))) {
        Ok(()) => world.digest,
        Err(panic) => {
            let steps: Vec<&str> = world.trace.iter().map(String::as_str).collect();
            eprintln!("{}", steps.join("\n"));
            eprintln!("seed {seed} fails; again: HYDRANT_SIM_SEED={seed} cargo test --lib simulation::nodes::");
            resume_unwind(panic);
        }
    }
}

mod tests {
    use super::run;

    #[test]
    fn runs_of_nodes_keep_every_promise() {
        crate::simulation::run_wanted(run);
    }

    #[test]
    fn a_seed_is_always_the_same_run() {
        for seed in 0..20 {
            assert_eq!(run(seed), run(seed), "seed {seed}");
        }
    }
}
