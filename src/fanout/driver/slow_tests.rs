//! Tests of clients that read slowly, with sockets that accept so many bytes in a second of a simulated clock.

use std::cell::RefCell;
use std::io::IoSlice;
use std::rc::Rc;

use mio::Registry;

use super::write_tests::{adopt, driver_of};
use super::*;
use crate::event::Draft;
use crate::metrics::Source;
use crate::overflow::Overflow;
use crate::stats::OutboxLimits;
use crate::websocket::frame::Encoding;

/// The time between two turns.
const STEP: Duration = Duration::from_millis(250);

/// Events in a step, and bytes of each.
const EVENTS: usize = 4;
const BYTES: usize = 1_000;

/// A tenth of what is sent.
const SLOW: usize = EVENTS * BYTES / 10;

const LIMITS: OutboxLimits = OutboxLimits { bytes: 64 << 10, events: 1_000 };

/// What a client has got and is about to send.
#[derive(Debug, Default)]
struct Client {
    /// Bytes that its socket accepts now.
    room: usize,
    /// What it has got of a frame.
    begun: Vec<u8>,
    pings: usize,
    /// The last byte of every pong.
    pongs: Vec<u8>,
    gaps: usize,
    is_tls: bool,
    is_mute: bool,
    input: Vec<u8>,
}

impl Client {
    /// Handles the whole frames that it has got, and answers pings.
    fn hear(&mut self) {
        while let Some(length) = length(&self.begun).filter(|length| *length <= self.begun.len()) {
            let frame: Vec<u8> = self.begun.drain(..length).collect();
            match frame[0] {
                0x89 => {
                    self.pings += 1;
                    self.send(0x8A, &[]);
                }
                0x8A => self.pongs.extend(frame.last()),
                _ => self.gaps += usize::from(String::from_utf8_lossy(&frame).contains("\"Action\":\"gap\"")),
            }
        }
    }

    fn send(&mut self, first: u8, payload: &[u8]) {
        if !self.is_mute {
            let length = 0x80 | u8::try_from(payload.len()).unwrap();
            self.input.extend([&[first, length, 0, 0, 0, 0], payload].concat());
        }
    }
}

/// Returns the length of a frame of the server, once its header is there.
fn length(begun: &[u8]) -> Option<usize> {
    let rest = begun.get(2..)?;
    Some(match begun[1] {
        127 => 10 + usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).unwrap(),
        126 => 4 + usize::from(u16::from_be_bytes(*rest.first_chunk()?)),
        short => 2 + usize::from(short),
    })
}

/// The socket of a client.
#[derive(Debug, Clone, Default)]
struct Trickle(Rc<RefCell<Client>>);

impl Socket for Trickle {
    type Accepted = Self;

    fn open(accepted: Self) -> io::Result<Self> {
        Ok(accepted)
    }

    fn bound_silence(&mut self, _: Duration) {}

    fn register(&mut self, _: &Registry, _: Token) -> io::Result<()> {
        Ok(())
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut client = self.0.borrow_mut();
        if client.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let sent = std::mem::take(&mut client.input);
        into[..sent.len()].copy_from_slice(&sent);
        Ok(sent.len())
    }

