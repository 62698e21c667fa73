//! What a fake finds wrong in a task or thread of its own, where a panic only ends the connection: kept, and told when
//! the fake is dropped.

#![allow(dead_code, unreachable_pub, reason = "every test binary takes its own part of it")]

use std::sync::Arc;

use parking_lot::Mutex;

/// Held by the test's end of a fake. Its drop fails the test if anything was wrong.
#[derive(Default)]
pub struct Faults(Witness);

/// What tasks tell it to.
#[derive(Clone, Default)]
pub struct Witness(Arc<Mutex<Vec<String>>>);

impl Faults {
    pub fn witness(&self) -> Witness {
        self.0.clone()
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        let faults = self.0.0.lock();
        assert!(faults.is_empty() || std::thread::panicking(), "a fake was not treated as it should be: {faults:?}");
    }
}

impl Witness {
    /// Keeps `what` as a fault unless it holds. Returns whether it does.
    pub fn check(&self, holds: bool, what: &str) -> bool {
        if !holds {
            self.0.lock().push(what.to_owned());
        }
        holds
    }
}
