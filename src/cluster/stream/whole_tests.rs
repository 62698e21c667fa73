//! Whole replays from a stream in memory: every event comes once or a gap notice stands in its place, whatever the
//! history and the stream drop meanwhile.

use std::future::poll_fn;
use std::pin::pin;

use jiff::SignedDuration;

use super::*;
use crate::broker::dedup::counted::digests;
use crate::cluster::stream::world::{NODE, World, soon};
use crate::event::Draft;
use crate::websocket::frame::Encoding;

/// The identity of a post.
fn post(number: u64) -> Trace {
    Trace { origin: Origin { node: NODE, number }, repeat_index: None }
}

#[tokio::test(start_paused = true)]
async fn what_the_history_drops_while_the_last_page_waits_for_the_client_is_not_lost() {
    let mut world = World::new(10);
    world.publish(600);
    let mut client = world.read(world.reading());
    // It has begun the first of three pages.
    soon().await;
    client.take(1);
    soon().await;
    client.take(255);
    soon().await;
    world.publish(100);
    soon().await;
    assert!(client.got.len() < 600 && !client.has_ended());
    client.finish().await;
    let (rest, lost) = world.rest(&client.settled());
    assert_eq!((client.gaps, lost), (Vec::new(), 0));
    assert!(client.got.into_iter().chain(rest).eq(0..700));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_gets_from_the_history_what_was_withdrawn() {
    let mut world = World::new(1000);
    world.publish(300);
    let mut client = world.serve(world.reading());
    soon().await;
    client.take(200);
    sleep(Duration::from_secs(70)).await;
    client.take(usize::MAX);
    assert!(client.has_ended() && client.gaps.len() == 1 && client.got.len() == 200, "{:?}", client.gaps);
    let (rest, lost) = world.rest(&client.settled());
    assert!(client.got.into_iter().chain(rest).eq(0..300) && lost == 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_a_little_now_and_then_gets_everything() {
    let mut world = World::new(10);
    world.publish(300);
    let mut client = world.serve(world.reading());
    soon().await;
    for _ in 0..100 {
        client.take(5);
        sleep(Duration::from_secs(50)).await;
    }
    assert!(client.has_ended() && client.gaps.is_empty(), "{:?}", client.gaps);
    let (rest, lost) = world.rest(&client.settled());
    assert!(client.got.into_iter().chain(rest).eq(0..300) && lost == 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stays_behind_a_small_history_ends_the_replay_with_a_notice() {
    let mut world = World::new(10);
    world.publish(100);
    (0..20).for_each(|_| world.store(true));
    (0..20).for_each(|_| world.accept());
    let mut client = world.read(world.reading());
    // The stream stores nothing any more.
    for _ in 0..1000 {
        (0..20).for_each(|_| world.store(true));
        (0..20).for_each(|_| world.accept());
        client.take(usize::MAX);
        sleep(POLL_INTERVAL).await;
    }
    client.finish().await;
    let [gap] = &client.gaps[..] else { panic!("{:?}", client.gaps) };
    assert_eq!(gap.events, None);
    assert_eq!(client.got.len(), 100);
}

/// The ring still has what this node accepted late; the stream had stored it long before.
#[tokio::test(start_paused = true)]
async fn an_event_that_was_stored_before_the_requested_time_but_accepted_later_comes_from_the_history() {
    for later in [1, 0] {
        let mut world = World::new(100);
        clock::simulated::pass(Duration::from_secs(100));
        world.store(false);
        clock::simulated::pass(Duration::from_secs(8));
        let time = clock::now();
        (0..later).for_each(|_| world.store(false));
        world.accept_all();
        let mut client = world.read(Reading { time, ..world.reading() });
        client.finish().await;
        assert_eq!((client.got.len(), world.rest(&client.settled()).0), (later, vec![0]));
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_fill_a_hole_have_places_of_their_own_and_the_same_ones_again() {
    let mut world = World::new(100);
    world.publish(3);
    (0..50).for_each(|_| world.store(true));
    world.publish(3);
    (0..50).for_each(|_| world.accept());
    let mut first = world.read(world.reading());
    first.finish().await;
    assert!(first.got.iter().copied().eq(0..56) && first.gaps.is_empty(), "{:?}", first.got);
    assert!(first.places.is_sorted_by(|before, after| before < after), "{:?}", first.places);
    for until in [0, 2, 20, 55] {
        let mut second = world.read(first.again(until));
        second.finish().await;
        assert!(second.places == first.places[..=until] && second.gaps.is_empty());
        assert_eq!(world.rest(&second.settled()).0, first.got[until + 1..], "what follows is not left out");
    }
}

/// For a registration that comes later.
#[tokio::test(start_paused = true)]
async fn what_the_stream_has_dropped_since_it_was_read_is_told_when_it_is_read_again() {
    let mut world = World::new(10);
    world.publish(600);
    let mut first = world.read(world.reading());
    first.finish().await;
    let again = first.again(599);
    let second = async |world: &World| {
        let mut second = world.read(again.clone());
        second.finish().await;
        (second.got, second.gaps.len())
    };
    assert_eq!(second(&world).await, ((0..600).collect(), 0));
    world.publish(10);
    world.shelf.drop_oldest(100);
    // The pages that are kept have it still.
    world.forget_pages();
    assert_eq!(second(&world).await, ((100..600).collect(), 1));
    world.shelf.drop_oldest(505);
    world.forget_pages();
    assert_eq!(second(&world).await, (Vec::new(), 1), "nothing of it is left");
    world.shelf.drop_oldest(usize::MAX);
    assert_eq!(second(&world).await, (Vec::new(), 1), "nor anything else");
    let nothing = Reading { until: Some(0), given: None, ..again.clone() };
    let mut third = world.read(nothing);
    third.finish().await;
    assert!(third.gaps.is_empty(), "{:?}", third.gaps);
}

/// All replays break off at once when NATS is gone, and the history is long.
#[tokio::test(start_paused = true)]
async fn a_replay_that_breaks_off_digests_nothing_that_its_client_has_had() {
    let mut world = World::new(2000);
    (0..1200).for_each(|_| world.follow(0, false));
    world.accept_all();
    let mut client = world.serve(world.reading());
    for _ in 0..7 {
        soon().await;
        client.take(100);
    }
    soon().await;
    let before = digests();
    world.shelf.go_away();
    client.finish().await;
    assert_eq!((client.got.len(), client.gaps.len()), (1023, 1));
    assert!(world.rest(&client.settled()).0.into_iter().eq(1023..1200));
    assert!(digests() - before <= 1200 - 1023, "{}", digests() - before);
}

/// Many replays do at once, and next to nothing of the history was delivered to them.
#[tokio::test(start_paused = true)]
async fn a_replay_that_breaks_off_lets_others_run_while_it_digests_the_history() {
    let mut world = World::new(5_000);
    (0..5_000).for_each(|_| world.follow(0, false));
    world.accept_all();
    let mut reader = world.reader(world.reading());
    let (page, _) = reader.read_page().await.unwrap();
    let mut breaks_off = pin!(reader.break_off(false));
    let (begun, mut most) = (digests(), 0);
    let last = poll_fn(|context| {
        let before = digests();
        let polled = breaks_off.as_mut().poll(context);
        most = most.max(digests() - before);
        polled
    });
    assert!(matches!(last.await.unwrap()[..], [Chunk::Gap(_), Chunk::End(_)]));
    assert_eq!(digests() - begun, 5_000 - page.len() as u64);
    assert!(most <= 512, "{most} events were digested in one go");
}

/// The history may be full of other events.
#[tokio::test(start_paused = true)]
async fn a_range_that_is_read_again_is_compared_with_what_it_brought_before() {
    let mut world = World::new(2000);
    (0..100).for_each(|_| world.follow(0, false));
    world.accept_all();
    let mut first = world.serve(world.reading());
    first.finish().await;
    (0..1000).for_each(|_| world.follow(0, false));
    world.accept_all();
    let before = digests();
    let mut second = world.serve(first.again(99));
    second.finish().await;
    assert_eq!((&second.got, second.gaps.len()), (&first.got, 0));
    assert!(world.rest(&second.settled()).0.into_iter().eq(100..1100));
    // Each of the range once, to tell copies within it.
    assert!(digests() - before <= 256, "{}", digests() - before);
}

/// They are in the history, for the first one too.
#[tokio::test(start_paused = true)]
async fn a_later_registration_gets_no_event_that_came_after_the_first_read() {
    let mut world = World::new(1000);
    world.publish(10);
    (0..5).for_each(|_| world.store(true));
    (0..10).for_each(|_| world.store(false));
    let mut first = world.serve(world.reading());
    // The node has none of the five while they are waited for.
    sleep(GRACE + Duration::from_secs(1)).await;
    world.accept_all();
    first.finish().await;
    assert_eq!((first.got.len(), first.gaps.len(), world.rest(&first.settled()).0.len()), (20, 1, 5));
    let mut second = world.serve(first.again(19));
    second.finish().await;
    assert_eq!((&second.got, world.rest(&second.settled()).0), (&first.got, (10..15).collect()));
    assert_eq!(second.gaps, []);
}

/// They are in the history, which leaves them out for the first one only.
#[tokio::test(start_paused = true)]
async fn a_later_registration_gets_from_the_history_what_its_read_does_not_bring() {
    let mut world = World::new(1000);
    world.publish(600);
    let mut first = world.serve(world.reading());
    first.finish().await;
    assert_eq!((first.got.len(), world.rest(&first.settled()).0.len()), (600, 0));
    let mut second = world.serve(first.again(599));
    soon().await;
    second.take(100);
    sleep(Duration::from_secs(70)).await;
    second.finish().await;
    assert_eq!((second.got.len(), second.gaps.len()), (100, 1));
    assert!(world.rest(&second.settled()).0.into_iter().eq(100..600));
    world.shelf.go_away();
    let mut third = world.serve(first.again(599));
    third.finish().await;
    assert_eq!((third.got.len(), third.gaps.len()), (0, 1));
    assert!(world.rest(&third.settled()).0.into_iter().eq(0..600));
}

/// The clock of the first event's producer is ahead, so the replay began with it.
#[tokio::test(start_paused = true)]
async fn what_the_stream_has_dropped_of_a_producer_that_is_ahead_is_told_once() {
    let mut world = World::new(100);
    let mut draft = Draft::new("machines", "update", "0");
    draft.time = Some((clock::now() + SignedDuration::from_mins(1)).to_string().into());
    world.shelf.put(post(0), draft.seal(clock::now()).json(), clock::now());
    world.store(true);
    world.accept();
    world.publish(20);
    clock::simulated::pass(Duration::from_secs(55));
    let mut first = world.read(Reading { time: clock::now(), ..world.reading() });
    first.finish().await;
    assert!(first.got.iter().copied().eq(0..21) && first.gaps.is_empty(), "{:?} {:?}", first.got, first.gaps);
    world.shelf.drop_oldest(1);
    world.forget_pages();
    let mut second = world.read(first.again(20));
    second.finish().await;
    assert_eq!((second.got, second.gaps.len()), ((1..21).collect(), 1));
}

#[tokio::test(start_paused = true)]
async fn what_the_stream_drops_just_before_its_first_page_is_read_is_told() {
    let mut world = World::new(10);
    world.publish(20);
    // Another replay has asked for the extent a moment ago.
    world.pages.extent(None).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    world.shelf.drop_oldest(5);
    let mut client = world.read(world.reading());
    client.finish().await;
    assert_eq!((client.gaps.len(), client.got), (1, (5..20).collect::<Vec<_>>()));
}

#[tokio::test(start_paused = true)]
async fn pages_of_a_stream_that_was_deleted_are_not_taken_for_those_of_the_next_one() {
    let mut world = World::new(10);
    world.publish(600);
    world.read(world.reading()).finish().await;
    world.shelf.make_anew();
    world.publish(300);
    sleep(Duration::from_secs(2)).await;
    let mut client = world.read(world.reading());
    client.finish().await;
    assert!(client.got.iter().copied().eq(600..900), "{:?}", client.got);
    assert_eq!(client.gaps.len(), 1, "{:?}", client.gaps);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_event_that_was_stored_twice_is_one_that_is_missing() {
    let mut world = World::new(10);
    world.publish(5);
    for _ in 0..2 {
        world.shelf.put(post(5), "{", clock::now());
    }
    world.store(true);
    world.miss();
    world.publish(5);
    let mut client = world.read(world.reading());
    client.finish().await;
    assert_eq!(client.gaps.iter().map(|gap| gap.events).collect::<Vec<_>>(), [Some(1)]);
    assert!(client.got.into_iter().eq((0..5).chain(6..11)));
}

/// A server would refuse such a Time, and a browser would never ask again.
#[tokio::test(start_paused = true)]
async fn an_event_of_a_time_that_is_refused_later_has_no_id() {
    let world = World::new(10);
    for (number, ahead) in [(0, 0), (1, 200), (2, 600), (3, 0)] {
        let now = clock::now();
        let mut draft = Draft::new("machines", "update", "1");
        draft.time = Some((now + SignedDuration::from_secs(ahead)).to_string().into());
        world.shelf.put(post(number), draft.seal(now).json(), now);
    }
    let block = world.pages.page(1).await.unwrap();
    let has_id = |parsed: &Parsed| parsed.event.as_ref().unwrap().frame_in(Encoding::EventStream).starts_with(b"id: ");
    assert!(block.messages.iter().map(has_id).eq([true, true, false, true]));
}

/// The events' own Times are earlier, so only when they were stored counts.
#[tokio::test(start_paused = true)]
async fn a_replay_begins_with_what_was_stored_at_the_very_time() {
    let world = World::new(10);
    let begun = clock::now();
    let stored = |number: u64| begun + SignedDuration::from_secs(number.cast_signed());
    for number in 0..4 {
        let event = Draft::new("machines", "update", &number.to_string()).seal(begun - SignedDuration::from_mins(1));
        world.shelf.put(post(number), event.json(), stored(number));
    }
    let mut client = world.read(Reading { time: stored(2) + OVERLAP, ..world.reading() });
    client.finish().await;
    assert_eq!(client.got, [2, 3]);
}
