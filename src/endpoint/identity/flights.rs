//! Makes equal logins wait for one another, so that a thousand clients of one user cause one request.
//!
//! Contract: a login waits only for an equal credential. No number of strangers whose credentials the endpoint checks
//! slowly delays a valid one. Bounded by the logins in progress.

use std::sync::Arc;

use hashbrown::HashMap;
use tokio::sync::{Mutex, MutexGuard};

/// The hash that identifies a credential.
type Key = [u8; 32];

/// The logins in progress, by credential.
#[derive(Debug, Default)]
pub(super) struct Flights {
    table: parking_lot::Mutex<HashMap<Key, Arc<Mutex<()>>>>,
}

/// A login in progress; unregistered when dropped.
#[derive(Debug)]
pub(super) struct Flight<'f> {
    flights: &'f Flights,
    key: Key,
    turn: Arc<Mutex<()>>,
}

impl Flights {
    /// Registers a login with this credential.
    pub(super) fn begin(&self, key: Key) -> Flight<'_> {
        let turn = Arc::clone(self.table.lock().entry(key).or_default());
        Flight { flights: self, key, turn }
    }
}

impl Flight<'_> {
    /// Waits until no other login with the same credential has its turn.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut table = self.flights.table.lock();
        // Released under the lock, so that of two that end at the same time the second sees that it is the last.
        drop(std::mem::take(&mut self.turn));
        if table.get(&self.key).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            table.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn equal_ones_wait_and_others_do_not() {
        let flights = Flights::default();
        let (first, second, other) = (flights.begin([1; 32]), flights.begin([1; 32]), flights.begin([2; 32]));
        let turn = first.turn().now_or_never().unwrap();
        assert!(second.turn().now_or_never().is_none() && other.turn().now_or_never().is_some());
        drop(turn);
        assert!(second.turn().now_or_never().is_some());
        drop((first, other));
        assert_eq!(flights.table.lock().len(), 1);
        drop(second);
        assert!(flights.table.lock().is_empty());
    }
}
