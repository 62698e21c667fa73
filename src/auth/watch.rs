//! Taking changes of the data directory while running.
//!
//! Contract: looks at each file four times a second and reads it when two looks agree that it has changed, so that a
//! removed user is gone within a second and nothing half written is taken. Files are independent of one another. One
//! that cannot be read is tried again at every look; one with a mistake is reported once, and what was there stays in
//! force.

use std::sync::{Arc, Weak};

use tokio::task::JoinHandle;

use super::authority::{AuthFile, Authority};
use crate::files::{AGAIN, INTERVAL, Look, Looks};

/// What was seen of each file.
type Seen = [(AuthFile, Looks); AuthFile::ALL.len()];

impl Authority {
    /// Starts the task that reloads on change. It ends by itself when the authority is gone, or when it is aborted.
    pub fn watch(self: &Arc<Self>) -> JoinHandle<()> {
        tokio::spawn(follow(Arc::downgrade(self)))
    }
}

async fn follow(authority: Weak<Authority>) {
    let mut seen: Seen = AuthFile::ALL.map(|file| (file, Looks::new()));
    loop {
        let Some(authority) = authority.upgrade() else { return };
        let looked = tokio::task::spawn_blocking(move || {
            let unsettled = look(&authority, &mut seen);
            (seen, unsettled)
        });
        // A panic or a runtime that ends leaves nothing to follow.
        let Ok((next, unsettled)) = looked.await else { return };
        seen = next;
        tokio::time::sleep(if unsettled { AGAIN } else { INTERVAL }).await;
    }
}

/// Reads what has changed. Returns whether something is about to.
fn look(authority: &Authority, seen: &mut Seen) -> bool {
    let mut unsettled = false;
    for (file, looks) in seen {
        // Looked at before it is read: a change in between is seen next time.
        let now = authority.marks(*file);
        match looks.look(&now) {
            Look::Same => {}
            Look::Unsettled => unsettled = true,
            Look::Due => looks.read(now, !authority.follow_up(*file)),
        }
    }
    unsettled
}
