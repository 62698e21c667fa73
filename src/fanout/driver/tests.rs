//! Tests what one turn does and what it leaves for the next, with real sockets and without a thread.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::turn::{ERRANDS, FORGOTTEN, KEPT, LISTED, MOVED, NAMES, READ_TIME, REVIEWED};
use super::*;
use crate::auth::{AuthOptions, Credential, Principal, Secret, TokenRequest};
use crate::broker::history::{History, HistoryLimits};
use crate::broker::inbox::InboxLimits;
use crate::fanout::control::{Newcomer, Wanted};
use crate::fanout::outbox::Frame;
use crate::fanout::permit::ConnectionLimit;
use crate::fanout::pool::{Port, ShardSettings, shard};
use crate::fanout::socket::Accepted;
use crate::fanout::spec_parser::{Job, Work};
use crate::index;
use crate::metrics::{Metrics, Source};
use crate::overflow::Overflow;
use crate::stats::OutboxLimits;
use crate::websocket::deflate::Deflater;
use crate::websocket::frame::{self, Encoding};

#[path = "archived_tests.rs"]
mod archived_tests;

#[path = "incomplete_tests.rs"]
mod incomplete_tests;

const HOUR: Duration = Duration::from_hours(1);

struct World {
    driver: Driver,
    _port: Port,
    identity: Identity,
    listener: TcpListener,
    data: tempfile::TempDir,
}

/// Everything that a shard's thread is given, with a store of users in this directory; and who may do everything.
pub(in crate::fanout) fn parts(data: &std::path::Path) -> (Port, Parts, Identity) {
    parts_with(data, OutboxLimits { bytes: 1 << 20, events: 1000 })
}

pub(super) fn parts_with(data: &std::path::Path, outbox: OutboxLimits) -> (Port, Parts, Identity) {
    let (authority, _) = Authority::open(data, AuthOptions::default()).unwrap();
    let credential = Credential::Basic { user: "rocketskates".to_owned(), password: Secret::new("r0cketsk8ts") };
    let identity = authority.authenticate(&credential, IpAddr::V4(Ipv4Addr::LOCALHOST), crate::clock::both()).unwrap();
    let history = History::new(HistoryLimits { events: 100, bytes: 1 << 20 }, 1, crate::clock::now());
    let epoch = crate::clock::instant();
    let broker = Arc::new(Broker::new(Arc::new(Metrics::new()), epoch, history));
    let (ping, idle, close) = (HOUR, HOUR, HOUR);
    let settings = ShardSettings {
        index: index::Limits::default(),
        outbox,
        total_bytes: 1 << 30,
        inbox: InboxLimits { events: 1000, bytes: 1 << 20 },
        deflate: None,
        message_bytes: 64 << 10,
        timing: Timing { ping, idle, close, age: None, close_on_token_expiry: false },
        connection_events: false,
    };
    let budget = Arc::new(Budget::new(settings.total_bytes, 1));
    let (port, parts) = shard(0, &settings, &budget, &broker, &Arc::new(authority), epoch).unwrap();
    (port, parts, identity)
}

impl World {
    fn new() -> Self {
        Self::with_outboxes(OutboxLimits { bytes: 1 << 20, events: 1000 })
    }

    /// The clock stands still, so that however slow the machine is a turn has time for everything within its limits.
    fn with_outboxes(limits: OutboxLimits) -> Self {
        crate::clock::simulated::begin();
        let data = tempfile::tempdir().unwrap();
        let (port, parts, identity) = parts_with(data.path(), limits);
        let mut driver = Driver::new(parts);
        driver.next_tick = crate::clock::instant() + HOUR;
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        Self { driver, _port: port, identity, listener, data }
    }

    /// Opens a connection and returns it with the client's end.
    fn connect(&mut self) -> (ConnId, TcpStream) {
        self.connect_from(None)
    }

    /// Opens a connection that requests all retained events.
    fn connect_since(&mut self) -> (ConnId, TcpStream) {
        let history = self.driver.parts.broker.history();
        let since = "2000-01-01T00:00:00Z";
        let start = history.resolve(since.parse().unwrap(), since, crate::clock::now()).unwrap();
        self.connect_from(Some(start))
    }

    fn connect_from(&mut self, since: Option<crate::broker::history::Start>) -> (ConnId, TcpStream) {
        let (newcomer, client) = self.newcomer();
        (self.adopt(Newcomer { since, ..newcomer }).unwrap(), client)
    }

    /// Returns the number of the connection, unless it is refused.
    fn adopt(&mut self, newcomer: Newcomer) -> Option<ConnId> {
        let peer = newcomer.peer;
        self.driver.adopt(newcomer);
        let is_it = |entry: &Option<Conn<Link>>| entry.as_ref().is_some_and(|entry| entry.peer == peer);
        let at = self.driver.conns.iter().position(is_it)?;
        Some(ConnId(u32::try_from(at).unwrap()))
    }

    fn newcomer(&self) -> (Newcomer, TcpStream) {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = self.listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let permit = ConnectionLimit::new(usize::MAX, 0).admit().unwrap();
        let (registrations, overflow) = (Vec::new(), Overflow::Disconnect);
        let (early, encoding, identity) = (bytes::Bytes::new(), Encoding::Plain, self.identity.clone());
        let newcomer = Newcomer {
            socket: Accepted { stream, tls: None },
            head: None,
            early,
            encoding,
            rights: self.driver.parts.authority.rights(&identity).unwrap(),
            identity,
            overflow,
            peer,
            since: None,
            registrations,
            warnings: true,
            permit,
        };
        (newcomer, client)
    }

    fn entry(&mut self, conn: ConnId) -> &mut Conn<Link> {
        self.driver.conn(conn).unwrap()
    }

    fn turn(&mut self) {
        self.driver.run_turn(std::iter::empty(), Duration::ZERO);
    }

    fn registrations(&self, conn: ConnId) -> usize {
        self.driver.parts.shard.registrations(conn)
    }
}

/// Otherwise the events of a shard that was stuck would wait until all inboxes are empty at once.
#[test]
fn events_about_connections_find_room_beside_others_however_many_wait() {
    let mut world = World::new();
    let event = |kind: &str| crate::event::Draft::new(kind, "a", "k").seal(crate::clock::now());
    world.driver.pending_events = (0..1500).map(|_| event("connections")).collect();
    world.driver.parts.broker.publish(vec![event("others")], Source::Post).unwrap();
    (0..100).for_each(|_| world.driver.announce_pending());
    assert_eq!((world.driver.parts.inbox.waiting(), world.driver.pending_events.len()), (1000, 1500 - 999));
    (0..100).for_each(|_| world.turn());
    assert!(world.driver.pending_events.is_empty());
}

#[test]
fn an_idle_connection_is_small() {
    // Debug assertions add eight bytes to a socket of mio.
    let size = size_of::<Option<Conn<Link>>>() - if cfg!(debug_assertions) { 8 } else { 0 };
    assert!(size <= 264, "{size} bytes of each idle connection");
}

