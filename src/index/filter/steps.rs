//! Counts steps of searches in tests, which assert that nothing is searched one by one.
//!
//! Contract: exists in tests only. Counts by thread, because tests run at the same time.

use std::cell::Cell;

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Counts a step.
pub(super) fn take() {
    STEPS.set(STEPS.get() + 1);
}

/// Returns the number of steps on this thread so far.
pub(super) fn taken() -> u64 {
    STEPS.get()
}
