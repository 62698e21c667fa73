//! Applies changes in the data directory while the server runs.
//!
//! Contract: every file is checked four times a second and read when two checks in a row see the same change. So a
//! removed user is out within a second, and a half-written file is never used. Files are independent of each other:
//! each is checked by a task of its own, so one whose file system does not answer holds up no other. After [`HANGS`] it
//! counts as not in force, until it answers. A file that cannot be read is retried at every check. A file with a
//! mistake is reported once, and its last good version stays in force.
//!
//! [`HANGS`]: crate::files::HANGS

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use tokio::task::{JoinHandle, JoinSet};

use super::authority::Authority;
use super::watched::AuthFile;
use crate::clock;
use crate::files::{AGAIN, INTERVAL, Look, Looks};
use crate::tasks;

impl Authority {
    /// Starts the task that reloads changed files. It ends when the authority is dropped, or when it is aborted.
    pub fn watch(self: &Arc<Self>) -> JoinHandle<()> {
        let mut following = JoinSet::new();
        for file in AuthFile::ALL {
            if let Some(path) = self.path_of(file) {
                tasks::spawn_in(&mut following, Box::pin(follow(Arc::downgrade(self), file, path)));
            }
        }
        tasks::spawn(async move {
            // If one file is no longer followed, this is over for all.
            let _ = following.join_next().await;
        })
    }
}

async fn follow(authority: Weak<Authority>, file: AuthFile, path: PathBuf) {
    let mut looks = Looks::new();
    loop {
        let Some(authority) = authority.upgrade() else { return };
        let looking = Arc::clone(&authority);
        let looking = tasks::spawn_blocking(move || {
            let look = look(&looking, file, &mut looks);
            (looks, look)
        });
        // After a panic or the end of the runtime there is nothing to follow.
        let looked = authority.watched(file).hanging.watch(&path, clock::now(), looking).await;
        let Some((next, look)) = looked else { return };
        drop(authority);
        looks = next;
        tokio::time::sleep(if look == Look::Unsettled { AGAIN } else { INTERVAL }).await;
    }
}

/// Reads the file if it has changed.
fn look(authority: &Authority, file: AuthFile, looks: &mut Looks) -> Look {
    // The marks are taken before the file is read, so a change in between is seen next time.
    let now = authority.marks(file);
    let look = looks.look(&now);
    if look == Look::Due {
        looks.read(now, !authority.follow_up(file));
    }
    look
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::{AuthOptions, edit_store};

    /// Longer than a busy machine takes.
    const PATIENCE: Duration = Duration::from_mins(1);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_file_that_hangs_holds_up_no_other() {
        let dir = tempfile::tempdir().unwrap();
        edit_store(dir.path(), |store| store.set_role("reader", Vec::new())).unwrap();
        let authority = Arc::new(Authority::open(dir.path(), AuthOptions::default()).unwrap().0);
        // As if a thread were reading it, on a file system that does not answer.
        let (answer, answered) = std::sync::mpsc::channel::<()>();
        let (start, begun) = std::sync::mpsc::channel();
        let hanging = Arc::clone(&authority);
        let reader = std::thread::spawn(move || {
            let _reading = hanging.watched(AuthFile::Users).reading.lock();
            start.send(()).unwrap();
            let _ = answered.recv();
        });
        begun.recv().unwrap();
        let mut changes = authority.changes();
        let watcher = authority.watch();
        let keys = dir.path().join("token-keys.toml");
        let text = std::fs::read_to_string(&keys).unwrap();
        let secret = text.split("secret = \"").nth(1).unwrap().split('"').next().unwrap();
        std::fs::write(&keys, text.replace(secret, &"A".repeat(43))).unwrap();
        tokio::time::timeout(PATIENCE, changes.changed()).await.expect("the keys are reloaded").unwrap();
        drop(answer);
        watcher.abort();
        reader.join().unwrap();
    }
}
