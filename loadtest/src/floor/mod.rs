//! The kernel's share of the cost: prebuilt frames, written by one thread, and nothing else.
//!
//! One writer thread on the server's core, N loopback connections, one `writev` of K frames per connection and turn; a
//! reader thread on the client's core drains them. The next turn begins when everything was received. The figure is the
//! writer's CPU time per delivery: no broker that passes each socket its frames separately can be below it. One that
//! first joins equal frames can, since the kernel copies one long piece faster; `floor --joined` measures that.
//!
//! Contract: [`Floor`] keeps its connections between measurements, so that it can take turns with a server; it costs
//! nothing between measurements. Bounded by [`Bounds`].

use std::collections::HashMap;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::cpu::{self, Cores};
use crate::payload::Spread;
use crate::sockets;

/// Maximum K: the kernel accepts no more slices in one `writev`.
pub const K_MAX: u64 = 1_024;

/// Maximum number of connections: the loopback ports of one address.
const CONNECTIONS_MAX: usize = 25_000;

/// Time limit for a turn; a longer one counts as a failure.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The end of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// No turn begins after this time.
    pub time: Duration,
    /// Maximum number of turns.
    pub turns: u64,
}

/// The result of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Number of turns.
    pub turns: u64,
    /// Frames received over all connections.
    pub deliveries: u64,
    /// CPU time of the writer of these frames.
    pub cpu: Duration,
    /// Wall-clock time.
    pub elapsed: Duration,
}

impl Measured {
    /// Returns the CPU time per delivery in microseconds.
    pub fn micros(&self) -> f64 {
        per_delivery(self.cpu, self.deliveries)
    }
}

/// Returns microseconds per delivery.
pub fn per_delivery(cpu: Duration, deliveries: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let deliveries = deliveries.max(1) as f64;
    cpu.as_secs_f64() * 1e6 / deliveries
}

/// The connections and the reader.
#[derive(Debug)]
pub struct Floor {
    writers: Vec<TcpStream>,
    reader: Reader,
    cores: Cores,
    /// Bytes that the reader has been told to expect so far.
    sent: u64,
    joined: bool,
}

impl Floor {
    /// Opens `connections` loopback connections and starts the reader.
    ///
    /// # Errors
    /// Fails if there are too many connections, or no more files or ports.
    pub fn new(connections: usize, cores: Cores) -> Result<Self> {
        ensure!(connections <= CONNECTIONS_MAX, "the floor measurement can have at most {CONNECTIONS_MAX} connections");
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on the loopback interface")?;
        let address = listener.local_addr()?;
        let (mut writers, mut readers) = (Vec::new(), Vec::new());
        for _ in 0..connections {
            let near = TcpStream::connect(address).context("cannot connect over loopback")?;
            let (far, _) = listener.accept()?;
            far.set_nodelay(true)?;
            far.set_nonblocking(true)?;
            near.set_nonblocking(true)?;
            writers.push(far);
            readers.push(near);
        }
        Ok(Self { writers, reader: Reader::start(readers, cores.client)?, cores, sent: 0, joined: false })
    }

    /// Sets whether the frames of a turn are written to a connection from contiguous memory, by `send`: the least known
    /// cost.
    #[must_use]
    pub fn joined(self, joined: bool) -> Self {
        Self { joined, ..self }
    }

    /// Runs turns with `frames` until `bounds` are reached. `Spread::All`: every connection receives all frames by one
    /// `writev`; `Spread::One`: each frame goes to one connection, in turn.
    ///
    /// # Errors
    /// Fails with more than [`K_MAX`] frames, or if the reader has failed.
    pub fn measure(&mut self, frames: &[Vec<u8>], spread: Spread, bounds: Bounds) -> Result<Measured> {
        ensure!(!frames.is_empty() && frames.len() as u64 <= K_MAX, "K must be from 1 to {K_MAX}");
        if self.joined && spread == Spread::All && frames.len() > 1 {
            let one = self.measure(&[frames.concat()], spread, bounds)?;
            return Ok(Measured { deliveries: one.deliveries * frames.len() as u64, ..one });
        }
        let core = self.cores.server;
        thread::scope(|scope| {
            let work = || {
                cpu::pin(core)?;
                self.turn(frames, spread, 0)?;
                self.turns(frames, spread, bounds)
            };
            scope.spawn(work).join().map_err(|_| anyhow!("the writer of the floor measurement has failed"))?
        })
    }

