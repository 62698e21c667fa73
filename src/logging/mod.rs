//! Log output: a bounded queue, from which one thread writes lines to standard error.
//!
//! Contract: logging never waits and never fails. A line is dropped and counted ([`dropped`]) if the queue is full
//! because nobody reads the pipe, or if it cannot be written because the disk is full or the pipe is closed. Lines
//! keep their order. [`flush`] waits, for a bounded time, until everything logged before has been written: at the end
//! of the process, and before a panic ends it.
//!
//! Why not write directly: a full pipe would block the shard that logs, and with it all its connections; and tracing's
//! own writer reports a failed write with a macro that panics if standard error fails too.

pub mod crash;
pub mod summary;

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

/// The maximum number of queued lines.
const LINES: usize = 4096;
/// The maximum number of bytes of queued lines.
const BYTES: usize = 4 << 20;

static DROPPED: AtomicU64 = AtomicU64::new(0);
static STANDARD_ERROR: OnceLock<Log> = OnceLock::new();

/// Returns the number of log lines of this process that were dropped.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Returns the log of this process, on standard error. All calls return the same one.
///
/// # Errors
/// If the system cannot start a thread.
pub fn standard_error() -> io::Result<&'static Log> {
    if let Some(log) = STANDARD_ERROR.get() {
        return Ok(log);
    }
    let log = Log::start(io::stderr())?;
    Ok(STANDARD_ERROR.get_or_init(|| log))
}

/// Waits until everything logged before has been written, for at most `limit`. Returns whether it has.
pub fn flush(limit: Duration) -> bool {
    STANDARD_ERROR.get().is_none_or(|log| log.flush_within(limit))
}

/// A writer that queues whole lines for the logging thread: each `write` is one line. Never blocks and never fails.
#[derive(Debug)]
pub struct Log {
    queue: Sender<Message>,
    /// The number of queued bytes.
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Message {
    Line(Box<[u8]>),
    /// Answered when everything before it has been written or dropped.
    Flush(Sender<()>),
}

impl Log {
    /// Starts the thread that writes to `out`. It ends when the log is dropped.
    fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = bounded(LINES);
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&waiting);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&lines, &left, out))?;
        Ok(Self { queue, waiting })
    }

    fn line(&self, line: &[u8]) {
        let before = self.waiting.fetch_add(line.len(), Ordering::Relaxed);
        if before + line.len() > BYTES || self.queue.try_send(Message::Line(line.into())).is_err() {
            self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush_within(&self, limit: Duration) -> bool {
        let (done, written) = bounded(1);
        let deadline = Instant::now() + limit;
        self.queue.send_deadline(Message::Flush(done), deadline).is_ok() && written.recv_deadline(deadline).is_ok()
    }
}

impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.line(line);
        Ok(line.len())
    }

    /// Does nothing: the thread writes as soon as it can.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(lines: &Receiver<Message>, waiting: &AtomicUsize, mut out: impl Write) {
    for message in lines {
        match message {
            Message::Line(line) => {
                if out.write_all(&line).and_then(|()| out.flush()).is_err() {
                    DROPPED.fetch_add(1, Ordering::Relaxed);
                }
                waiting.fetch_sub(line.len(), Ordering::Relaxed);
            }
            // The requester may no longer wait.
            Message::Flush(done) => drop(done.try_send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// Completes a write only when the test receives it, and fails once the test has dropped its end.
    struct Slow(SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A single test, because the count is shared by the whole process.
    #[test]
    fn lines_keep_their_order_and_those_without_room_are_counted() {
        let (sender, written) = sync_channel(0);
        let log = Log::start(Slow(sender)).unwrap();
        let before = dropped();
        (&log).write_all(b"0\n").unwrap();
        while !log.queue.is_empty() {
            std::thread::yield_now();
        }
        // The thread now holds the first line.
        for number in 1..=2 * LINES {
            (&log).write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        assert!(!log.flush_within(Duration::from_millis(1)), "nobody reads");
        let lost = usize::try_from(dropped() - before).unwrap();
        assert_eq!(lost, LINES);
        let kept: Vec<Vec<u8>> = written.iter().take(LINES + 1).collect();
        let expected = (0..=LINES).map(|number| format!("{number}\n").into_bytes());
        assert!(kept.into_iter().eq(expected));
        assert!(log.flush_within(LONG));

        let big = vec![b'x'; BYTES];
        (&log).write_all(&big).unwrap();
        (&log).write_all(b"no room beside it\n").unwrap();
        assert_eq!(usize::try_from(dropped() - before).unwrap(), lost + 1);
        assert_eq!(written.recv().unwrap().len(), BYTES);
        assert!(log.flush_within(LONG));

        drop(written);
        (&log).write_all(b"to nobody\n").unwrap();
        assert!(log.flush_within(LONG), "a line that cannot be written holds up nothing");
        assert_eq!(usize::try_from(dropped() - before).unwrap(), lost + 2);
    }
}