#[test]
fn the_thread_does_not_sleep_over_a_command_whose_place_has_come() {
    let mut world = World::new();
    let (conn, _client) = world.connect();
    world.turn();
    assert!(world.driver.timeout() > HOUR / 2, "nothing is to be done");
    world.driver.held.push_back((1, conn));
    assert!(world.driver.timeout() > HOUR / 2, "its place has not come");
    world.driver.parts.shard.set_position(1);
    assert_eq!(world.driver.timeout(), Duration::ZERO);
}

/// The number of a connection may be reused before its queued command is due.
#[test]
fn what_was_noted_of_a_connection_that_is_gone_moves_no_other() {
    let mut world = World::new();
    let (gone, _client) = world.connect();
    world.driver.held.push_back((0, gone));
    world.driver.vanish(gone);
    let (conn, _other) = world.connect();
    assert_eq!(conn, gone, "numbers are used again");
    world.turn();
    let entry = world.entry(conn);
    (entry.input, entry.mark) = (Input::Held, 100);
    entry.command = Some(Box::new(HeldCommand::Waits("register a.b.c".to_owned())));
    world.driver.queue.push_back(conn);
    world.driver.held.push_front((0, conn));
    world.turn();
    assert!(world.entry(conn).command.is_some() && world.registrations(conn) == 0, "its place has not come");
    world.driver.parts.parser.submit(Job {
        conn,
        ticket: 0,
        principal: world.identity.principal().clone(),
        work: Work::Parse("register a.b.d".to_owned()),
    });
    world.driver.parsing += 1;
    while world.driver.parsing > 0 {
        world.turn();
    }
    assert_eq!(world.registrations(conn), 0, "nor was it another's");
    world.driver.parts.shard.set_position(100);
    world.driver.held.push_front((100, conn));
    world.turn();
    assert_eq!(world.registrations(conn), 1);
}

/// Events and commands of other connections continue while a registration is parsed; the connection's own commands wait
/// and keep their order.
#[test]
fn a_registration_that_takes_long_to_read_is_read_beside_the_shard() {
    let mut world = World::new();
    let (conn, mut client) = world.connect();
    let (other, mut stranger) = world.connect();
    world.turn();
    let commands = ["register a.b.c.N=Re(^x)", "register a.b.d", "deregister a.b.c.N=Re(^x)"];
    for command in commands {
        client.write_all(&frame::from_client(command)).unwrap();
    }
    world.driver.enqueue(conn);
    while world.entry(conn).input != Input::Parsing {
        world.driver.enqueue(conn);
        world.driver.read_queued();
    }
    assert_eq!(world.registrations(conn), 0, "and the second waits behind it");
    stranger.write_all(&frame::from_client("register a.b.e")).unwrap();
    while world.registrations(other) == 0 {
        world.driver.enqueue(other);
        world.driver.read_queued();
        // Parsed registrations of the connection are not executed yet.
        world.driver.queue.retain(|queued| *queued != conn);
    }
    while world.driver.parsing > 0 || world.registrations(conn) != 1 {
        if world.entry(conn).input == Input::Queued && world.driver.queue.is_empty() {
            world.driver.queue.push_back(conn);
        }
        world.turn();
    }
    world.turn();
    let mut text = Vec::new();
    client.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let mut chunk = [0; 4096];
    while text.windows(8).filter(|part| part == b"\"Action\"").count() < 3 {
        let got = client.read(&mut chunk).unwrap();
        text.extend_from_slice(&chunk[..got]);
    }
    let text = String::from_utf8_lossy(&text);
    let places = ["\"register\",\"Key\":\"a.b.c.", "\"register\",\"Key\":\"a.b.d", "\"deregister\",\"Key\":\"a.b.c."];
    assert!(places.map(|part| text.find(part).unwrap()).is_sorted(), "{text}");
}

/// Returns a frame as a client writes it, with this first byte and a mask of zeros.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; frame::HEADER_ROOM];
    let length = frame::text_header(payload.len(), Encoding::Plain, &mut header);
    (header[0], header[1]) = (first, header[1] | 0x80);
    [&header[..length], &[0; 4], payload].concat()
}

/// Returns a text message of many empty deflate blocks with these bytes behind them.
fn in_many_blocks(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let stored = [&[0][..], &length.to_le_bytes(), &(!length).to_le_bytes(), text, &[0]].concat();
    client_frame(0xC1, &[[0, 0, 0, 0xFF, 0xFF].repeat(1000), stored].concat())
}

/// Returns a text message of this length that deflates to few bytes.
fn bomb(prefix: &str, length: usize) -> Vec<u8> {
    let text = format!("{prefix}{}", "x".repeat(length - prefix.len()));
    let frame = Deflater::new(1).frame(text.as_bytes()).unwrap();
    assert!(frame.len() < 1000);
    client_frame(0xC1, &frame[if frame[1] == 126 { 4 } else { 2 }..])
}

/// Opens a connection that negotiated compression, whose client sends this, and reads until another thread decodes it.
fn decode_elsewhere(world: &mut World, message: &[u8]) -> (ConnId, TcpStream) {
    let (conn, mut client) = world.connect();
    world.turn();
    world.entry(conn).validator = FrameValidator::new(Encoding::Deflate);
    client.write_all(message).unwrap();
    while world.entry(conn).input != Input::Parsing {
        let is_open = !world.driver.parts.shard.fanout().is_closing(conn);
        assert!(is_open && world.registrations(conn) == 0, "it was decoded on the shard's thread");
        world.driver.enqueue(conn);
        world.driver.read_queued();
    }
    (conn, client)
}

/// Empty blocks and fragments take a few bytes each, and a few bytes may inflate to many.
#[test]
fn a_message_that_takes_long_to_decode_is_decoded_beside_the_shard() {
    let command = "register a.b.c";
    let fragments =
        [client_frame(0x01, command.as_bytes()), client_frame(0, b"").repeat(1000), client_frame(0x80, b"")];
    for message in [in_many_blocks(command.as_bytes()), fragments.concat(), bomb("register a.b.", 20_000)] {
        let mut world = World::new();
        let then = frame::from_client("register a.b.d");
        let (conn, _client) = decode_elsewhere(&mut world, &[message, then].concat());
        while world.driver.parsing > 0 || world.registrations(conn) < 2 {
            assert!(!world.driver.parts.shard.fanout().is_closing(conn));
            world.turn();
        }
    }
}

#[test]
fn a_message_that_cannot_be_decoded_elsewhere_closes_its_connection() {
    let garbled = client_frame(0xC1, &[0xFF; 2000]);
    for (message, expected) in
        [(garbled, Close::BadDeflate), (bomb("", 65_537), Close::TooBig), (in_many_blocks(b"\xFF"), Close::BadUtf8)]
    {
        let mut world = World::new();
        let (conn, _client) = decode_elsewhere(&mut world, &message);
        while !world.driver.parts.shard.fanout().is_closing(conn) {
            world.turn();
        }
        world.driver.note_closing();
        assert_eq!(world.entry(conn).ending.as_ref().map(|ending| ending.reason), Some(expected));
    }
}