    fn turns(&mut self, frames: &[Vec<u8>], spread: Spread, bounds: Bounds) -> Result<Measured> {
        let (begin, cpu) = (Instant::now(), cpu::thread_time()?);
        let (mut turns, mut deliveries) = (0, 0);
        while turns < bounds.turns && (turns == 0 || begin.elapsed() < bounds.time) {
            deliveries += self.turn(frames, spread, turns)?;
            turns += 1;
        }
        Ok(Measured { turns, deliveries, cpu: cpu::thread_time()?.saturating_sub(cpu), elapsed: begin.elapsed() })
    }

    /// Runs one turn; returns its deliveries.
    fn turn(&mut self, frames: &[Vec<u8>], spread: Spread, number: u64) -> Result<u64> {
        let count = frames.len() as u64;
        let connections = self.writers.len();
        let burst = Burst::new(frames, self.joined);
        match spread {
            Spread::All => {
                self.expect(burst.total * connections);
                let unfinished = self.write_all(&burst)?;
                self.finish(&burst, unfinished)?;
            }
            Spread::One { .. } => {
                self.expect(burst.total);
                let first = usize::try_from(number * count)?;
                for (offset, frame) in frames.iter().enumerate() {
                    let single = Burst::new(std::slice::from_ref(frame), self.joined);
                    let written = single.write(&mut self.writers[(first + offset) % connections], 0)?;
                    ensure!(written == single.total, "a single frame did not fit into an empty socket");
                }
            }
        }
        self.reader.wait()?;
        Ok(if spread == Spread::All { count * connections as u64 } else { count })
    }

    fn expect(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.reader.target.store(self.sent, Ordering::SeqCst);
    }

    /// Writes once to every connection. Returns those whose buffers were full, and how many bytes were written to each.
    fn write_all(&mut self, burst: &Burst<'_>) -> Result<HashMap<usize, usize>> {
        let mut unfinished = HashMap::new();
        for (at, writer) in self.writers.iter_mut().enumerate() {
            let written = burst.write(writer, 0)?;
            if written < burst.total {
                unfinished.insert(at, written);
            }
        }
        Ok(unfinished)
    }

    /// Continues with the connections whose buffers were full, as they become writable.
    fn finish(&mut self, burst: &Burst<'_>, mut unfinished: HashMap<usize, usize>) -> Result<()> {
        if unfinished.is_empty() {
            return Ok(());
        }
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(1_024);
        for &at in unfinished.keys() {
            poll.registry().register(&mut SourceFd(&self.writers[at].as_raw_fd()), Token(at), Interest::WRITABLE)?;
        }
        while !unfinished.is_empty() {
            poll.poll(&mut events, Some(TIMEOUT))?;
            ensure!(!events.is_empty(), "the reader of the floor measurement has stopped reading");
            for event in &events {
                let at = event.token().0;
                let Some(&from) = unfinished.get(&at) else { continue };
                let written = burst.write(&mut self.writers[at], from)?;
                if written < burst.total {
                    unfinished.insert(at, written);
                } else {
                    unfinished.remove(&at);
                }
            }
        }
        Ok(())
    }
}

/// The frames that are written by one `writev`.
struct Burst<'f> {
    frames: &'f [Vec<u8>],
    /// Whether the first frame is the only one, and is written by `send`.
    single: bool,
    slices: Vec<IoSlice<'f>>,
    total: usize,
}

impl<'f> Burst<'f> {
    fn new(frames: &'f [Vec<u8>], joined: bool) -> Self {
        let slices: Vec<IoSlice<'f>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
        Self { frames, single: joined, total: slices.iter().map(|slice| slice.len()).sum(), slices }
    }

    /// Writes from byte `from` on, until everything is written or the buffer is full. Returns the offset reached.
    fn write(&self, writer: &mut TcpStream, from: usize) -> Result<usize> {
        let mut written = from;
        while written < self.total {
            let result = match written {
                0 if self.single => writer.write(&self.frames[0]),
                0 => writer.write_vectored(&self.slices),
                _ => writer.write_vectored(&self.rest(written)),
            };
            match result {
                Ok(some) => written += some,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e).context("cannot write over loopback"),
            }
        }
        Ok(written)
    }

    fn rest(&self, mut from: usize) -> Vec<IoSlice<'f>> {
        let mut rest = Vec::with_capacity(self.frames.len());
        for frame in self.frames {
            if from < frame.len() {
                rest.push(IoSlice::new(&frame[from..]));
            }
            from = from.saturating_sub(frame.len());
        }
        rest
    }
}

