//! What replays may cost, by turn and by second, and what happens beyond it: counted, and never by the clock.

use hydrant::index::Work;
use hydrant::protocol::Close;

use super::*;

/// Connections of which a turn looks at no more.
const LOOKS: usize = 256;

fn from_the_start() -> Start {
    Start { requested: "x".into(), sequence: 0, time: None, gap: None, beyond: None }
}

fn some(world: &mut World, count: usize) {
    for _ in 0..count {
        world.publish(Known { kind: "a", action: "x", key: "k0" });
    }
    world.turn(count);
}

/// A connection that has registered and whose cursor may start.
fn open(world: &mut World, specs: &[&str]) -> ConnId {
    let (access, principal) = &*ACCESS;
    let conn = world.shard.open_since(principal.clone(), access, Overflow::Disconnect, from_the_start(), specs.len());
    specs.iter().for_each(|spec| world.shard.text(conn, &format!("register {spec}"), now()));
    conn
}

fn limited(work: Work) -> World {
    let mut world = World::new(1000, 1000);
    let outbox = OutboxLimits { bytes: 1 << 20, events: 1000 };
    world.shard = Shard::new(Limits { work, ..Limits::default() }, outbox, None);
    world
}

/// Frames that wait for a connection behind the answers to `answers` commands.
fn given(world: &mut World, conn: ConnId, answers: usize) -> usize {
    world.shard.fanout().depth(conn).events - answers
}

#[test]
fn a_turn_looks_at_some_of_those_that_are_behind_and_all_get_theirs() {
    let mut world = World::new(1000, 1000);
    some(&mut world, 1);
    let conns: Vec<ConnId> = (0..3 * LOOKS).map(|_| open(&mut world, &["*.*.*"])).collect();
    let done = |world: &mut World| conns.iter().filter(|conn| given(world, **conn, 1) == 1).count();
    world.catch_up(100_000);
    assert!((LOOKS / 2..=LOOKS).contains(&done(&mut world)), "{}", done(&mut world));
    for _ in 0..6 {
        world.catch_up(100_000);
    }
    assert_eq!((done(&mut world), world.shard.lagging()), (conns.len(), 0));
}

#[test]
fn those_that_wait_for_room_hold_nobody_up_and_get_on_when_there_is_some() {
    let mut world = World::new(1000, 16);
    some(&mut world, 100);
    let stuck: Vec<ConnId> = (0..2 * LOOKS).map(|_| open(&mut world, &["*.*.*"])).collect();
    while world.may_catch_up() {
        world.catch_up(100_000);
    }
    assert_eq!(world.shard.lagging(), stuck.len(), "none of them reads");
    let reader = open(&mut world, &["*.*.*"]);
    world.conn = Some(reader);
    for _ in 0..30 {
        world.catch_up(100_000);
        world.read(usize::MAX);
    }
    assert_eq!(world.text.len(), 101, "one look and one read at a time");
    assert!(!world.may_catch_up(), "nobody else has moved");
    for conn in &stuck {
        world.shard.remove(*conn);
    }
    assert_eq!(world.shard.lagging(), 0);
}

#[test]
fn filters_of_replays_have_a_second_and_wait_for_the_next_one() {
    let work = Work { event: 1_000_000, second: 3_000, owner: 4_500 };
    let mut world = limited(work);
    some(&mut world, 200);
    // Each asked about each event: a lookup and a question.
    let conns = [0, 1].map(|n| open(&mut world, &[format!("*.*.*.N=Ne({})", n + 1000).as_str()]));
    world.us = 5_000_000;
    let mut most = 0;
    for _ in 0..20 {
        world.us -= 40_000;
        let before = world.shard.take_filter_cost().work;
        world.catch_up(1000);
        most += before;
    }
    most += world.shard.take_filter_cost().work;
    let sent: usize = conns.iter().map(|conn| given(&mut world, *conn, 1)).sum();
    assert!(sent > 10 && sent < 200, "{sent}");
    assert!((4_500..5_500).contains(&most), "the principal's bound and an event's: {most}");
    assert_eq!(world.shard.catch_up_in(world.us), Some(6_000_000 - world.us), "it sleeps until then");
    world.us += 1_000_000;
    world.catch_up(1000);
    assert!(conns.iter().map(|conn| given(&mut world, *conn, 1)).sum::<usize>() > sent);
    assert!(world.shard.take_closing().is_empty(), "they can wait");
}

