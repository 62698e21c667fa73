//! The file of a recording: events as NDJSON, compressed if its name ends in `.zst`.
//!
//! Contract: whatever happens, the file is whole events, but for those of the last moment: uncompressed they are in it
//! as soon as they are handed over, compressed no later than [`OLDEST`]. After a failed write (a full disk) it is cut
//! back to what was whole. A file that was cut off, because its recording was killed, is mended before it is written
//! on. Only its owner can read it: events may hold what is not for everybody.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::RecordError;
use crate::cli::zstd::{self, Frames};

/// So much makes a frame.
const FRAME_BYTES: usize = 256 << 10;
/// Compressed events are in the file after so long, however few they are.
const OLDEST: Duration = Duration::from_secs(2);
/// Longer than this no line is looked for the beginning of.
const LONGEST_LINE: u64 = 64 << 20;

/// What to do with a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Refuse,
    Append,
    Replace,
}

/// The open file of a recording, with the events that wait for their frame.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    path: PathBuf,
    is_compressed: bool,
    /// Bytes of the file that are whole.
    length: u64,
    /// Events that wait for their frame, and since when.
    pending: Vec<u8>,
    since: Option<Instant>,
}

impl Sink {
    /// Opens or makes the file. Returns how many bytes of a cut event were taken off its end, too.
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
        let file = match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match existing {
                Existing::Refuse => return Err(RecordError::Exists(path.to_owned())),
                Existing::Append | Existing::Replace => options.open(path),
            },
            made => made,
        };
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RecordError::Busy(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let is_compressed = path.extension().is_some_and(|extension| extension == "zst");
        let (pending, since) = (Vec::new(), None);
        let mut sink = Self { file, path: path.to_owned(), is_compressed, length: 0, pending, since };
        let removed = sink.begin(existing).map_err(failed)?;
        Ok((sink, removed))
    }

    /// Goes to where the first event is to stand. Returns how much was taken off.
    fn begin(&mut self, existing: Existing) -> io::Result<u64> {
        let there = self.file.metadata()?;
        if !there.is_file() {
            // A pipe or a device: nothing to go on from, and nothing to cut back to.
            return Ok(0);
        }
        let whole = match existing {
            Existing::Append if self.is_compressed => whole_frames(&self.file)?,
            Existing::Append => whole_lines(&mut self.file, there.len())?,
            Existing::Refuse | Existing::Replace => 0,
        };
        self.file.set_len(whole)?;
        self.length = self.file.seek(SeekFrom::End(0))?;
        if existing == Existing::Append && !self.is_compressed && !ends_line(&mut self.file, whole)? {
            self.write_out(b"\n")?;
        }
        Ok(if existing == Existing::Append { there.len() - whole } else { 0 })
    }

    /// Takes whole events, each with its line break.
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

    /// Writes what has waited long enough.
    ///
    /// # Errors
    /// [`RecordError::Write`].
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), RecordError> {
        match self.since {
            Some(since) if now.saturating_duration_since(since) >= OLDEST => self.flush(),
            _ => Ok(()),
        }
    }

    /// Writes everything that is left, to the disk.
    ///
    /// # Errors
    /// [`RecordError::Write`].
    pub(super) fn finish(&mut self) -> Result<(), RecordError> {
        self.flush()?;
        match self.file.sync_all() {
            // What cannot be synchronised, such as a pipe, says so.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    /// Bytes in the file.
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
        let result = self.file.write_all(bytes);
        if result.is_err() {
            // If this fails too, a part of an event stays at the end, where it is known for what it is.
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

/// Where the last whole frame ends.
fn whole_frames(file: &File) -> io::Result<u64> {
    let mut frames = Frames::new(file);
    match io::copy(&mut frames, &mut io::sink()) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(frames.whole()),
    }
}

/// Where the last whole line ends. What follows it stays if it is no event that was cut off.
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

/// Whether a line ends at `length`, or nothing is before it.
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
        // Its recording is killed while it writes the last frame.
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
        assert!(matches!(Sink::open(&path, Existing::Refuse), Err(RecordError::Exists(_))));
        let (sink, _) = open(&path, Existing::Replace);
        assert_eq!((read(&path).as_str(), sink.length()), ("", 0));
        assert!(matches!(Sink::open(&path, Existing::Append), Err(RecordError::Busy(_))));
        assert!(matches!(Sink::open(Path::new("-"), Existing::Append), Err(RecordError::StandardOutput)));
    }

    #[test]
    fn a_full_disk_leaves_whole_events_and_is_told() {
        let full = Path::new("/dev/full");
        let (mut sink, _) = open(full, Existing::Append);
        let error = sink.write(b"{}\n", Instant::now()).unwrap_err().to_string();
        assert!(error.contains("No space left") && error.contains("whole"), "{error}");
    }
}