/// A command that was decoded elsewhere waits for the events before it, like any other.
#[test]
fn a_decoded_command_keeps_its_place_among_the_events() {
    let mut world = World::new();
    let (conn, _client) = decode_elsewhere(&mut world, &in_many_blocks(b"register a.b.c"));
    world.entry(conn).mark = 100;
    while world.entry(conn).input != Input::Held {
        world.turn();
    }
    assert_eq!((world.registrations(conn), world.driver.held.back()), (0, Some(&(100, conn))));
    world.driver.parts.shard.set_position(100);
    world.turn();
    assert_eq!(world.registrations(conn), 1);
}

impl World {
    /// Publishes events with these keys and the type and action `a.b`.
    fn publish(&self, keys: std::ops::Range<usize>) {
        let event = |n: usize| crate::event::Draft::new("a", "b", &n.to_string()).seal(crate::clock::now());
        self.driver.parts.broker.publish(keys.map(event).collect(), Source::Post).unwrap();
    }

    /// Publishes five events, has a command read after them and five more, and runs turns until it is executed.
    fn command_among_events(&mut self, (conn, client): (ConnId, &mut TcpStream), command: &str, first: usize) {
        let before = self.registrations(conn);
        self.publish(first..first + 5);
        client.write_all(&frame::from_client(command)).unwrap();
        while self.entry(conn).input != Input::Held && self.registrations(conn) == before {
            self.driver.enqueue(conn);
            self.driver.read_queued();
        }
        self.publish(first + 5..first + 10);
        while self.registrations(conn) == before {
            self.turn();
        }
    }
}