#[test]
fn who_is_behind_pays_little_for_live_events() {
    let work = Work { event: 200, second: 20_000, owner: 20_000 };
    let mut world = limited(work);
    let specs: Vec<String> = (0..100).map(|n| format!("*.*.*.N=Ne({})", n + 1000)).collect();
    let conn = open(&mut world, &specs.iter().map(String::as_str).collect::<Vec<_>>());
    some(&mut world, 50);
    assert_eq!(world.shard.take_filter_cost().work, 50 * 100 * 4, "each is passed over, and nothing is asked");
    assert!(world.shard.take_closing().is_empty());
    // Its own past is what closes it.
    world.catch_up(1000);
    let closing = world.shard.take_closing();
    assert!(matches!(closing[..], [(closed, Close::FilterWork { .. })] if closed == conn), "{closing:?}");
}

#[test]
fn nothing_is_asked_for_a_replay_that_was_closed_on_its_way() {
    let mut world = limited(Work { event: 200, ..Work::UNLIMITED });
    some(&mut world, 50);
    let specs: Vec<String> = (0..100).map(|n| format!("*.*.*.N=Ne({})", n + 1000)).collect();
    open(&mut world, &specs.iter().map(String::as_str).collect::<Vec<_>>());
    world.catch_up(1000);
    let cost = world.shard.take_filter_cost();
    assert!(cost.work < 1_000, "one event's: {cost:?}");
    assert_eq!(world.shard.take_closing().len(), 1);
    assert_eq!(world.shard.lagging(), 0);
}

/// A pass that ends, and a registration that is taken back and made again, compile nothing: what the filters are made
/// of stays.
#[test]
fn registrations_with_filters_come_and_go_at_the_cost_of_a_number() {
    let mut world = World::new(1000, 5000);
    some(&mut world, 3);
    let conn = open(&mut world, &["*.*.*"]);
    world.conn = Some(conn);
    world.catch_up(1000);
    world.read(usize::MAX);
    world.text.clear();
    // The sixteen that are remembered, again and again.
    for _ in 0..3 {
        for n in 0..16 {
            world.shard.text(conn, &format!("register *.*.*.N=Ne({})", n + 1000), now());
            while world.may_catch_up() {
                world.catch_up(1000);
            }
            world.shard.text(conn, &format!("deregister *.*.*.N=Ne({})", n + 1000), now());
        }
        world.read(usize::MAX);
    }
    assert_eq!(world.text.len(), 96, "one answer to each, no event twice, and no notice");
    // One more is one too many: nothing before it is looked back for any more.
    for text in ["register *.*.*.N=Ne(5)", "deregister *.*.*.N=Ne(5)"] {
        world.shard.text(conn, text, now());
        while world.may_catch_up() {
            world.catch_up(1000);
        }
    }
    world.shard.text(conn, "deregister *.*.*", now());
    world.shard.text(conn, "register a.*.*", now());
    some(&mut world, 1);
    world.finish();
    let events = world.text.iter().filter(|text| !text.contains("\"Type\":\"websocket\"")).count();
    assert_eq!(events, 1, "{:?}", &world.text[96..]);
}

