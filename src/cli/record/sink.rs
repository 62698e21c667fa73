//! The file of a recording: events as NDJSON, compressed if the name ends in `.zst`.
//!
//! Contract: whatever happens, the file consists of whole events, except at the very end: uncompressed events are
//! written at once, compressed ones no later than [`OLDEST`]. After a failed write (a full disk) the file is truncated
//! to its last whole event. A file with a partial event at its end, because its recording was killed, is repaired
//! before it is appended to. A recording that is replaced stays until there is something to replace it with
//! ([`Sink::replace`]): with a mistyped password nothing would be recorded. Only the owner can read a new file: events
//! may be confidential. One with contents keeps its permissions.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::RecordError;
use crate::cli::zstd::{self, Frames};

/// Number of bytes after which a frame is written.
const FRAME_BYTES: usize = 256 << 10;
/// Compressed events are written after this time, however few they are.
const OLDEST: Duration = Duration::from_secs(2);
/// Longest line, in bytes, whose beginning is searched for.
const LONGEST_LINE: u64 = 64 << 20;

/// What to do with an existing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Refuse,
    Append,
    Replace,
}

/// The open file of a recording, with the events of the next frame.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    path: PathBuf,
    is_compressed: bool,
    /// Whether an old recording is still in the file.
    has_old: bool,
    /// Length of the file up to its last whole event or frame.
    length: u64,
    /// The events of the next frame, and the time of the first of them.
    pending: Vec<u8>,
    since: Option<Instant>,
}

