//! Taking changes of the data directory while running.
//!
//! Contract: looks at the files four times a second and reloads when one of them has changed, so that a removed user is
//! gone within a second. A file with a mistake is told once and what was there stays in force.
//!
//! Why not inotify: it does not work on network file systems, wants a thread of its own, and says less than three calls
//! of `stat` do.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::authority::Authority;
use super::store::file::Signature;

const INTERVAL: Duration = Duration::from_millis(250);

impl Authority {
    /// Starts the task that reloads on change. It ends by itself when the authority is gone, or when it is aborted.
    pub fn watch(self: &Arc<Self>) -> JoinHandle<()> {
        tokio::spawn(follow(Arc::downgrade(self)))
    }

    fn signature(&self) -> Signature {
        self.directory.signature(self.options.issuer.as_ref().map(|issuer| issuer.jwks.as_path()))
    }
}

async fn follow(authority: Weak<Authority>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = Signature::default();
    loop {
        ticks.tick().await;
        let Some(authority) = authority.upgrade() else { return };
        let last = seen.clone();
        // A panic or a runtime that ends leaves nothing to follow.
        let Ok(now) = tokio::task::spawn_blocking(move || take(&authority, last)).await else { return };
        seen = now;
    }
}

/// Reloads if the files are not as they were. The signature is taken before reading, so a change in between is seen
/// next time.
fn take(authority: &Authority, last: Signature) -> Signature {
    let now = authority.signature();
    if now == last {
        return last;
    }
    match authority.reload() {
        Ok(true) => {
            let generation = authority.generation();
            tracing::info!(generation, "users, roles, tenants or token keys have changed");
        }
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "the change is refused; what was in force stays"),
    }
    now
}
