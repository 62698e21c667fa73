//! Whole replays from a stream in memory whose server's clock differs from the nodes': nothing is hidden, and what the
//! server has dropped is told.

use jiff::SignedDuration;

use super::*;
use crate::broker::archive::Archive;
use crate::broker::history::{Beyond, Position};
use crate::cluster::stream::world::World;

/// By the nodes' clocks, what it has dropped may have been published that much later. Whoever asks for a later time, or
/// for a position, whose time allows for it, gets no needless notice.
#[tokio::test(start_paused = true)]
async fn what_a_server_whose_clock_is_behind_has_dropped_is_told() {
    for behind in [0_u8, 20] {
        let mut world = World::new(10);
        world.behind[0] = SignedDuration::from_secs(behind.into());
        let mut times = Vec::new();
        for _ in 0..200 {
            clock::simulated::pass(Duration::from_secs(1));
            times.push(clock::now());
            world.publish(1);
        }
        world.shelf.drop_oldest(50);
        for (first, is_position) in [(40, false), (40, true), (49, false), (81, false), (81, true)] {
            let time = times[first];
            let begin = is_position.then_some(time);
            let mut client = world.read(Reading { time, begin, ..world.reading() });
            client.finish().await;
            let is_told = first < if is_position { 50 } else { 80 } - usize::from(behind);
            assert_eq!(client.gaps.len(), usize::from(is_told), "{first}, {is_position}, {behind} s behind");
            assert!(client.gaps.iter().all(|gap| gap.from == Some(time) && gap.to >= time), "{:?}", client.gaps);
        }
    }
}

/// An archive that is named, but never read.
#[derive(Debug)]
struct Unread;

impl Archive for Unread {
    fn read(&self, _: Reading, _: &str, _: PageChannel) {}
}

/// The stream is searched by the server's clock for what was accepted by the node's. A page is read from its beginning,
/// so the event is one of the last of a page.
#[tokio::test(start_paused = true)]
async fn a_server_whose_clock_is_behind_hides_no_event() {
    for producers in [0, 20] {
        let mut world = World::new(10);
        world.behind = [SignedDuration::from_secs(20), SignedDuration::from_secs(producers)];
        world.broker.set_archive(Arc::new(Unread));
        let mut times = Vec::new();
        for _ in 0..600 {
            clock::simulated::pass(Duration::from_secs(1));
            times.push(clock::now() - world.behind[1]);
            world.publish(1);
        }
        for since in [times[505].to_string(), Position { epoch: 1, sequence: 505 }.to_string()] {
            let start = world.broker.resolve(since.parse().unwrap(), &since, clock::both()).unwrap();
            let Beyond { time, begin, .. } = start.beyond.unwrap();
            let mut client = world.read(Reading { time, begin, first: start.sequence, ..world.reading() });
            client.finish().await;
            let rest = world.rest(&client.settled()).0;
            assert_eq!(client.gaps, []);
            assert!(client.got[0] <= 505, "{since}, producers {producers} s behind: {}", client.got[0]);
            assert!(client.got.iter().copied().chain(rest).eq(client.got[0]..600), "{since}");
        }
    }
}