/// What is skipped is told, and what the archive gave before the shard had it does not come again.
#[test]
fn who_takes_back_too_much_beside_an_archive_gets_nothing_twice() {
    let mut world = World::with(Shelf { since: Some(0), ..Shelf::default() }, 1000, 5000);
    for _ in 0..20 {
        world.publish(Known { kind: "a", action: "x", key: "k0" });
    }
    let archive: Arc<dyn Archive> = Arc::clone(&world.archive) as _;
    let start = Start { beyond: Some(Beyond { archive, time: now(), begin: None }), ..from_the_start() };
    let conn = world.connect_with(start, Overflow::Disconnect, 1);
    world.shard.text(conn, "register a.*.*", now());
    let pages = |world: &mut World| {
        for _ in 0..8 {
            world.catch_up(1000);
            world.archive.hand_over(10, world.broker.history());
        }
    };
    pages(&mut world);
    assert_eq!(given(&mut world, conn, 1), 20, "the shard has taken none of them yet");
    for n in 0..17 {
        world.shard.text(conn, &format!("register *.*.*.N=Ne({})", n + 1000), now());
        pages(&mut world);
        world.shard.text(conn, &format!("deregister *.*.*.N=Ne({})", n + 1000), now());
    }
    world.finish();
    let mut judge = Judge { active: ["a.*.*".to_owned()].into(), ..Judge::default() };
    let notices = world.text.iter().filter(|text| text.contains("\"Type\":\"hydrant\"")).count();
    assert_eq!(notices, 1, "it was behind, and is told");
    world.text.retain(|text| !text.contains("\"Type\":\"hydrant\""));
    (0..).zip(&world.text).for_each(|(at, text)| judge.hear(text, &world.text[at + 1..], &world.events));
    assert_eq!(judge.seen.len(), 20);
    world.shard.remove(conn);
    assert!(world.shard.is_empty());
}

/// The client reads nothing, so the shard has no other reason to look at it. What the pages contained comes from the
/// history.
#[test]
fn pages_that_their_reader_takes_back_are_dropped_though_there_is_no_room() {
    let mut world = World::with(Shelf { since: Some(0), ..Shelf::default() }, 1000, 16);
    for _ in 0..40 {
        world.publish(Known { kind: "a", action: "x", key: "k0" });
    }
    let archive: Arc<dyn Archive> = Arc::clone(&world.archive) as _;
    let start = Start { beyond: Some(Beyond { archive, time: now(), begin: None }), ..from_the_start() };
    let conn = world.connect_with(start, Overflow::Disconnect, 1);
    world.shard.text(conn, "register a.*.*", now());
    for _ in 0..3 {
        world.catch_up(1000);
        world.archive.hand_over(10, world.broker.history());
    }
    let held = |world: &World| {
        let events = world.archive.events.lock();
        events.iter().filter(|(event, _)| Arc::strong_count(event) > 1).count()
    };
    let given = given(&mut world, conn, 1);
    assert!(given < 10 && held(&world) == 20, "{given}: two pages, and no room for them");
    world.archive.withdraw(world.broker.history());
    assert!(world.may_catch_up());
    world.catch_up(1000);
    assert_eq!(held(&world), given, "those in its outbox");
    world.finish();
    let notices = world.text.iter().filter(|text| text.contains("hydrant")).count();
    assert_eq!((notices, world.text.len()), (1, 1 + 1 + 40), "it is told, and gets everything once");
}

/// What the first read had is left out of the history; not so for who has not had it.
#[test]
fn a_late_registration_gets_from_the_history_what_its_read_was_to_bring() {
    let mut world = World::with(Shelf { since: Some(0), ..Shelf::default() }, 1000, 5000);
    for number in 0..40 {
        world.publish(Known { kind: KINDS[number % 2], action: "x", key: "k0" });
    }
    let archive: Arc<dyn Archive> = Arc::clone(&world.archive) as _;
    let start = Start { beyond: Some(Beyond { archive, time: now(), begin: None }), ..from_the_start() };
    let conn = world.connect_with(start, Overflow::Disconnect, 1);
    world.shard.text(conn, "register a.*.*", now());
    world.finish();
    assert_eq!(world.text.len(), 1 + 20);
    world.shard.text(conn, "register b.*.*", now());
    for _ in 0..2 {
        world.catch_up(1000);
        world.archive.hand_over(10, world.broker.history());
    }
    world.archive.withdraw(world.broker.history());
    world.finish();
    let mut judge = Judge::default();
    (0..).zip(&world.text).for_each(|(at, text)| judge.hear(text, &world.text[at + 1..], &world.events));
    let notices = world.text.iter().filter(|text| text.contains("hydrant")).count();
    assert_eq!((judge.seen.len(), notices), (40, 1), "all of them once, and that some were withdrawn");
}