impl Sink {
    /// Opens or creates the file. Also returns how many bytes of a partial event were removed from its end.
    ///
    /// # Errors
    /// [`RecordError`].
    pub(super) fn open(path: &Path, existing: Existing) -> Result<(Self, u64), RecordError> {
        if path == Path::new("-") {
            return Err(RecordError::StandardOutput);
        }
        let failed = |source| RecordError::Open { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let made = options.clone().create_new(true).open(path);
        let is_reused = made.is_err() && existing == Existing::Refuse;
        let file = match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match existing {
                _ if path.is_dir() => return Err(failed(io::ErrorKind::IsADirectory.into())),
                Existing::Refuse if !is_empty(path) => return Err(RecordError::Exists(path.to_owned())),
                _ => options.open(path),
            },
            made => made,
        };
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RecordError::Busy(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Not for a new file: some file systems have no permissions.
        if is_reused && !owned(&file).map_err(failed)? {
            return Err(RecordError::Exists(path.to_owned()));
        }
        let is_compressed = path.extension().is_some_and(|extension| extension == "zst");
        let (pending, since) = (Vec::new(), None);
        let mut sink = Self { file, path: path.to_owned(), is_compressed, has_old: false, length: 0, pending, since };
        let removed = sink.begin(existing).map_err(failed)?;
        Ok((sink, removed))
    }

    /// Seeks to the position of the first new event. Returns the number of bytes removed.
    fn begin(&mut self, existing: Existing) -> io::Result<u64> {
        let there = self.file.metadata()?;
        if !there.is_file() {
            // A pipe or a device cannot be appended to or truncated.
            return Ok(0);
        }
        let whole = match existing {
            Existing::Append if self.is_compressed => whole_frames(&self.file)?,
            Existing::Append => whole_lines(&mut self.file, there.len())?,
            Existing::Refuse => 0,
            Existing::Replace => {
                self.has_old = there.len() > 0;
                return Ok(0);
            }
        };
        self.file.set_len(whole)?;
        self.length = self.file.seek(SeekFrom::End(0))?;
        if existing == Existing::Append && !self.is_compressed && !ends_line(&mut self.file, whole)? {
            self.write_out(b"\n")?;
        }
        Ok(if existing == Existing::Append { there.len() - whole } else { 0 })
    }

    /// Removes an old recording, because the new one has begun.
    ///
    /// # Errors
    /// [`RecordError::Write`].
    pub(super) fn replace(&mut self) -> Result<(), RecordError> {
        if std::mem::take(&mut self.has_old) {
            self.file.set_len(0).map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    /// Writes whole events, each with its line break.
    ///
    /// # Errors
    /// [`RecordError::Write`].
    pub(super) fn write(&mut self, events: &[u8], now: Instant) -> Result<(), RecordError> {
        if !self.is_compressed {
            return self.write_out(events).map_err(|source| self.failed(source));
        }
        self.pending.extend_from_slice(events);
        self.since.get_or_insert(now);
        if self.pending.len() >= FRAME_BYTES { self.flush() } else { self.tick(now) }
    }

    /// Writes the queued events if they have waited long enough.
    ///
    /// # Errors
    /// [`RecordError::Write`].
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), RecordError> {
        match self.since {
            Some(since) if now.saturating_duration_since(since) >= OLDEST => self.flush(),
            _ => Ok(()),
        }
    }

    /// Writes all queued events, and syncs the file to disk.
    ///
    /// # Errors
    /// [`RecordError::Write`].
    pub(super) fn finish(&mut self) -> Result<(), RecordError> {
        self.flush()?;
        match self.file.sync_all() {
            // A file that cannot be synced, such as a pipe, returns this error.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    /// Returns whether an old recording is still in the file.
    pub(super) fn has_old(&self) -> bool {
        self.has_old
    }

    /// Returns the length of the file in bytes, without an old recording.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    fn flush(&mut self) -> Result<(), RecordError> {
        if self.since.take().is_some() {
            let frame = zstd::frame(&self.pending);
            self.pending.clear();
            self.write_out(&frame).map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    fn write_out(&mut self, bytes: &[u8]) -> io::Result<()> {
        debug_assert!(!self.has_old, "the old recording is removed first");
        let result = self.file.write_all(bytes);
        if result.is_err() {
            // If this fails too, a partial event stays at the end, where it can be recognized.
            let _ = self.file.set_len(self.length);
        } else {
            self.length += bytes.len() as u64;
        }
        result
    }

    fn failed(&self, source: io::Error) -> RecordError {
        RecordError::Write { path: self.path.clone(), source }
    }
}

/// Returns whether it is a file with nothing in it, as a recording leaves that could not connect. What a link leads to
/// is somebody else's.
fn is_empty(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|there| there.is_file() && there.len() == 0)
}

/// Lets nobody but its owner read a locked file. Returns false if it has contents, of a recording that was quicker.
fn owned(file: &File) -> io::Result<bool> {
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file.metadata()?.len() == 0)
}

/// Returns where the last whole frame ends.
fn whole_frames(file: &File) -> io::Result<u64> {
    let mut frames = Frames::new(file);
    match io::copy(&mut frames, &mut io::sink()) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(frames.whole()),
    }
}

/// Returns where the last whole line ends. Text after it is kept unless it is a partial event.
fn whole_lines(file: &mut File, length: u64) -> io::Result<u64> {
    let (mut tail, mut from) = (Vec::new(), length);
    while from > 0 && length - from < LONGEST_LINE {
        let step = from.min(64 << 10);
        from -= step;
        let mut piece = vec![0; usize::try_from(step).unwrap_or(0)];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut piece)?;
        let broken = memchr::memrchr(b'\n', &piece);
        tail.splice(0..0, piece[broken.map_or(0, |at| at + 1)..].iter().copied());
        if broken.is_some() {
            break;
        }
    }
    let is_cut = tail.starts_with(b"{") && serde_json::from_slice::<serde::de::IgnoredAny>(&tail).is_err();
    Ok(if is_cut { length - tail.len() as u64 } else { length })
}

/// Returns whether a line ends at `length`, or nothing is before it.
fn ends_line(file: &mut File, length: u64) -> io::Result<bool> {
    if length == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        let mut text = String::new();
        zstd::plain(Box::new(File::open(path).unwrap())).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn open(path: &Path, existing: Existing) -> (Sink, u64) {
        Sink::open(path, existing).unwrap()
    }

    #[test]
    fn a_file_is_written_on_behind_its_last_whole_event() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ndjson");
        for (before, kept, removed) in [
            ("", "", 0),
            ("{\"a\":1}\n", "{\"a\":1}\n", 0),
            ("{\"a\":1}\n{\"b\":", "{\"a\":1}\n", 5),
            ("{\"b\":\"\\", "", 7),
            ("{\"a\":1}", "{\"a\":1}\n", 0),
            ("[\n{}\n]", "[\n{}\n]\n", 0),
        ] {
            std::fs::write(&path, before).unwrap();
            let (mut sink, found) = open(&path, Existing::Append);
            sink.write(b"{}\n", Instant::now()).unwrap();
            assert_eq!((read(&path), found), (format!("{kept}{{}}\n"), removed), "{before}");
        }
        let long = format!("{{\"k\":\"{}", "x".repeat(200_000));
        std::fs::write(&path, format!("{{}}\n{long}")).unwrap();
        assert_eq!(open(&path, Existing::Append).1, long.len() as u64);
        assert_eq!(read(&path), "{}\n");
    }

