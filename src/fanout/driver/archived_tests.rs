//! Tests of connections that get the past from an archive.

use futures_util::FutureExt;
use jiff::Timestamp;

use super::*;
use crate::broker::archive::{Archive, Chunk, PageChannel, Reading};
use crate::broker::history::{Beyond, Start};
use crate::broker::splice::Splice;

/// An archive whose readers are played by the test.
#[derive(Debug, Default)]
struct Played(Mutex<Vec<(Reading, PageChannel)>>);

impl Archive for Played {
    fn read(&self, reading: Reading, _account: &str, page_channel: PageChannel) {
        self.0.lock().push((reading, page_channel));
    }
}

impl Played {
    /// Returns the start of a replay that begins with what was stored at this time.
    fn start(self: &Arc<Self>, time: Timestamp) -> Start {
        let beyond = Beyond { archive: Arc::clone(self) as _, time, begin: None };
        Start { requested: "x".into(), sequence: 0, time: None, gap: None, beyond: Some(beyond) }
    }

    /// Takes the next turns of the shard until it begins to read.
    fn wait(&self, world: &mut World) -> (Reading, PageChannel) {
        for _ in 0..10 {
            crate::clock::simulated::pass(Duration::from_secs(1));
            world.turn();
            if let Some(begun) = self.0.lock().pop() {
                return begun;
            }
        }
        panic!("nothing is read");
    }
}

/// A connection may stay for months, and the numbers that it left out may be thousands.
#[test]
fn what_a_replay_left_out_of_the_history_is_forgotten_when_the_history_no_longer_has_it() {
    let mut world = World::new();
    // Past the beginning of the broker's clock.
    crate::clock::simulated::pass(HOUR);
    let (archive, time) = (Arc::new(Played::default()), crate::clock::now());
    let event = || crate::event::Draft::new("a", "b", "c").seal(crate::clock::now());
    world.driver.parts.broker.publish((0..10).map(|_| event()).collect(), Source::Post).unwrap();
    let (conn, _client) = world.connect_from(Some(archive.start(time)));
    world.driver.parts.shard.text(conn, "register a.*.*", time);
    let (_, page_channel) = archive.wait(&mut world);
    let mut splice = Splice::at(0);
    [2, 4].into_iter().for_each(|number| splice.leave_out(number));
    page_channel.reserve().now_or_never().flatten().unwrap().put(vec![Chunk::End(splice.clone())]);
    world.turn();
    let mut brought = |events: usize, text: &str| {
        world.driver.parts.broker.publish((0..events).map(|_| event()).collect(), Source::Post).unwrap();
        world.driver.next_tick = crate::clock::instant();
        world.turn();
        world.driver.parts.shard.text(conn, text, time);
        let (Reading { brought, .. }, page_channel) = archive.wait(&mut world);
        page_channel.reserve().now_or_never().flatten().unwrap().put(vec![Chunk::End(splice.clone())]);
        world.turn();
        brought.map(|brought| Splice::clone(&brought))
    };
    assert_eq!(brought(94, "register b.*.*"), Some(splice.clone()), "the fifth is in the history");
    assert_eq!(brought(1, "register c.*.*"), Some(Splice::at(2)), "three of five have to be counted");
}

/// Waits until the client has got this text.
fn wait_for(client: &mut TcpStream, text: &str) {
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (mut got, mut part) = (Vec::new(), [0; 1024]);
    while !String::from_utf8_lossy(&got).contains(text) {
        let read = client.read(&mut part).unwrap_or_else(|error| panic!("no {text}: {error}"));
        assert!(read > 0, "no {text} before the end");
        got.extend_from_slice(&part[..read]);
    }
}

#[test]
fn events_of_the_archive_are_delivered_to_those_who_want_and_may_see_them() {
    let mut world = World::new();
    crate::clock::simulated::pass(HOUR);
    let (archive, time) = (Arc::new(Played::default()), crate::clock::now());
    let (conn, mut client) = world.connect_from(Some(archive.start(time)));
    world.driver.parts.shard.text(conn, "register a.*.*", time);
    let (_, page_channel) = archive.wait(&mut world);
    let event = |kind, key| Arc::new(crate::event::Draft::new(kind, "b", key).seal(time));
    let events = [("x", "unwanted"), ("a", "first"), ("a", "second")].into_iter().zip(1..);
    let page = events.map(|((kind, key), position)| Chunk::Event(position, event(kind, key)));
    page_channel.reserve().now_or_never().flatten().unwrap().put(page.collect());
    world.turn();
    wait_for(&mut client, "second");
}
