//! Notices changes of files that are in use, and replaces files as a whole.
//!
//! Contract: a change is due for reading once two checks in a row have seen the same state, so a file is not read
//! while it is being written. A file that could not be read stays due at every check. [`Looks`] is pure; [`Marks::of`]
//! asks the file system, which may never answer (a network file system whose server is gone): [`Hanging`] tells so.
//!
//! Why not inotify: it does not work on network file systems, needs a thread of its own, and reveals less than a few
//! calls of `stat`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The interval at which files are checked.
pub const INTERVAL: Duration = Duration::from_millis(250);

/// The interval after a check that saw a change: longer than a careless editor takes to write a file.
pub const AGAIN: Duration = Duration::from_millis(100);

/// The time after which a check that has not returned counts as hanging.
pub const HANGS: Duration = Duration::from_secs(5);

/// The metadata that reveal a change. A rename changes the inode, an edit in place the modification time or the size,
/// and a change of mode or owner the status change time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The state of several files. A file that cannot be inspected counts as missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks(Vec<Option<Mark>>);

impl Marks {
    /// Returns the current state of these files. Blocks.
    pub fn of<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Self {
        let mark = |path: &Path| {
            let meta = std::fs::metadata(path).ok()?;
            Some(Mark {
                device: meta.dev(),
                inode: meta.ino(),
                size: meta.size(),
                mode: meta.mode(),
                owner: (meta.uid(), meta.gid()),
                modified: (meta.mtime(), meta.mtime_nsec()),
                changed: (meta.ctime(), meta.ctime_nsec()),
            })
        };
        Self(paths.into_iter().map(mark).collect())
    }
}

/// Returns whether something has this name, even a link whose target is missing, as on a file system that is not
/// mounted yet. Blocks.
pub fn is_taken(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Reads a file. Refuses a pipe and a device, which may never end. Blocks.
///
/// # Errors
/// The system's, or that it is no regular file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Before it is opened, because opening a pipe waits for its other end.
    let about = fs::metadata(path)?;
    if !about.is_file() && !about.is_dir() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    // The system refuses a directory.
    fs::read(path)
}

/// Like [`read`], for text.
///
/// # Errors
/// Like [`read`], and if the file is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error.utf8_error()))
}

/// Mode of a file that only its owner can read.
pub const SECRET: u32 = 0o600;

/// Replaces a file in `directory`, or creates it, with this mode (reduced by the umask). It is written as `beside`
/// first, so a reader sees the old text or the new one, even after a crash. Blocks.
///
/// # Errors
/// The system's; then `beside` may exist.
pub fn replace(directory: &Path, beside: &Path, path: &Path, (text, mode): (&str, u32)) -> io::Result<()> {
    // A file left behind by a crash may have other permissions; only creating it anew guarantees them.
    match std::fs::remove_file(beside) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(beside, path)?;
    File::open(directory)?.sync_all()
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing has changed since the files were read.
    Same,
    /// Something has changed, and the change may not be complete.
    Unsettled,
    /// The files have to be read.
    Due,
}

/// Tracks a set of files and reports when a change is complete and due for reading. Pure; [`Marks::of`] does the I/O.
#[derive(Debug, Default)]
pub struct Looks {
    /// The state at the last reading.
    read: Option<Marks>,
    last: Option<Marks>,
    /// Whether the last reading failed and has to be repeated.
    again: bool,
}

impl Looks {
    /// Creates a tracker that has seen nothing, so the files are due once they are stable.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compares the current state of the files with earlier ones.
    pub fn look(&mut self, now: &Marks) -> Look {
        if self.read.as_ref() == Some(now) && !self.again {
            self.last.clone_from(&self.read);
            return Look::Same;
        }
        if self.last.as_ref() == Some(now) {
            return Look::Due;
        }
        self.last = Some(now.clone());
        Look::Unsettled
    }

    /// Records that the files were read in this state; `again` if that failed for a reason that may go away.
    pub fn read(&mut self, marks: Marks, again: bool) {
        self.read = Some(marks);
        self.again = again;
    }
}

/// A change that is not in force, because it cannot be read or has a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The time of the first refusal.
    pub since: Timestamp,
    /// The reason for operators, without any secret.
    pub reason: String,
}