    fn write(&mut self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut client = self.0.borrow_mut();
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.to_vec()).take(client.room).collect();
        if bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // With TLS a write accepts a part of a large frame, and the next one as much.
        client.room -= if client.is_tls { 0 } else { bytes.len() };
        client.begun.extend(&bytes);
        client.hear();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn is_plain(&self) -> bool {
        !self.0.borrow().is_tls
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct World {
    driver: Driver<Trickle>,
    client: Trickle,
    conn: ConnId,
}

impl World {
    /// One connection, with the usual intervals.
    fn new(overflow: Overflow, outbox: OutboxLimits) -> Self {
        let (mut driver, identity) = driver_of(outbox);
        let client = Trickle::default();
        let conn = adopt(&mut driver, &identity, client.clone(), (Encoding::Plain, overflow));
        client.0.borrow_mut().room = usize::MAX;
        driver.run_turn(std::iter::empty(), Duration::ZERO);
        client.0.borrow_mut().room = 0;
        (driver.parts.timing.ping, driver.parts.timing.idle) = (Duration::from_secs(25), Duration::from_mins(1));
        (driver.tick, driver.next_tick) = (Duration::from_secs(1), clock::instant());
        Self { driver, client, conn }
    }

    fn post(&mut self, events: usize, bytes: usize) {
        let object = format!("\"{}\"", "x".repeat(bytes));
        let mut draft = Draft::new("a", "b", "c");
        draft.object = &object;
        let events = (0..events).map(|_| draft.clone().seal(clock::now())).collect();
        self.driver.parts.broker.publish(events, Source::Post).unwrap();
    }

    /// Lets the client read so many bytes.
    fn step(&mut self, bytes: usize) {
        clock::simulated::pass(STEP);
        self.client.0.borrow_mut().room += bytes;
        let ready = Ready { conn: self.conn, writable: bytes > 0, readable: true };
        self.driver.run_turn(std::iter::once(ready), STEP);
    }

    fn is_closing(&mut self) -> bool {
        self.driver.parts.shard.fanout().is_closing(self.conn)
    }
}

/// The number of steps in this time.
fn steps(time: Duration) -> usize {
    usize::try_from(time.as_millis() / STEP.as_millis()).unwrap()
}

const TEN_MINUTES: Duration = Duration::from_mins(10);

/// It is pinged in time, and so are its own pings answered.
#[test]
fn a_client_that_reads_a_tenth_of_its_events_is_not_silent() {
    let mut world = World::new(Overflow::DropOldest, LIMITS);
    for step in 0..steps(TEN_MINUTES) {
        if step % steps(Duration::from_secs(20)) == 0 {
            let number = u8::try_from(step / steps(Duration::from_secs(20))).unwrap();
            world.client.0.borrow_mut().send(0x89, &[number]);
        }
        world.post(EVENTS, BYTES);
        world.step(SLOW);
        assert!(!world.is_closing(), "after {:?}", STEP * u32::try_from(step).unwrap());
    }
    let client = world.client.0.borrow();
    assert_eq!(client.pongs, (0..30).collect::<Vec<u8>>(), "every ping is answered");
    assert!((23..=24).contains(&client.pings) && client.gaps > 100, "{} pings, {} gaps", client.pings, client.gaps);
}

/// However many of its answers do not arrive. One that reads no more is gone, and one that follows has no need of this.
#[test]
fn that_a_client_makes_room_in_its_socket_is_a_sign_of_life() {
    let mut world = World::new(Overflow::DropOldest, LIMITS);
    world.client.0.borrow_mut().is_mute = true;
    // Until there is a gap.
    for _ in 0..steps(Duration::from_secs(30)) {
        world.post(EVENTS, BYTES);
        world.step(SLOW);
    }
    for _ in 0..steps(TEN_MINUTES) {
        world.post(EVENTS, BYTES);
        world.step(SLOW);
        assert!(!world.is_closing());
    }
    for _ in 0..steps(Duration::from_secs(58)) {
        world.post(EVENTS, BYTES);
        world.step(0);
    }
    assert!(!world.is_closing(), "a minute has not passed");
    (0..steps(Duration::from_secs(4))).for_each(|_| world.step(0));
    assert!(world.is_closing());
    let mut world = World::new(Overflow::DropOldest, LIMITS);
    world.client.0.borrow_mut().is_mute = true;
    for _ in 0..steps(Duration::from_secs(62)) {
        world.post(EVENTS, BYTES);
        world.step(10 * EVENTS * BYTES);
    }
    assert!(world.is_closing() && world.client.0.borrow().gaps == 0);
}

/// It gets the pings behind what it has yet to read, or none if there is no room for them.
#[test]
fn a_client_that_takes_minutes_to_read_a_burst_is_not_silent() {
    for (overflow, is_mute) in [Overflow::Disconnect, Overflow::Conflate]
        .into_iter()
        .flat_map(|overflow| [false, true].map(|is_mute| (overflow, is_mute)))
    {
        let mut world = World::new(overflow, OutboxLimits { bytes: 1 << 20, ..LIMITS });
        world.client.0.borrow_mut().is_mute = is_mute;
        world.post(500, BYTES);
        for _ in 0..steps(Duration::from_mins(5)) {
            world.step(SLOW);
            assert!(!world.is_closing(), "{overflow:?} {is_mute}");
        }
        (0..steps(Duration::from_secs(58))).for_each(|_| world.step(0));
        assert!(!world.is_closing(), "a minute has not passed");
        (0..steps(Duration::from_secs(4))).for_each(|_| world.step(0));
        assert!(world.is_closing(), "it reads no more");
    }
}

/// The socket of a TLS client that reads fast is never known to be full. Each write takes a part of a large frame, and
/// behind that is room.
#[test]
fn events_do_not_wait_until_a_large_one_is_written_over_tls() {
    for (overflow, bytes) in [
        (Overflow::Disconnect, 100 << 10),
        (Overflow::DropOldest, 100 << 10),
        (Overflow::Conflate, 100 << 10),
        (Overflow::Conflate, 24 << 10),
    ] {
        let mut world = World::new(overflow, OutboxLimits { events: 100_000, ..LIMITS });
        world.client.0.borrow_mut().is_tls = true;
        world.post(1, bytes);
        world.step(1_000);
        assert!(world.driver.parts.shard.fanout().depth(world.conn).bytes > bytes - 5_000, "it is begun");
        // A conflating outbox has room for the events of one turn behind it.
        for events in 2..if overflow == Overflow::Conflate { 3 } else { 6 } {
            world.post(1, BYTES);
            assert!(world.driver.parts.shard.fanout().all_have_room(1, BYTES), "{overflow:?} {bytes}");
            world.step(0);
            assert!(!world.driver.has_events(), "{overflow:?} {bytes}");
            let fanout = world.driver.parts.shard.fanout();
            assert!(fanout.totals(world.conn) == (0, 0) && !fanout.is_closing(world.conn));
            assert_eq!(fanout.depth(world.conn).events, events);
        }
    }
}
