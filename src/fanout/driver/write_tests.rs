//! Tests in which order a round writes, with sockets that note when it is their turn.

use std::cell::RefCell;
use std::io::IoSlice;
use std::rc::Rc;

use mio::Registry;

use super::tests::parts_with;
use super::*;
use crate::event::Draft;
use crate::fanout::control::Newcomer;
use crate::fanout::permit::ConnectionLimit;
use crate::metrics::Source;
use crate::overflow::Overflow;
use crate::stats::OutboxLimits;
use crate::websocket::frame::Encoding;

/// The connections in the order in which they were written to.
type Tape = Rc<RefCell<Vec<usize>>>;

/// A socket that accepts everything, and notes that it was written to.
#[derive(Debug)]
struct Taped {
    conn: usize,
    tape: Tape,
}

impl Socket for Taped {
    type Accepted = Self;

    fn open(accepted: Self) -> io::Result<Self> {
        Ok(accepted)
    }

    fn bound_silence(&mut self, _: Duration) {}

    fn register(&mut self, _: &Registry, token: Token) -> io::Result<()> {
        self.conn = token.0;
        Ok(())
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }

    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write(&mut self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        self.tape.borrow_mut().push(self.conn);
        Ok(frames.iter().map(|frame| frame.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn is_plain(&self) -> bool {
        true
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns an event loop for sockets of this kind, and who may do everything. Its clock stands still, so that a turn
/// has time for everything.
pub(super) fn driver_of<S: Socket>(outbox: OutboxLimits) -> (Driver<S>, Identity) {
    clock::simulated::begin();
    let data = tempfile::tempdir().unwrap();
    let (_, parts, identity) = parts_with(data.path(), outbox);
    let Parts { poll, shard, parser, inbox, metrics, budget, number, authority, broker, .. } = parts;
    let Parts { load, review, drain, timing, connection_events, message_limit, epoch, .. } = parts;
    let control = crossbeam_channel::bounded(1).1;
    let driver = Driver::new(Parts::<S> {
        poll,
        shard,
        parser,
        inbox,
        control,
        metrics,
        budget,
        number,
        authority,
        broker,
        load,
        review,
        drain,
        timing,
        connection_events,
        message_limit,
        epoch,
    });
    (driver, identity)
}

/// Opens the next connection, registered for every event of Type `a`.
pub(super) fn adopt<S: Socket<Accepted = S>>(
    driver: &mut Driver<S>,
    identity: &Identity,
    socket: S,
    (encoding, overflow): (Encoding, Overflow),
) -> ConnId {
    let conn = ConnId(u32::try_from(driver.open).unwrap());
    driver.adopt(Newcomer {
        socket,
        head: None,
        early: bytes::Bytes::new(),
        encoding,
        identity: identity.clone(),
        rights: driver.parts.authority.rights(identity).unwrap(),
        overflow,
        peer: SocketAddr::from(([127, 0, 0, 1], u16::try_from(conn.0).unwrap())),
        since: None,
        registrations: Vec::new(),
        warnings: false,
        permit: ConnectionLimit::new(1, 0).admit().unwrap(),
    });
    driver.parts.shard.text(conn, "register a.*.*", clock::now());
    conn
}

/// A shard with a connection of each of these encodings, in this order.
fn shard_with(encodings: &[Encoding]) -> (Driver<Taped>, Tape) {
    let (mut driver, identity) = driver_of(OutboxLimits { bytes: 1 << 20, events: 1000 });
    let tape = Tape::default();
    for &encoding in encodings {
        let socket = Taped { conn: 0, tape: Rc::clone(&tape) };
        adopt(&mut driver, &identity, socket, (encoding, Overflow::Disconnect));
    }
    driver.run_turn(std::iter::empty(), Duration::ZERO);
    (driver, tape)
}

#[test]
fn a_round_writes_to_the_streams_last_and_to_everybody_once() {
    let (stream, lines, websocket, deflate) =
        (Encoding::EventStream, Encoding::Lines, Encoding::Plain, Encoding::Deflate);
    let encodings = [stream, websocket, lines, deflate, websocket];
    let (mut driver, tape) = shard_with(&encodings);
    let mut first: [Vec<usize>; 2] = Default::default();
    for _ in 0..6 {
        tape.borrow_mut().clear();
        driver.parts.broker.publish(vec![Draft::new("a", "b", "c").seal(clock::now())], Source::Post).unwrap();
        driver.run_turn(std::iter::empty(), Duration::ZERO);
        let written = tape.take();
        let (websockets, streams) = written.split_at(3);
        assert!(websockets.iter().all(|&conn| encodings[conn].is_websocket()), "{written:?}");
        assert!(streams.iter().all(|&conn| !encodings[conn].is_websocket()), "{written:?}");
        first[0].push(websockets[0]);
        first[1].push(streams[0]);
        let mut all = written.clone();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4], "each once");
    }
    for (mut first, kinds) in first.into_iter().zip([3, 2]) {
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), kinds, "each is the first of its kind at some time");
    }
}