/// What is sequenced after a command was read and before it is answered may be delivered or not.
#[test]
fn a_command_takes_effect_between_the_events_before_it_was_read_and_those_after_its_answer() {
    let mut world = World::new();
    let (conn, mut client) = world.connect();
    world.turn();
    world.command_among_events((conn, &mut client), "register a.b.*", 0);
    world.publish(10..20);
    world.turn();
    world.command_among_events((conn, &mut client), "deregister a.b.*", 20);
    world.publish(30..40);
    (0..3).for_each(|_| world.turn());
    world.driver.parts.shard.close(conn, Close::Draining);
    let mut got = Vec::new();
    client.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let mut chunk = [0; 4096];
    while !got.ends_with(b"shutting down") {
        world.turn();
        let bytes = client.read(&mut chunk).unwrap();
        got.extend_from_slice(&chunk[..bytes]);
    }
    let text = String::from_utf8_lossy(&got);
    let keys: Vec<&str> = text.split(r#""Key":""#).skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let numbers: Vec<usize> = keys.iter().filter_map(|key| key.parse().ok()).collect();
    let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
    assert!((5..=10).contains(&first) && (24..=29).contains(&last), "{keys:?}");
    assert!((first..=last).eq(numbers), "{keys:?}");
    assert_eq!((keys[0], keys[keys.len() - 1]), ("a.b.*", "a.b.*"), "{keys:?}");
}

#[test]
fn a_turn_keeps_time_of_some_connections_and_all_get_theirs() {
    let mut world = World::new();
    let clients: Vec<_> = (0..KEPT + 10).map(|_| world.connect()).collect();
    world.turn();
    let now = crate::clock::instant();
    for (conn, _) in &clients {
        world.entry(*conn).ending = Some(Box::new(Ending { reason: Close::Silent, deadline: now }));
    }
    world.driver.next_tick = now;
    world.turn();
    assert_eq!((world.driver.lost.len(), world.driver.open), (KEPT, KEPT + 10), "{KEPT} a turn");
    assert_eq!(world.driver.timeout(), Duration::ZERO, "the next one begins at once");
    world.turn();
    assert_eq!(world.driver.open, KEPT + 10 - FORGOTTEN, "and some of them go in one");
    (0..KEPT / FORGOTTEN + 2).for_each(|_| world.turn());
    assert_eq!(world.driver.open, 0);
    assert!(world.driver.timeout() > Duration::ZERO);
}

/// A client measures the silence of the server by its own clock, so pings come in time however long the turns of an
/// overloaded shard take. The client's silence is measured by how long the shard has listened.
#[test]
fn an_overloaded_shard_pings_in_time_and_closes_nobody_who_is_silent_meanwhile() {
    let mut world = World::new();
    let second = Duration::from_secs(1);
    world.driver.parts.epoch = crate::clock::instant();
    (world.driver.parts.timing.ping, world.driver.parts.timing.idle) = (second, 3 * second);
    (world.driver.tick, world.driver.next_tick) = (second / 4, crate::clock::instant());
    let (conn, mut client) = world.connect();
    world.turn();
    for _ in 0..8 {
        crate::clock::simulated::pass(2 * second);
        world.turn();
    }
    world.turn();
    assert_eq!(heard(&mut client, 16), [0x89, 0].repeat(8), "one in each turn of two seconds");
    assert!(!world.driver.parts.shard.fanout().is_closing(conn));
}

#[test]
fn a_turn_lists_some_connections_and_the_list_is_whole() {
    let mut world = World::new();
    let clients: Vec<_> = (0..LISTED + 10).map(|_| world.connect()).collect();
    world.turn();
    let (reply, mut list) = tokio::sync::oneshot::channel();
    let (gone, _) = tokio::sync::oneshot::channel();
    let (reply_found, mut found) = tokio::sync::oneshot::channel();
    let (reply_none, mut none) = tokio::sync::oneshot::channel();
    let (conn, client) = &clients[LISTED + 5];
    world.driver.list(None, gone);
    world.driver.list(None, reply);
    world.driver.look_for(Wanted::at(client.local_addr().unwrap()), reply_found);
    world.driver.look_for(Wanted::at(world.listener.local_addr().unwrap()), reply_none);
    world.turn();
    assert!(list.try_recv().is_err() && world.driver.timeout() == Duration::ZERO);
    assert!(found.try_recv().is_err(), "nor is one looked for among all at once");
    (0..4).for_each(|_| world.turn());
    assert_eq!(list.try_recv().unwrap().iter().flatten().count(), LISTED + 10);
    assert_eq!((found.try_recv().unwrap(), none.try_recv().unwrap()), (Some(*conn), None));
    assert!(world.driver.errands.is_empty());
}

/// Whoever asks has found it, in a visit to all.
#[test]
fn a_connection_that_was_found_is_reported_on_and_closed_without_a_visit_to_others() {
    let mut world = World::new();
    let clients: Vec<_> = (0..LISTED + 10).map(|_| world.connect()).collect();
    let (conn, other) = (clients[LISTED + 5].0, clients[0].0);
    let peer = clients[LISTED + 5].1.local_addr().unwrap();
    let mut ask = |conn| {
        let (inspected, mut inspection) = tokio::sync::oneshot::channel();
        world.driver.look_into(conn, Wanted::at(peer), inspected);
        world.turn();
        let (ended, mut end) = tokio::sync::oneshot::channel();
        world.driver.end_one(conn, &Wanted::at(peer), ended);
        let inspection = inspection.try_recv().unwrap().map(|inspection| inspection.connection.remote_addr);
        (inspection, end.try_recv().unwrap().map(|connection| connection.remote_addr))
    };
    assert_eq!(ask(other), (None, None), "its number may be that of another one now");
    assert_eq!(ask(conn), (Some(peer), Some(peer)));
    let fanout = world.driver.parts.shard.fanout();
    assert!(fanout.is_closing(conn) && !fanout.is_closing(other));
}

#[test]
fn a_turn_reports_on_the_registrations_of_one_connection() {
    let mut world = World::new();
    let clients = [world.connect(), world.connect()];
    let mut replies: Vec<_> = (0..64)
        .map(|n| {
            let (reply, inspection) = tokio::sync::oneshot::channel();
            let (conn, client) = &clients[n % 2];
            world.driver.look_into(*conn, Wanted::at(client.local_addr().unwrap()), reply);
            inspection
        })
        .collect();
    for answered in 0..64 {
        assert_eq!(replies.iter_mut().filter_map(|reply| reply.try_recv().ok()?).count(), usize::from(answered > 0));
        world.turn();
    }
    assert!(world.driver.errands.is_empty());
}

#[test]
fn a_list_beyond_the_queue_of_lists_fails_at_once_and_none_is_cut() {
    let mut world = World::new();
    let _client = world.connect();
    let mut lists: Vec<_> = (0..=ERRANDS)
        .map(|_| {
            let (reply, list) = tokio::sync::oneshot::channel();
            world.driver.list(None, reply);
            list
        })
        .collect();
    let closed = Some(tokio::sync::oneshot::error::TryRecvError::Closed);
    let beyond = lists[ERRANDS].try_recv().err();
    assert_eq!(beyond, closed, "its caller is told");
    assert_ne!(lists[ERRANDS - 1].try_recv().err(), closed, "this one waits");
    (0..=ERRANDS / LISTED * 2).for_each(|_| world.turn());
    assert_eq!(lists[ERRANDS - 1].try_recv().unwrap().iter().flatten().count(), 1);
}

#[test]
fn a_turn_reviews_the_rights_of_some_connections_and_all_get_theirs() {
    let mut world = World::new();
    let clients: Vec<_> = (0..REVIEWED + 10).map(|_| world.connect()).collect();
    world.turn();
    let revoked = |world: &mut World| {
        let fanout = world.driver.parts.shard.fanout();
        clients.iter().filter(|(conn, _)| fanout.is_closing(*conn)).count()
    };
    crate::auth::edit_store(world.data.path(), |store| {
        store.add_user("other", crate::auth::PasswordHash::make("a-long-password")?, &["superuser".to_owned()])?;
        store.remove_user("rocketskates")
    })
    .unwrap();
    world.driver.parts.authority.reload().unwrap();
    world.driver.parts.review.store(true, Ordering::Release);
    world.turn();
    assert_eq!(revoked(&mut world), REVIEWED);
    assert_eq!(world.driver.timeout(), Duration::ZERO);
    world.turn();
    assert_eq!(revoked(&mut world), REVIEWED + 10);
}

/// Those of a token take milliseconds to compile.
#[test]
fn rights_are_looked_up_again_only_if_any_have_changed_since_the_handshake() {
    let mut world = World::new();
    let other = world.identity_of_another();
    let (newcomer, _client) = world.newcomer();
    // These show that nothing is looked up.
    let rights = world.driver.parts.authority.rights(&other).unwrap();
    let conn = world.adopt(Newcomer { rights: rights.clone(), ..newcomer }).unwrap();
    let is_everything = |world: &World, conn| world.driver.parts.shard.access_of(conn).unwrap().is_everything();
    assert!(!is_everything(&world, conn));
    let (newcomer, _later) = world.newcomer();
    let (of_other, _other) = world.newcomer();
    let of_other = Newcomer { identity: other, rights: rights.clone(), ..of_other };
    crate::auth::edit_store(world.data.path(), |store| store.remove_user("other")).unwrap();
    world.driver.parts.authority.reload().unwrap();
    let conn = world.adopt(Newcomer { rights, ..newcomer }).unwrap();
    assert!(is_everything(&world, conn));
    assert_eq!(world.adopt(of_other), None, "its user is gone");
}

/// Users choose the restrictions of their tokens, and rights are compiled anew when any rights change.
#[test]
fn a_turn_reviews_so_many_names_of_tokens_and_no_more() {
    let mut world = World::new();
    let authority = Arc::clone(&world.driver.parts.authority);
    let narrow = |n: usize| {
        let keys: Vec<String> = (0..255).map(|key| format!("{n}-{key}")).collect();
        let request =
            TokenRequest { specific: Some(keys.join(",")), scope: Some("a".to_owned()), ..Default::default() };
        let (root, now) = (Principal::user("rocketskates").unwrap(), crate::clock::both());
        let token = authority.issue_local(&root, &request, now.wall).unwrap().token;
        authority.authenticate(&Credential::Bearer(token), IpAddr::V4(Ipv4Addr::LOCALHOST), now).unwrap()
    };
    let most = NAMES / 256;
    let _clients: Vec<_> = (0..most + 10)
        .map(|n| {
            world.identity = narrow(n);
            world.connect()
        })
        .collect();
    // Equal rights are compiled once.
    let _equal: Vec<_> = (0..most).map(|_| world.connect()).collect();
    world.driver.parts.review.store(true, Ordering::Release);
    world.turn();
    assert_eq!(world.driver.reviewing.as_ref().unwrap().next, most);
    world.turn();
    assert!(world.driver.reviewing.is_none());
}

#[test]
fn a_command_that_waits_for_its_place_is_answered_before_the_server_ends() {
    let mut world = World::new();
    let (conn, mut client) = world.connect();
    world.turn();
    let event = crate::event::Draft::new("a", "b", "c").seal(crate::clock::now());
    world.driver.parts.broker.publish(vec![event], Source::Post).unwrap();
    client.write_all(&frame::from_client("register a.b.c")).unwrap();
    while world.entry(conn).command.is_none() {
        world.driver.enqueue(conn);
        world.driver.read_queued();
    }
    world.driver.drain(crate::clock::instant() + HOUR);
    (0..3).for_each(|_| world.turn());
    client.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let mut chunk = [0; 4096];
    let got = client.read(&mut chunk).unwrap();
    let text = String::from_utf8_lossy(&chunk[..got]);
    assert!(text.contains(r#""Action":"register","Key":"a.b.c""#), "{text}");
}

/// Messages of others may take all the time of the turn in which it comes back.
#[test]
fn a_command_that_was_parsed_is_answered_before_the_server_ends() {
    let mut world = World::new();
    let [parser, of_shard] = SpecParser::without_thread();
    world.driver.parts.parser = of_shard;
    let [(conn, mut client), (other, _silent)] = [world.connect(), world.connect()];
    world.turn();
    client
        .write_all(&[frame::from_client("register a.b.c.N=Re(^x)"), frame::from_client("register a.b.d")].concat())
        .unwrap();
    while world.entry(conn).command.is_none() {
        world.driver.enqueue(conn);
        world.driver.read_queued();
    }
    world.driver.drain(crate::clock::instant() + HOUR);
    assert!(parser.parse_next(&index::Limits::default().filter));
    // A turn has time for one connection.
    crate::clock::simulated::set_step(2 * READ_TIME);
    (0..10).for_each(|_| {
        world.driver.enqueue(other);
        world.turn();
    });
    client.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let mut got = Vec::new();
    let mut chunk = [0; 4096];
    while !got.ends_with(b"shutting down") {
        let bytes = client.read(&mut chunk).unwrap();
        got.extend_from_slice(&chunk[..bytes]);
    }
    let text = String::from_utf8_lossy(&got);
    for spec in ["a.b.c.N=Re(^x)", "a.b.d"] {
        assert!(text.contains(&format!(r#""Action":"register","Key":"{spec}""#)), "{text}");
    }
}

impl World {
    /// Returns the rights of a user without a role.
    fn access_of_another(&self) -> Arc<crate::auth::Access> {
        self.driver.parts.authority.access(&self.identity_of_another()).unwrap()
    }

    /// Returns a user without a role.
    fn identity_of_another(&self) -> Identity {
        crate::auth::edit_store(self.data.path(), |store| {
            store.add_user("other", crate::auth::PasswordHash::make("a-long-password")?, &[])
        })
        .unwrap();
        let authority = &self.driver.parts.authority;
        authority.reload().unwrap();
        let credential = Credential::Basic { user: "other".to_owned(), password: Secret::new("a-long-password") };
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        authority.authenticate(&credential, peer, crate::clock::both()).unwrap()
    }

    /// Opens a connection with this many registrations.
    fn registered(&mut self, registrations: usize) -> (ConnId, TcpStream) {
        let (conn, client) = self.connect();
        for n in 0..registrations {
            self.driver.parts.shard.text(conn, &format!("register a.b.{n}"), crate::clock::now());
        }
        (conn, client)
    }
}

#[test]
fn a_turn_forgets_some_of_the_connections_that_are_cut_at_once() {
    let mut world = World::new();
    let clients: Vec<_> = (0..FORGOTTEN + 3).map(|_| world.registered(2)).collect();
    clients.iter().for_each(|(conn, _)| world.driver.lose(*conn));
    assert_eq!(world.driver.open, FORGOTTEN + 3, "none while it is written to");
    world.turn();
    assert_eq!(world.driver.open, 3);
    assert_eq!(world.driver.timeout(), Duration::ZERO);
    // One is forgotten for another reason meanwhile, and its number is reused for another connection.
    let gone = clients[FORGOTTEN + 2].0;
    world.driver.vanish(gone);
    let (conn, _client) = world.connect();
    assert_eq!(conn, gone);
    (0..5).for_each(|_| world.turn());
    assert_eq!(world.driver.open, 1, "the other one stays");
}

#[test]
fn registrations_of_connections_that_are_closed_at_once_leave_by_and_by() {
    let mut world = World::new();
    let clients: Vec<_> = (0..10).map(|_| world.registered(MOVED / 2)).collect();
    for (conn, _) in &clients[..5] {
        world.driver.parts.shard.close(*conn, Close::Deleted);
    }
    let left = |world: &mut World| world.driver.parts.shard.take_size().registrations;
    assert_eq!(left(&mut world), 10 * MOVED / 2);
    world.driver.parts.shard.let_go(MOVED / 4);
    let first = left(&mut world);
    assert!(first < 10 * MOVED / 2 && first > 9 * MOVED / 2, "not even those of one connection at once: {first}");
    assert_eq!(world.driver.timeout(), Duration::ZERO);
    // Their sockets are closed too, and those of the others, which have just failed.
    clients.iter().for_each(|(conn, _)| world.driver.vanish(*conn));
    assert_eq!((world.driver.open, left(&mut world)), (0, first));
    // A new connection must not receive events through the registrations that are still to be removed.
    let (conn, _client) = world.connect();
    assert!(clients.iter().all(|(other, _)| *other != conn), "their numbers are theirs until then");
    let event = Arc::new(crate::event::Draft::new("a", "b", "0").seal(crate::clock::now()));
    world.driver.parts.shard.publish(&event, 0);
    assert_eq!(world.driver.parts.shard.fanout().take_counts().matched, 0, "nor do they");
    (0..20).for_each(|_| world.turn());
    assert_eq!((left(&mut world), world.driver.parts.shard.has_leaving()), (0, false));
    world.driver.vanish(conn);
    assert!(world.driver.parts.shard.is_empty());
}

/// A replay has an index of its own, which holds the connection's filters once more.
#[test]
fn registrations_of_a_replay_whose_connection_is_gone_are_freed_by_and_by() {
    let mut world = World::new();
    let replaying = |world: &mut World, specs: &mut dyn Iterator<Item = String>| {
        let (conn, client) = world.connect_since();
        specs.for_each(|spec| world.driver.parts.shard.text(conn, &format!("register {spec}"), crate::clock::now()));
        world.driver.vanish(conn);
        drop(client);
        // Those in the index of the shard leave first.
        world.driver.parts.shard.let_go(1 + 200);
        assert_eq!(world.driver.parts.shard.take_size().registrations, 0);
    };
    replaying(&mut world, &mut (0..200).map(|n| format!("a.b.{n}")));
    for _ in 0..4 {
        assert!(world.driver.parts.shard.has_leaving());
        world.driver.parts.shard.let_go(50);
    }
    assert!(!world.driver.parts.shard.has_leaving());
    let values = (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    replaying(&mut world, &mut (0..3).map(|n| format!("a.b.c.F{n}=In({values})")));
    for _ in 0..3 {
        assert!(world.driver.parts.shard.has_leaving(), "by the size of their filters");
        world.driver.parts.shard.let_go(50);
    }
    assert!(!world.driver.parts.shard.has_leaving());
    replaying(&mut world, &mut (0..20).map(|n| format!("a.b.{n}")));
    assert!(!world.driver.parts.shard.has_leaving(), "few are freed at once");
}

/// Thousands of registrations are moved gradually; meanwhile nothing is delivered that the new rights do not show.
#[test]
fn registrations_of_a_connection_whose_rights_change_follow_by_and_by() {
    const ALL: usize = 900;
    let mut world = World::new();
    let (conn, _client) = world.registered(ALL);
    let everything = world.driver.parts.shard.access_of(conn).unwrap();
    let nothing = world.access_of_another();
    let delivered = |world: &mut World, key: &str| {
        let event = Arc::new(crate::event::Draft::new("a", "b", key).seal(crate::clock::now()));
        let before = world.driver.parts.shard.fanout().depth(conn).events;
        world.driver.parts.shard.publish(&event, 0);
        world.driver.parts.shard.fanout().depth(conn).events > before
    };
    assert!(delivered(&mut world, "5"));
    let shard = &mut world.driver.parts.shard;
    assert_eq!((shard.set_access(conn, &everything), shard.has_leaving()), (0, false), "nothing has changed");
    let moved = shard.set_access(conn, &nothing);
    assert!((1..ALL / 3).contains(&moved) && shard.has_leaving());
    shard.move_on(ALL / 3);
    assert!(shard.has_leaving(), "not all at once");
    let last = (ALL - 1).to_string();
    assert!(!delivered(&mut world, "0") && !delivered(&mut world, &last), "wherever its registration stands");
    // Again, in the middle of a move.
    world.driver.parts.shard.set_access(conn, &everything);
    assert!(delivered(&mut world, &last), "which has never moved");
    (0..8).for_each(|_| world.driver.parts.shard.move_on(MOVED));
    assert!(!world.driver.parts.shard.has_leaving());
    assert!(delivered(&mut world, "0") && delivered(&mut world, "500") && delivered(&mut world, &last));
    world.driver.vanish(conn);
    (0..20).for_each(|_| world.turn());
    assert!(world.driver.parts.shard.is_empty());
}

/// A frame is released by its last holder. A shard that has shed its large outboxes leaves the small ones alone until
/// the other, which was not scheduled yet, has shed its own share.
#[test]
fn a_shard_that_has_shed_waits_for_the_others_and_leaves_readers_alone() {
    let [mut here, mut there] = [World::new(), World::new()];
    let budget = Budget::new(100_000, 2);
    let stalled = [here.connect().0, there.connect().0];
    let (reader, _client) = here.connect();
    let now = crate::clock::now();
    let object = format!("\"{}\"", "x".repeat(4000));
    here.driver.parts.shard.text(stalled[0], "register a.*.*", now);
    there.driver.parts.shard.text(stalled[1], "register a.*.*", now);
    for n in 0..30 {
        if n == 18 {
            here.driver.parts.shard.text(reader, "register a.*.*", now);
        }
        let key = n.to_string();
        let mut draft = crate::event::Draft::new("a", "b", &key);
        draft.object = &object;
        let event = Arc::new(draft.seal(now));
        here.driver.parts.shard.publish(&event, 0);
        there.driver.parts.shard.publish(&event, 0);
    }
    let is_closing = |world: &mut World, conn| world.driver.parts.shard.fanout().is_closing(conn);
    for _ in 0..5 {
        here.driver.parts.shard.keep_budget(&budget, 0);
    }
    assert!(is_closing(&mut here, stalled[0]) && !is_closing(&mut here, reader));
    assert!(budget.is_exceeded(), "the other still holds everything");
    there.driver.parts.shard.keep_budget(&budget, 1);
    here.driver.parts.shard.keep_budget(&budget, 0);
    assert!(is_closing(&mut there, stalled[1]) && !is_closing(&mut here, reader) && !budget.is_exceeded());
}

/// Queues so many frames of so many bytes that only this connection has.
fn fill(world: &mut World, conn: ConnId, frames: usize, bytes: usize) {
    let fanout = world.driver.parts.shard.fanout();
    assert!((0..frames).all(|_| fanout.send(conn, Frame::Control(vec![0; bytes].into()))));
}

/// Frames that a turn cannot release.
const LEFT: usize = 2_100;

/// Opens connections that stall with so many frames of their own, so that as many turns have something to release.
fn leaving(world: &mut World) -> Vec<(ConnId, TcpStream)> {
    (0..8)
        .map(|_| {
            let (conn, client) = world.connect();
            fill(world, conn, LEFT, 1);
            (conn, client)
        })
        .collect()
}

/// Clients that stall and are closed by turns can see to it that dropped frames are always waiting to be released.
#[test]
fn what_is_dropped_while_the_budget_is_exceeded_delays_no_shedding() {
    // What was dropped before might be enough, unless the total is a quarter above the limit.
    for (limit, waits) in [(10 << 20, true), (8 << 20, false)] {
        let mut world = World::with_outboxes(OutboxLimits { bytes: 64 << 20, events: 10_000 });
        let budget = Budget::new(limit, 1);
        let (largest, _client) = world.connect();
        fill(&mut world, largest, 40, 256 << 10);
        let mut is_closed = Vec::new();
        let leaving = leaving(&mut world);
        for (conn, _) in &leaving {
            let shard = &mut world.driver.parts.shard;
            shard.fanout().begin_turn();
            shard.close(*conn, Close::Deleted);
            shard.keep_budget(&budget, 0);
            assert!(shard.fanout().has_leftovers());
            is_closed.push(shard.fanout().is_closing(largest));
        }
        assert!(is_closed[0] != waits && is_closed[leaving.len() / 2], "{is_closed:?}");
        assert!(!budget.is_exceeded());
    }
}

/// All that share a frame have to let go of it before its memory is free.
#[test]
fn shedding_takes_effect_whatever_else_is_to_be_released() {
    let mut world = World::with_outboxes(OutboxLimits { bytes: 64 << 20, events: 10_000 });
    let budget = Budget::new(4 << 20, 1);
    let now = crate::clock::now();
    let stalled: Vec<_> = (0..30).map(|_| world.connect()).collect();
    let leaving = leaving(&mut world);
    let shard = &mut world.driver.parts.shard;
    stalled.iter().for_each(|(conn, _)| shard.text(*conn, "register a.*.*", now));
    let object = format!("\"{}\"", "x".repeat(64 << 10));
    for _ in 0..100 {
        let mut draft = crate::event::Draft::new("a", "b", "c");
        draft.object = &object;
        shard.publish(&Arc::new(draft.seal(now)), 0);
    }
    leaving.iter().for_each(|(conn, _)| shard.close(*conn, Close::Deleted));
    shard.fanout().begin_turn();
    shard.keep_budget(&budget, 0);
    assert!(stalled.iter().all(|(conn, _)| shard.fanout().is_closing(*conn)), "in one turn");
    assert!(shard.fanout().has_leftovers() && !budget.is_exceeded());
}

/// What one client may leave behind by connecting, sending a registration that is expensive to parse, and
/// disconnecting.
#[test]
fn what_is_read_for_a_connection_that_goes_is_taken_back() {
    let mut world = World::new();
    let (first, _client) = world.connect();
    world.turn();
    // The parser may already work on one.
    for _ in 0..50 {
        let (conn, mut client) = world.connect();
        client.write_all(&frame::from_client("register a.b.c.N=Re(^x)")).unwrap();
        while world.entry(conn).input != Input::Parsing {
            world.driver.enqueue(conn);
            world.driver.read_queued();
        }
        world.driver.vanish(conn);
    }
    while world.driver.parsing > 0 {
        world.turn();
    }
    assert_eq!(world.registrations(first), 0);
}

/// All events accepted with 204 before a deregistration are delivered before its answer, also on a lagging connection.
#[test]
fn a_deregistration_waits_until_its_connection_has_got_the_past() {
    let mut world = World::new();
    let (conn, mut client) = world.connect_since();
    world.turn();
    let event = |n: usize| crate::event::Draft::new("a", "b", &n.to_string()).seal(crate::clock::now());
    world.driver.parts.broker.publish((0..50).map(event).collect(), Source::Post).unwrap();
    for command in ["register a.b.*", "deregister a.c.*", "deregister a.b.*", "register a.b.0"] {
        client.write_all(&frame::from_client(command)).unwrap();
    }
    let mut text = Vec::new();
    client.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut chunk = [0; 4096];
    let mut turns = 0..10_000;
    while text.windows(8).filter(|part| part == b"\"Action\"").count() < 54 && turns.next().is_some() {
        world.driver.enqueue(conn);
        world.turn();
        // The work of a replay is bounded by the second.
        crate::clock::simulated::pass(READ_TIME);
        if let Ok(got) = client.read(&mut chunk) {
            text.extend_from_slice(&chunk[..got]);
        }
    }
    let text = String::from_utf8_lossy(&text);
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} in {text}"));
    let last = at("\"Action\":\"b\",\"Key\":\"49\"");
    assert!(at("\"register\",\"Key\":\"a.b.*\"") < at("\"error\""), "what is not registered waits for nothing");
    assert!(at("\"error\"") < last && last < at("\"deregister\",\"Key\":\"a.b.*\""), "{text}");
    assert!(at("\"deregister\"") < at("\"register\",\"Key\":\"a.b.0\""));
    assert_eq!(text.matches("\"Action\":\"b\"").count(), 50, "each once");
}

/// The rights of a closed connection outlive a change of rights, as long as its registrations are in the index.
#[test]
fn rights_that_change_while_a_closed_connection_leaves_harm_nobody() {
    let mut world = World::new();
    let clients: Vec<_> = (0..2).map(|_| world.registered(MOVED / 2)).collect();
    for (conn, _) in &clients {
        world.driver.parts.shard.close(*conn, Close::Deleted);
    }
    world.driver.parts.shard.let_go(1);
    let others = world.access_of_another();
    for (conn, _) in &clients {
        world.driver.parts.shard.set_access(*conn, &others);
    }
    let event = Arc::new(crate::event::Draft::new("a", "b", "0").seal(crate::clock::now()));
    world.driver.parts.shard.publish(&event, 0);
    (0..2).for_each(|_| world.driver.parts.shard.let_go(MOVED));
    assert_eq!(world.driver.parts.shard.take_size().registrations, 0);
}

/// The cost of removing a registration is counted by its entries in the index.
#[test]
fn wide_registrations_leave_by_their_combinations() {
    let mut world = World::new();
    let keys = (0..MOVED / 2).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let clients: Vec<_> = (0..4).map(|_| world.connect()).collect();
    for (conn, _) in &clients {
        world.driver.parts.shard.text(*conn, &format!("register a.b.{keys}"), crate::clock::now());
        world.driver.parts.shard.close(*conn, Close::Deleted);
    }
    world.driver.parts.shard.let_go(MOVED);
    assert_eq!(world.driver.parts.shard.take_size().registrations, 2);
}

/// A connection that was written to while it replayed may be gone before its replay can continue.
#[test]
fn the_thread_sleeps_when_a_replaying_connection_with_new_room_is_gone() {
    let mut world = World::new();
    let (conn, _client) = world.connect_since();
    world.turn();
    world.driver.parts.shard.text(conn, "nonsense", crate::clock::now());
    world.driver.flush();
    assert!(world.driver.parts.shard.fanout().has_roomier());
    world.driver.vanish(conn);
    world.turn();
    assert!(world.driver.timeout() > Duration::ZERO, "nothing is left to do");
}

/// A client gets all that is left, however slowly it reads. Its time to answer begins with its close frame.
#[test]
fn the_time_to_answer_a_close_begins_with_its_frame_while_draining_too() {
    const CLOSE: Duration = Duration::from_millis(50);
    for is_slow in [false, true] {
        let mut world = World::new();
        world.driver.parts.timing.close = CLOSE;
        let (conn, mut client) = world.connect();
        world.turn();
        world.driver.parts.shard.text(conn, "register a.*.*", crate::clock::now());
        let object = format!("\"{}\"", "x".repeat(64 << 10));
        while is_slow && world.driver.parts.shard.fanout().depth(conn).events < 3 {
            let mut draft = crate::event::Draft::new("a", "b", "c");
            draft.object = &object;
            world.driver.parts.broker.publish(vec![draft.seal(crate::clock::now())], Source::Post).unwrap();
            world.turn();
        }
        world.driver.drain(crate::clock::instant() + HOUR);
        world.turn();
        let later = |world: &mut World| {
            crate::clock::simulated::pass(2 * CLOSE);
            world.driver.next_tick = crate::clock::instant();
            (0..3).for_each(|_| world.turn());
        };
        if is_slow {
            later(&mut world);
            assert_eq!(world.driver.open, 1, "its time has not begun");
        }
        client.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut chunk = vec![0; 1 << 20];
        while world.driver.conn(conn).is_some_and(|entry| entry.output != Output::Finished) {
            // Nothing may be there yet.
            let _ = client.read(&mut chunk);
            world.driver.writable(conn);
            world.turn();
        }
        assert_eq!(world.driver.open, 1, "it may answer");
        later(&mut world);
        assert!(world.driver.is_done(), "it has not answered in time, slow or not: {is_slow}");
    }
}

/// The deadline ends the thread, whatever a shard still has to do.
#[test]
fn the_thread_ends_soon_after_the_deadline_in_any_case() {
    let mut world = World::new();
    let (_conn, _client) = world.connect();
    world.turn();
    world.driver.drain(crate::clock::instant() + Duration::from_millis(50));
    assert!(world.driver.timeout() <= Duration::from_millis(50), "it wakes by then");
    assert!(!world.driver.is_done());
    crate::clock::simulated::pass(Duration::from_millis(200));
    assert!(world.driver.is_done(), "though the connection is open");
}

/// Whether the connection had been sent its close frame, or events were still to be matched; and whether its queue is
/// emptied at once, or by parts.
#[test]
fn what_is_left_at_the_deadline_is_counted_and_reported() {
    for (is_matched, queued) in [(false, 3), (true, 3), (false, 40), (true, 40)] {
        let mut world = World::new();
        let ((conn, _client), (_reader, _reading)) = (world.connect(), world.connect());
        world.turn();
        world.driver.parts.shard.text(conn, "register a.*.*", crate::clock::now());
        while world.driver.parts.shard.fanout().depth(conn).events < 3 {
            world.post("a", 64 << 10);
            world.turn();
        }
        (3..queued).for_each(|_| world.post("a", 1));
        world.turn();
        assert_eq!(world.driver.parts.shard.fanout().depth(conn).events, queued);
        world.driver.drain(crate::clock::instant() + Duration::from_millis(50));
        if is_matched {
            world.turn();
        } else {
            (0..2).for_each(|_| world.post("a", 1));
        }
        crate::clock::simulated::pass(Duration::from_millis(200));
        let metrics = Arc::clone(world.driver.parts.metrics.all());
        let undelivered = world.driver.run();
        let unmatched = if is_matched { 0 } else { 2 };
        assert_eq!(undelivered, Undelivered { connections: 1, events: queued, unmatched });
        assert_eq!(metrics.connections.get(), 0);
        let text = metrics.render(0);
        assert!(text.contains(&format!("hydrant_deliveries_dropped_total{{reason=\"closed\"}} {queued}\n")), "{text}");
    }
}

impl World {
    /// Opens a connection with this policy that is registered for every event of Type `a`.
    fn consumer(&mut self, overflow: Overflow) -> (ConnId, TcpStream) {
        let (newcomer, client) = self.newcomer();
        let conn = self.adopt(Newcomer { overflow, ..newcomer }).unwrap();
        self.driver.parts.shard.text(conn, "register a.*.*", crate::clock::now());
        self.turn();
        (conn, client)
    }

    /// Puts an event with this many bytes into the inbox.
    fn post(&mut self, kind: &str, bytes: usize) {
        let object = format!("\"{}\"", "x".repeat(bytes));
        let mut draft = crate::event::Draft::new(kind, "b", "c");
        draft.object = &object;
        self.driver.parts.broker.publish(vec![draft.seal(crate::clock::now())], Source::Post).unwrap();
    }

    fn is_closing(&mut self, conn: ConnId) -> bool {
        self.driver.parts.shard.fanout().is_closing(conn)
    }
}

/// Pings do not wait for the events before them, so the answers to them never end. An event that is larger than an
/// outbox, or than the part of it where conflation begins, needs an empty one.
#[test]
fn a_large_event_does_not_wait_for_the_pings_of_others() {
    for (overflow, bytes) in [(Overflow::Disconnect, 100 << 10), (Overflow::Conflate, 20 << 10)] {
        let mut world = World::with_outboxes(OutboxLimits { bytes: 64 << 10, events: 1000 });
        let ((pinging, mut client), (reader, _silent)) =
            (world.consumer(overflow), world.consumer(Overflow::Disconnect));
        client.write_all(&client_frame(0x89, b"").repeat(20_000)).unwrap();
        world.read_of(pinging);
        world.turn();
        world.post("a", bytes);
        world.post("b", 1);
        world.turn();
        assert_eq!(world.driver.next_number() - world.driver.parts.shard.position(), 1, "the large one");
        assert!([pinging, reader].iter().all(|&conn| !world.is_closing(conn)), "a ping costs nobody the event");
        (0..3).for_each(|_| world.turn());
        assert!(!world.driver.has_events() && world.entry(pinging).kept, "it still pings");
    }
}

/// It has more queued than a write takes, and others may have as much.
#[test]
fn nothing_is_read_while_events_wait_for_what_is_queued() {
    let mut world = World::new();
    let ((deep, _silent), (pinging, mut client)) =
        (world.consumer(Overflow::Disconnect), world.consumer(Overflow::Disconnect));
    (0..700).for_each(|_| world.driver.parts.shard.control(deep, Frame::Constant(frame::PING)));
    client.write_all(&client_frame(0x89, b"").repeat(1000)).unwrap();
    world.read_of(pinging);
    world.post("b", 1 << 20);
    for turn in 0..3 {
        assert!(world.driver.has_events() && world.driver.timeout() == Duration::ZERO, "turn {turn}");
        world.turn();
    }
    assert!(!world.driver.has_events() && !world.is_closing(deep) && !world.is_closing(pinging));
    assert_eq!(pongs(&mut client, 128), 128, "those before and of the first turn");
    world.turn();
    assert_eq!(pongs(&mut client, 64), 64, "it goes on");
}

impl World {
    /// Reads what a client has sent, more than is dealt with at once. The kernel of a busy machine may be late with it.
    fn read_of(&mut self, conn: ConnId) {
        while !self.entry(conn).kept {
            self.driver.enqueue(conn);
            self.driver.read_queued();
        }
    }
}

/// Waits until so many bytes have arrived. Returns all that have.
fn heard(client: &mut TcpStream, wanted: usize) -> Vec<u8> {
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let mut got = vec![0; wanted];
    client.read_exact(&mut got).unwrap();
    client.set_nonblocking(true).unwrap();
    // There is no end yet.
    let _ = client.read_to_end(&mut got);
    got
}

/// Waits until so many pongs have arrived. Returns how many have.
fn pongs(client: &mut TcpStream, wanted: usize) -> usize {
    heard(client, 2 * wanted).windows(2).filter(|pair| *pair == [0x8A, 0]).count()
}

/// Whatever keeps a connection from becoming empty, such as a socket that is never full.
#[test]
fn events_wait_for_a_connection_no_longer_than_what_it_had_queued_takes() {
    let mut world = World::new();
    let ((endless, _silent), (reader, _other)) =
        (world.consumer(Overflow::Disconnect), world.consumer(Overflow::Disconnect));
    world.post("a", 1 << 20);
    let mut turns = 0;
    while world.driver.has_events() {
        (0..300).for_each(|_| world.driver.parts.shard.control(endless, Frame::Constant(frame::PING)));
        world.turn();
        turns += 1;
        assert!(turns < 5, "it waits for ever");
    }
    assert!(turns > 1 && world.is_closing(endless) && !world.is_closing(reader), "after {turns} turns");
}

/// Its socket accepts a little at a time, in every turn.
#[test]
fn events_do_not_wait_for_a_full_outbox_that_is_written_bit_by_bit() {
    let mut world = World::with_outboxes(OutboxLimits { bytes: 64 << 10, events: 1000 });
    let (slow, _silent) = world.consumer(Overflow::DropOldest);
    while world.driver.parts.shard.fanout().depth(slow).bytes < 56 << 10 {
        world.post("a", 8 << 10);
        world.turn();
    }
    for _ in 0..10 {
        world.post("b", 1);
        world.driver.writable(slow);
        world.turn();
        assert!(!world.driver.has_events());
    }
}

/// It has a deadline for them.
#[test]
fn a_drain_that_waits_for_readers_goes_on_reading() {
    let mut world = World::with_outboxes(OutboxLimits { bytes: 64 << 10, events: 1000 });
    let ((slow, _silent), (other, mut client)) = (world.consumer(Overflow::DropOldest), world.connect());
    while world.driver.parts.shard.fanout().depth(slow).bytes < 56 << 10 {
        world.post("a", 8 << 10);
        world.turn();
    }
    world.driver.drain(crate::clock::instant() + HOUR);
    world.post("b", 1);
    for _ in 0..3 {
        client.write_all(&client_frame(0x89, b"")).unwrap();
        client.set_nonblocking(true).unwrap();
        // The kernel of a busy machine may be late with the ping, and with the pong.
        let mut turns = 0..60_000;
        while client.peek(&mut [0; 2]).is_err() {
            turns.next().expect("it reads");
            world.driver.enqueue(other);
            world.turn();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(world.driver.has_events() && pongs(&mut client, 1) == 1);
    }
    assert!(world.driver.timeout() > Duration::ZERO, "it sleeps until somebody reads");
}
