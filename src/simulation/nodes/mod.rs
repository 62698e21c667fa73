//! Several nodes in one run: the real brokers and the real tasks of the cluster, and a simulated NATS server.
//!
//! A run is 200 steps that follow from a seed. Events are posted at all nodes; two or more follow one endpoint, which
//! sometimes repeats an event. What one node sends to another may be late. Connections break, stall and come back. The
//! server dies, and closes slow connections. Nodes die, shut down gracefully, and come back without state. Queues are
//! too small and events too long. Then all failures end, the run comes to rest, and each node is judged. The simulation
//! of one node judges what clients receive of a node's order.
//!
//! | part | what it is |
//! |---|---|
//! | `bus` | the server: forwards messages to subscribed nodes, in order per sender but in no global order |
//! | `node` | a node, its link to the endpoint, and a plain count of what it has heard |
//! | `settings` | the size of a run and its limits |
//! | `world` | a run: its parts, and the choice of its steps |
//! | `steps`, `notices` | events are posted, sent, served and delivered; nodes report what they miss |
//! | `connections`, `membership` | connections break, the server dies; nodes join, die and end |
//! | `time` | time passes, and everything comes to rest |
//! | `record` | where each event began, and why it may be missing |
//! | `judge` | the checks: once, in order, byte for byte; each loss has a cause and was reported with its number |

mod bus;
mod connections;
mod judge;
mod membership;
mod node;
mod notices;
mod record;
mod settings;
mod steps;
mod time;
mod world;

mod tests {
    use super::world::World;
    use crate::simulation::seeds::{run, run_wanted};

    #[test]
    fn runs_of_nodes_keep_every_promise() {
        run_wanted::<World>();
    }

    /// Beyond those that run by default. 1802: a loss is seen twice. 3457: a node that is new hears again what was sent
    /// before it subscribed.
    #[test]
    fn seeds_that_failed_once_pass() {
        for seed in [1802, 3457] {
            run::<World>(seed);
        }
    }

    #[test]
    fn a_seed_is_always_the_same_run() {
        for seed in 0..20 {
            assert_eq!(run::<World>(seed), run::<World>(seed), "seed {seed}");
        }
    }
}