    #[test]
    fn frames_are_written_when_they_are_full_or_old_and_after_a_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ndjson.zst");
        let (mut sink, _) = open(&path, Existing::Refuse);
        let begun = Instant::now();
        sink.write(b"{\"n\":1}\n", begun).unwrap();
        sink.tick(begun + OLDEST / 2).unwrap();
        assert_eq!(read(&path), "");
        sink.tick(begun + OLDEST).unwrap();
        assert_eq!(read(&path), "{\"n\":1}\n");
        sink.write(&b"{}\n".repeat(FRAME_BYTES), begun).unwrap();
        assert_eq!(read(&path).len(), 8 + 3 * FRAME_BYTES);
        sink.write(b"{\"n\":2}\n", begun).unwrap();
        sink.finish().unwrap();
        let (whole, bytes) = (read(&path), std::fs::read(&path).unwrap());
        drop(sink);
        // The recording is killed while it writes the last frame.
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let (mut sink, removed) = open(&path, Existing::Append);
        assert!(removed > 0);
        sink.write(b"{\"n\":3}\n", begun).unwrap();
        sink.finish().unwrap();
        assert_eq!(read(&path), whole.replace("{\"n\":2}", "{\"n\":3}"));
    }

    #[test]
    fn nothing_is_replaced_unless_it_is_asked_for_nor_written_by_two() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "old\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Sink::open(&path, Existing::Refuse), Err(RecordError::Exists(_))));
        let empty = dir.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        std::fs::set_permissions(&empty, Permissions::from_mode(0o666)).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&empty, &link).unwrap();
        assert!(matches!(Sink::open(&link, Existing::Refuse), Err(RecordError::Exists(_))), "it may be anybody's");
        let (sink, _) = open(&empty, Existing::Refuse);
        assert_eq!(empty.metadata().unwrap().permissions().mode() & 0o777, 0o600, "only the owner reads it");
        assert!(matches!(Sink::open(&empty, Existing::Refuse), Err(RecordError::Busy(_))), "somebody records to it");
        drop(sink);
        let (mut sink, _) = open(&path, Existing::Replace);
        assert_eq!((read(&path).as_str(), sink.length()), ("old\n", 0), "nothing has come yet");
        sink.finish().unwrap();
        assert_eq!(read(&path), "old\n", "nothing has come at all");
        sink.replace().unwrap();
        assert_eq!((read(&path).as_str(), sink.length()), ("", 0));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640, "who may read it is known");
        assert!(matches!(Sink::open(&path, Existing::Append), Err(RecordError::Busy(_))));
        assert!(matches!(Sink::open(Path::new("-"), Existing::Append), Err(RecordError::StandardOutput)));
    }

    #[test]
    fn a_full_disk_leaves_whole_events_and_is_told() {
        let full = Path::new("/dev/full");
        let (mut sink, _) = open(full, Existing::Append);
        let error = sink.write(b"{}\n", Instant::now()).unwrap_err().to_string();
        assert!(error.contains("No space left") && error.contains("intact"), "{error}");
    }
}