impl Refusal {
    /// Records the result of a reading in `slot`. Returns whether to report it: the same reason is reported only once.
    pub fn note(slot: &mut Option<Self>, reason: Option<String>, now: Timestamp) -> bool {
        match (slot.as_mut(), reason) {
            (_, None) => {
                *slot = None;
                false
            }
            (Some(known), Some(reason)) => {
                let other = known.reason != reason;
                known.reason = reason;
                other
            }
            (None, Some(reason)) => {
                *slot = Some(Self { since: now, reason });
                true
            }
        }
    }
}

/// Whether a check of a file does not return.
#[derive(Debug, Default)]
pub struct Hanging(Mutex<Option<Refusal>>);

impl Hanging {
    /// Waits for a check that has begun `now`. From [`HANGS`] on until it returns, the file counts as hanging, which is
    /// logged. Returns `None` if the check panics or the runtime ends.
    pub async fn watch<T>(&self, path: &Path, now: Timestamp, mut check: JoinHandle<T>) -> Option<T> {
        if let Ok(checked) = timeout(HANGS, &mut check).await {
            return checked.ok();
        }
        let reason = format!("{} cannot be checked: its file system does not answer", path.display());
        tracing::error!("{reason}; its previous contents stay in force");
        *self.0.lock() = Some(Refusal { since: now, reason });
        let checked = check.await;
        *self.0.lock() = None;
        tracing::info!(file = %path.display(), "the file system answers again");
        checked.ok()
    }

    /// Returns since when a check hangs, if one does.
    pub fn refusal(&self) -> Option<Refusal> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_change_is_read_when_two_looks_agree_and_until_it_has_been_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let marks = || Marks::of([path.as_path()]);
        let mut looks = Looks::new();
        assert_eq!((looks.look(&marks()), looks.look(&marks())), (Look::Unsettled, Look::Due));
        looks.read(marks(), false);
        assert_eq!(looks.look(&marks()), Look::Same);
        for text in ["", "half", "whole"] {
            fs::write(&path, text).unwrap();
            assert_eq!(looks.look(&marks()), Look::Unsettled, "it is still being written");
        }
        assert_eq!(looks.look(&marks()), Look::Due);
        looks.read(marks(), true);
        assert_eq!((looks.look(&marks()), looks.look(&marks())), (Look::Due, Look::Due), "until it has been read");
        looks.read(marks(), false);
        assert_eq!(looks.look(&marks()), Look::Same);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!((looks.look(&marks()), looks.look(&marks())), (Look::Unsettled, Look::Due), "chmod is a change");
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_does_not_return_is_told_until_it_does() {
        let hanging = std::sync::Arc::new(Hanging::default());
        let (answer, check) = tokio::sync::oneshot::channel::<u8>();
        let (watched, now) = (hanging.clone(), Timestamp::from_second(1).unwrap());
        let watching = tokio::spawn(async move {
            let check = tokio::spawn(async { check.await.unwrap() });
            watched.watch(Path::new("/a/file"), now, check).await
        });
        tokio::time::sleep(HANGS.saturating_sub(Duration::from_millis(1))).await;
        assert_eq!(hanging.refusal(), None);
        tokio::time::sleep(Duration::from_millis(2)).await;
        let reason = "/a/file cannot be checked: its file system does not answer".to_owned();
        assert_eq!(hanging.refusal(), Some(Refusal { since: now, reason }));
        answer.send(7).unwrap();
        assert_eq!((watching.await.unwrap(), hanging.refusal()), (Some(7), None));
    }

    #[test]
    fn only_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(read_text(&pipe).unwrap_err().to_string(), "it is not a regular file");
        assert!(read(dir.path()).is_err(), "nor a directory");
    }

    #[test]
    fn the_same_reason_is_told_once() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut slot = None;
        assert!(Refusal::note(&mut slot, Some("a".to_owned()), at(1)));
        assert!(!Refusal::note(&mut slot, Some("a".to_owned()), at(2)));
        assert!(Refusal::note(&mut slot, Some("b".to_owned()), at(3)));
        assert_eq!(slot, Some(Refusal { since: at(1), reason: "b".to_owned() }));
        assert!(!Refusal::note(&mut slot, None, at(4)) && slot.is_none());
    }
}
