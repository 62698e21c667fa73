//! The simulated fleet of `--demo`, paced and published like the events of any producer.
//!
//! The catalogue and the first machines are published at once; then the fleet works at a steady rate. It waits while
//! the inboxes are full: the events of a demonstration may be late.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::{DemoEvent, Fleet};
use crate::broker::{Broker, PublishError};
use crate::clock;
use crate::metrics::Source;

/// Interval between two batches.
const TICK: Duration = Duration::from_millis(20);

/// Publishes `rate` events per second until `stop` changes.
pub async fn run(mut fleet: Fleet, rate: u64, broker: Arc<Broker>, mut stop: watch::Receiver<bool>) {
    while !fleet.is_set_up() {
        if publish(&broker, &fleet.step()).await.is_err() {
            return;
        }
    }
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut due = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.changed() => return,
        }
        fleet.set_now(clock::now());
        // In units of events times milliseconds, so that no fraction is lost at low rates.
        due += rate * u64::try_from(TICK.as_millis()).expect("a few milliseconds");
        for _ in 0..due / 1000 {
            if publish(&broker, &fleet.step()).await.is_err() {
                return;
            }
        }
        due %= 1000;
    }
}

async fn publish(broker: &Broker, event: &DemoEvent) -> Result<(), PublishError> {
    loop {
        match broker.publish(vec![event.draft().seal(clock::now())], Source::Demo) {
            Ok(_) => return Ok(()),
            Err(PublishError::Full { .. }) => tokio::time::sleep(TICK).await,
            Err(PublishError::Stopped) => return Err(PublishError::Stopped),
        }
    }
}
