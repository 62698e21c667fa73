//! Finds files that other users of the machine can read or write but should not.
//!
//! Contract: only looks; the caller decides whether a finding is a warning or an error. A file that cannot be
//! inspected is not reported: whoever needs it will fail with a clear error. Blocks.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files in the data directory that no other user may read.
const SECRETS: [&str; 3] = ["auth.toml", "token-keys.toml", "tls-key.pem"];

/// A file or directory that other users can reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    path: PathBuf,
    reach: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Read(u32),
    Write(u32),
    /// Another user, with this id, owns it.
    Owner(u32),
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.reach {
            Reach::Read(mode) => write!(f, "other users can read {path} (mode {mode:04o}): run `chmod go= {path}`"),
            Reach::Write(mode) => write!(f, "other users can write {path} (mode {mode:04o}): run `chmod go-w {path}`"),
            Reach::Owner(user) => {
                write!(f, "{path} belongs to another user (id {user}), who can change it: run `chown` on it")
            }
        }
    }
}

/// Returns what other users can reach in a data directory. A writable directory counts: its files can be replaced.
pub fn exposures(data_dir: &Path) -> Vec<Exposure> {
    let directory = look(data_dir, 0, 0o022);
    let secrets = SECRETS.iter().filter_map(|name| look(&data_dir.join(name), 0o044, 0o022));
    directory.into_iter().chain(secrets).collect()
}

/// Returns an exposure if everybody can reach a secret outside the data directory. Its group may, as for
/// `/etc/ssl/private`.
pub fn of_secret(path: &Path) -> Option<Exposure> {
    look(path, 0o004, 0o002)
}

fn look(path: &Path, readable: u32, writable: u32) -> Option<Exposure> {
    let meta = std::fs::metadata(path).ok()?;
    let mode = meta.mode() & 0o7777;
    let own = rustix::process::geteuid().as_raw();
    let reach = if meta.uid() != own && meta.uid() != 0 {
        Reach::Owner(meta.uid())
    } else if mode & writable != 0 {
        Reach::Write(mode)
    } else if mode & readable != 0 {
        Reach::Read(mode)
    } else {
        return None;
    };
    Some(Exposure { path: path.to_owned(), reach })
}