/// The thread that drains the connections.
#[derive(Debug)]
struct Reader {
    /// Total number of bytes to receive before the turn is over.
    target: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    done: Receiver<Result<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn start(sockets: Vec<TcpStream>, core: Option<usize>) -> Result<Self> {
        let (target, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (tell, done) = sync_channel(1);
        let drain = Drain { sockets, target: Arc::clone(&target), stop: Arc::clone(&stop), tell: tell.clone() };
        let work = move || {
            let result = cpu::pin(core).and_then(|()| drain.run());
            if result.is_err() {
                // If the floor is gone, nothing receives the error.
                let _ = tell.send(result);
            }
        };
        let thread = thread::Builder::new().name("floor-reader".to_owned()).spawn(work)?;
        Ok(Self { target, stop, done, thread: Some(thread) })
    }

    fn wait(&self) -> Result<()> {
        self.done
            .recv_timeout(TIMEOUT)
            .context("the reader of the floor measurement did not receive everything in time")?
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic of the reader has already been reported as a missing answer.
            let _ = thread.join();
        }
    }
}

struct Drain {
    sockets: Vec<TcpStream>,
    target: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    tell: SyncSender<Result<()>>,
}

impl Drain {
    fn run(mut self) -> Result<()> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(1_024);
        for (at, socket) in self.sockets.iter().enumerate() {
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(at), Interest::READABLE)?;
        }
        let mut buffer = vec![0; 256 << 10];
        let (mut received, mut told) = (0_u64, 0_u64);
        while !self.stop.load(Ordering::SeqCst) {
            sockets::wait(&mut poll, &mut events, Duration::from_millis(50))?;
            for event in &events {
                received += drain(&mut self.sockets[event.token().0], &mut buffer)?;
            }
            let target = self.target.load(Ordering::SeqCst);
            if received >= target && target > told {
                told = target;
                if self.tell.send(Ok(())).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Reads until nothing more is available; returns the number of bytes.
fn drain(socket: &mut TcpStream, buffer: &mut [u8]) -> Result<u64> {
    let mut total = 0;
    loop {
        match socket.read(buffer) {
            Ok(0) => return Ok(total),
            Ok(got) => total += got as u64,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(total),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e).context("cannot read over loopback"),
        }
        if total < buffer.len() as u64 {
            return Ok(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payloads;

    fn frames(size: usize, count: u64) -> Vec<Vec<u8>> {
        let payloads = Payloads::new(size, "u", Spread::All).unwrap();
        (0..count).map(|at| payloads.sealed(at).frame().to_vec()).collect()
    }

    const SHORT: Bounds = Bounds { time: Duration::from_secs(5), turns: 3 };

    #[test]
    fn every_turn_delivers_to_everybody() {
        let mut floor = Floor::new(5, Cores::ANY).unwrap();
        let measured = floor.measure(&frames(512, 4), Spread::All, SHORT).unwrap();
        assert_eq!((measured.turns, measured.deliveries), (3, 60));
        assert!(measured.cpu > Duration::ZERO && measured.micros() > 0.0);
        let again = floor.measure(&frames(1_024, 1), Spread::All, SHORT).unwrap();
        assert_eq!(again.deliveries, 15);
    }

    #[test]
    fn bursts_beyond_the_socket_buffers_are_finished() {
        let mut floor = Floor::new(2, Cores::ANY).unwrap();
        let measured = floor.measure(&frames(60_000, 200), Spread::All, SHORT).unwrap();
        assert_eq!(measured.deliveries, 1_200);
    }

    #[test]
    fn one_piece_of_all_frames_counts_for_each_of_them() {
        let mut floor = Floor::new(3, Cores::ANY).unwrap().joined(true);
        let measured = floor.measure(&frames(512, 4), Spread::All, SHORT).unwrap();
        assert_eq!(measured.deliveries, 12 * measured.turns);
        assert_eq!(floor.measure(&frames(512, 4), Spread::One { clients: 3 }, SHORT).unwrap().deliveries % 4, 0);
    }

    #[test]
    fn a_spread_burst_goes_to_one_each() {
        let mut floor = Floor::new(3, Cores::ANY).unwrap();
        let measured = floor.measure(&frames(512, 4), Spread::One { clients: 3 }, SHORT).unwrap();
        assert_eq!(measured.deliveries, 12);
        assert!(floor.measure(&[], Spread::All, SHORT).is_err());
    }

    #[test]
    fn a_rest_begins_in_the_middle_of_a_frame() {
        let frames = frames(512, 3);
        let burst = Burst::new(&frames, false);
        let whole: Vec<u8> = frames.iter().flatten().copied().collect();
        for from in [1, 515, 516, 517, 1_547] {
            let rest: Vec<u8> = burst.rest(from).iter().flat_map(|slice| slice.to_vec()).collect();
            assert_eq!(rest, whole[from..], "{from}");
        }
    }
}
