//! Runs seeds of a simulation and reports those that fail. Both simulations use it.
//!
//! Contract: environment variables say which seeds run, as the header of `simulation` describes. A seed that fails is
//! printed with its last steps and with the command that repeats it. The other seeds still run, up to a number of
//! failures, because one mistake often breaks many seeds and the shortest run is the easiest to read.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use super::trace::Trace;

/// The number of seeds that a test runs by default, within half a minute.
const SEEDS: u64 = 1000;

/// The number of failures after which no further seed is run by default.
const FAILURES: u64 = 8;

/// A run that follows from a seed.
pub(super) trait Simulation {
    /// The module of its tests, for the command that repeats a run.
    const TESTS: &str;

    fn new(seed: u64) -> Self;

    /// Executes all steps and checks the result.
    ///
    /// # Panics
    ///
    /// Panics if the result is wrong.
    fn run(&mut self);

    fn trace(&self) -> &Trace;
}

/// Runs a seed and returns the digest of everything that happened. A failure prints the last steps and the seed.
pub(super) fn run<S: Simulation>(seed: u64) -> u64 {
    let mut simulation = S::new(seed);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| simulation.run())) {
        simulation.trace().print();
        eprintln!("seed {seed} fails; again: HYDRANT_SIM_SEED={seed} cargo test --lib {}", S::TESTS);
        resume_unwind(panic);
    }
    simulation.trace().digest
}

/// Runs the requested seed, or all seeds, even after one has failed. Prints how long all took.
pub(super) fn run_wanted<S: Simulation>() {
    if let Some(seed) = variable("HYDRANT_SIM_SEED") {
        run::<S>(seed);
        return;
    }
    let seeds = variable("HYDRANT_SIM_SEEDS").unwrap_or(SEEDS);
    let most = usize::try_from(variable("HYDRANT_SIM_FAILURES").unwrap_or(FAILURES)).unwrap();
    let begun = Instant::now();
    let failed: Vec<u64> = (0..seeds).filter(|seed| catch_unwind(|| run::<S>(*seed)).is_err()).take(most).collect();
    eprintln!("{seeds} seeds in {:?}", begun.elapsed());
    assert!(failed.is_empty(), "these seeds fail: {failed:?}");
}

/// Returns the number in an environment variable, if it is set.
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}