/// Where it stood in the archive is not known any more.
#[test]
fn what_came_from_the_archive_for_a_registration_that_is_gone_is_not_repeated_from_the_history() {
    let mut world = World::with(Shelf { since: Some(0), ..Shelf::default() }, 1000, 5000);
    (0..40).for_each(|_| world.publish(Known { kind: "a", action: "x", key: "k0" }));
    let archive: Arc<dyn Archive> = Arc::clone(&world.archive) as _;
    let start = Start { beyond: Some(Beyond { archive, time: now(), begin: None }), ..from_the_start() };
    let conn = world.connect_with(start, Overflow::Disconnect, 1);
    world.shard.text(conn, "register a.*.*", now());
    for _ in 0..4 {
        world.catch_up(1000);
        world.archive.hand_over(40, world.broker.history());
    }
    world.turn(10);
    world.catch_up(1000);
    world.shard.text(conn, "deregister a.*.*", now());
    world.finish();
    world.shard.text(conn, "register *.x.*", now());
    world.catch_up(1000);
    world.archive.withdraw(world.broker.history());
    world.finish();
    let mut judge = Judge::default();
    (0..).zip(&world.text).for_each(|(at, text)| judge.hear(text, &world.text[at + 1..], &world.events));
    assert_eq!((judge.seen.len(), judge.vague), (40, 1));
}

/// It has had some of that from the archive.
#[test]
fn a_late_registration_is_told_exactly_what_the_history_no_longer_holds() {
    let mut world = World::with(Shelf { since: Some(0), ..Shelf::default() }, 20, 5000);
    let publish = |world: &mut World, count| {
        (0..count).for_each(|_| world.publish(Known { kind: "a", action: "x", key: "k0" }));
    };
    publish(&mut world, 30);
    let archive: Arc<dyn Archive> = Arc::clone(&world.archive) as _;
    let start = Start { beyond: Some(Beyond { archive, time: now(), begin: None }), ..from_the_start() };
    let conn = world.connect_with(start, Overflow::Disconnect, 1);
    world.shard.text(conn, "register b.*.*", now());
    world.finish();
    publish(&mut world, 7);
    world.finish();
    // The archive has brought the first thirty.
    for (published, spec, lost) in [(2, "a.*.*", None), (11, "*.x.*", None), (10, "*.*.k0", Some(10))] {
        publish(&mut world, published);
        world.finish();
        world.shard.forget_left_out(conn, || world.broker.history().first());
        world.text.clear();
        world.shard.text(conn, &format!("register {spec}"), now());
        world.finish();
        let event = |text: &String| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let notices = world.text.iter().map(event).filter(|event| event["Type"] == "hydrant");
        let told: Vec<Option<u64>> = notices.map(|notice| notice["Object"]["Events"].as_u64()).collect();
        assert_eq!(told, lost.map(Some).into_iter().collect::<Vec<_>>(), "{spec}");
    }
}

#[test]
fn an_answer_that_waits_for_its_pass_is_sent_when_the_connection_ends_in_peace() {
    for close in [Close::Draining, Close::Normal(1000)] {
        let mut world = World::new(1000, 1000);
        some(&mut world, 5);
        let conn = open(&mut world, &["a.*.*"]);
        world.conn = Some(conn);
        world.catch_up(1000);
        world.shard.text(conn, "register b.*.*", now());
        world.shard.text(conn, "nonsense", now());
        world.shard.close(conn, close);
        world.read(usize::MAX);
        let answers: Vec<&String> = world.text.iter().filter(|text| text.contains("\"Type\":\"websocket\"")).collect();
        assert!(answers.len() == 3 && answers[1].contains("b.*.*") && answers[2].contains("nonsense"), "{answers:?}");
    }
}
