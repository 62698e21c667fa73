//! Applies changes in the data directory while the server runs.
//!
//! Contract: every file is checked four times a second and read when two checks in a row see the same change. So a
//! removed user is out within a second, and a half-written file is never used. Files are independent of each other. A
//! file that cannot be read is retried at every check. A file with a mistake is reported once, and its last good
//! version stays in force.

use std::sync::{Arc, Weak};

use tokio::task::JoinHandle;

use super::authority::{AuthFile, Authority};
use crate::files::{AGAIN, INTERVAL, Look, Looks};
use crate::tasks;

/// The marks seen of each file.
type Seen = [(AuthFile, Looks); AuthFile::ALL.len()];

impl Authority {
    /// Starts the task that reloads changed files. It ends when the authority is dropped, or when it is aborted.
    pub fn watch(self: &Arc<Self>) -> JoinHandle<()> {
        tasks::spawn(follow(Arc::downgrade(self)))
    }
}

async fn follow(authority: Weak<Authority>) {
    let mut seen: Seen = AuthFile::ALL.map(|file| (file, Looks::new()));
    loop {
        let Some(authority) = authority.upgrade() else { return };
        let looked = tasks::spawn_blocking(move || {
            let unsettled = look(&authority, &mut seen);
            (seen, unsettled)
        });
        // After a panic or the end of the runtime there is nothing to follow.
        let Ok((next, unsettled)) = looked.await else { return };
        seen = next;
        tokio::time::sleep(if unsettled { AGAIN } else { INTERVAL }).await;
    }
}

/// Reads the files that have changed. Returns whether a change has been seen but not yet read.
fn look(authority: &Authority, seen: &mut Seen) -> bool {
    let mut unsettled = false;
    for (file, looks) in seen {
        // The marks are taken before the file is read, so a change in between is seen next time.
        let now = authority.marks(*file);
        match looks.look(&now) {
            Look::Same => {}
            Look::Unsettled => unsettled = true,
            Look::Due => looks.read(now, !authority.follow_up(*file)),
        }
    }
    unsettled
}
