//! A client that is cut off anywhere, again and again, and resumes from the Time of the last event that it got.
//!
//! The rule that is tested is the documented one: once all registrations are answered, that Time is a place from which
//! nothing is skipped, whatever was sent when the connection was cut; until then the former place is. It also is when
//! an answer follows an event whose Time is not kept. Events may come twice. The producers' clocks are wrong by minutes
//! or altogether.

use super::*;

const SPECS: [&str; 5] = ["a.*.*", "b.*.*", "*.update.*", "*.*.k1", "a,b.create.k0"];
const ACTIONS: [&str; 2] = ["update", "create"];

fn matches(known: &Known, spec: &str) -> bool {
    match spec {
        "a.*.*" => known.kind == "a",
        "b.*.*" => known.kind == "b",
        "*.update.*" => known.action == "update",
        "*.*.k1" => known.key == "k1",
        _ => known.kind != "c" && known.action == "create" && known.key == "k0",
    }
}

#[derive(Debug, Clone)]
enum Move {
    /// An event, and by how many seconds its clock is wrong.
    Publish(usize, usize, bool, i64),
    Turn(usize),
    /// The client sends its next registration, unless the query holds them all.
    Register,
    /// Some time passes.
    Wait(u64),
    CatchUp(usize),
    Read(usize),
    Page(usize),
}

fn clock() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => Just(0_i64),
        2 => -400..290_i64,
        // A clock that is altogether wrong: long ago, or in a far future.
        1 => prop_oneof![Just(-1_000_000_000), Just(1_000_000_000)],
    ]
}

fn one() -> impl Strategy<Value = Move> {
    prop_oneof![
        6 => (0..KINDS.len(), 0..ACTIONS.len(), any::<bool>(), clock())
            .prop_map(|(kind, action, key, clock)| Move::Publish(kind, action, key, clock)),
        3 => (1..6_usize).prop_map(Move::Turn),
        4 => Just(Move::Register),
        2 => (0..400_000_u64).prop_map(Move::Wait),
        4 => (1..20_usize).prop_map(Move::CatchUp),
        4 => (50..3000_usize).prop_map(Move::Read),
        3 => (0..8_usize).prop_map(Move::Page),
    ]
}

/// One connection: whether its query holds the registrations, their order, and what happens until it is cut.
type Cut = (bool, Vec<usize>, Vec<Move>);

fn cut() -> impl Strategy<Value = Cut> {
    let order = Just((0..3).collect::<Vec<usize>>()).prop_shuffle();
    (any::<bool>(), order, prop::collection::vec(one(), 0..60))
}

#[derive(Debug, Clone)]
struct Plan {
    archive: bool,
    ring: usize,
    outbox: usize,
    overflow: Overflow,
    /// Whether the first place is a time.
    time: bool,
    before: usize,
    since: usize,
    specs: [&'static str; 3],
    cuts: Vec<Cut>,
}

fn plan(archive: bool, ring: impl Strategy<Value = usize>) -> impl Strategy<Value = Plan> {
    let overflow = prop::sample::select(Overflow::ALL.to_vec());
    let specs = prop::sample::subsequence(SPECS.to_vec(), 3);
    let cuts = prop::collection::vec(cut(), 1..5);
    (ring, 16..64_usize, overflow, any::<bool>(), 0..80_usize, 0..80_usize, specs, cuts).prop_map(
        move |(ring, outbox, overflow, time, before, since, specs, cuts)| {
            let specs = specs.try_into().unwrap();
            Plan { archive, ring, outbox, overflow, time, before, since: since.min(before), specs, cuts }
        },
    )
}

/// What the client knows over all its connections.
#[derive(Debug, Default)]
struct Client {
    since: String,
    got: BTreeSet<u64>,
    /// Events said to be lost; nothing once a notice could not say how many.
    lost: Option<u64>,
}

impl Client {
    /// Reads what came by a connection that is gone. `wanted` is how many registrations must have been answered.
    fn take(&mut self, texts: Vec<String>, plan: &Plan) {
        let (mut answered, mut last, mut is_kept) = (0, None, true);
        for text in texts {
            let event: serde_json::Value = serde_json::from_str(&text).unwrap();
            match event["Type"].as_str().unwrap() {
                "websocket" => {
                    assert_eq!(event["Action"], "register", "{text}");
                    answered += 1;
                    // A pass began with the event before, further back than any Time from before that.
                    last = last.filter(|_| is_kept);
                    continue;
                }
                "hydrant" => self.lost = self.lost.zip(event["Object"]["Events"].as_u64()).map(|(a, b)| a + b),
                _ => {
                    self.got.insert(event["Object"]["N"].as_u64().unwrap());
                }
            }
            let time = event["Time"].as_str().unwrap();
            is_kept = is_usable(time, plan);
            if is_kept {
                last = Some(time.to_owned());
            }
        }
        if let Some(time) = last.filter(|_| answered == plan.specs.len()) {
            self.since = time;
        }
    }
}

/// Whether a Time is kept: not one of another age, and one of a far future only where the event that bears it is
/// retained.
fn is_usable(time: &str, plan: &Plan) -> bool {
    let time: Timestamp = time.parse().unwrap();
    let near = time < now() + SignedDuration::from_mins(5) || (plan.ring >= 1000 && !plan.archive);
    near && time > now() - HOUR
}

impl World {
    fn resume(&mut self, client: &Client, plan: &Plan, query: bool, order: &[usize]) -> ConnId {
        let since = client.since.parse().unwrap();
        let start = self.broker.resolve(since, &client.since, both()).unwrap();
        let conn = self.connect_with(start, plan.overflow, if query { plan.specs.len() } else { 0 });
        if query {
            order.iter().for_each(|at| self.shard.text(conn, &format!("register {}", plan.specs[*at]), now()));
        }
        conn
    }

    fn step(&mut self, conn: ConnId, what: &Move, plan: &Plan, left: &mut Vec<usize>) {
        match *what {
            Move::Publish(kind, action, key, clock) => {
                let known = Known { kind: KINDS[kind], action: ACTIONS[action], key: if key { "k1" } else { "k0" } };
                self.publish_of(known, now() + SignedDuration::from_secs(clock));
            }
            Move::Turn(batches) => self.turn(batches),
            Move::Register => {
                if let Some(at) = left.pop() {
                    self.shard.text(conn, &format!("register {}", plan.specs[at]), now());
                }
            }
            Move::Wait(us) => self.us += us,
            Move::CatchUp(events) => self.catch_up(events),
            Move::Read(bytes) => {
                self.read(bytes);
            }
            Move::Page(events) => {
                self.archive.hand_over(events, self.broker.history());
            }
        }
    }
}

fn resume(plan: &Plan) {
    let mut world = World::new(plan.ring, plan.outbox);
    if plan.archive {
        world.broker.set_archive(Arc::clone(&world.archive) as _);
    }
    let first = now().to_string();
    for number in 0..plan.before {
        world.publish(Known { kind: KINDS[number % 3], action: ACTIONS[number / 3 % 2], key: "k0" });
    }
    world.turn(plan.before / 2);
    let start = hydrant::broker::history::Position { sequence: plan.since as u64, ..world.broker.history().position() };
    let (since, from) = if plan.time { (first, 0) } else { (start.to_string(), plan.since as u64) };
    let mut client = Client { since, got: BTreeSet::new(), lost: Some(0) };
    for (query, order, moves) in &plan.cuts {
        let conn = world.resume(&client, plan, *query, order);
        let mut left = if *query { Vec::new() } else { order.clone() };
        moves.iter().for_each(|what| world.step(conn, what, plan, &mut left));
        client.take(std::mem::take(&mut world.text), plan);
        world.shard.remove(conn);
        world.shard.take_closing();
    }
    let conn = world.resume(&client, plan, true, &[0, 1, 2]);
    world.finish();
    assert!(world.shard.take_closing().is_empty(), "who reads is not closed");
    client.take(std::mem::take(&mut world.text), plan);
    world.shard.remove(conn);
    judge(plan, &client, &world.events, from);
}

fn judge(plan: &Plan, client: &Client, events: &[Known], from: u64) {
    let wanted = (from..).zip(&events[usize::try_from(from).unwrap()..]);
    let wanted = wanted.filter(|(_, known)| plan.specs.iter().any(|spec| matches(known, spec)));
    // A later update of the same object stands for those before it.
    let conflated = |number: u64, known: &Known| {
        let later = |other: &u64| {
            let other = &events[usize::try_from(*other).unwrap()];
            other.action == "update" && (other.kind, other.key) == (known.kind, known.key)
        };
        plan.overflow == Overflow::Conflate && known.action == "update" && client.got.range(number + 1..).any(later)
    };
    let missing: Vec<u64> = wanted
        .filter(|(number, known)| !client.got.contains(number) && !conflated(*number, known))
        .map(|(number, _)| number)
        .collect();
    let Some(lost) = client.lost else { return assert!(plan.ring < 1000 && !plan.archive, "every gap is counted") };
    assert!(missing.len() as u64 <= lost, "{missing:?} are missing, {lost} were said to be lost");
    assert!(lost == 0 || plan.overflow == Overflow::DropOldest || plan.ring < 1000, "nothing is lost");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(runs()))]

    #[test]
    fn nothing_is_skipped_wherever_a_connection_is_cut(plan in plan(false, Just(1000_usize))) {
        resume(&plan);
    }

    #[test]
    fn nothing_is_skipped_over_an_archive(plan in plan(true, 1..40_usize)) {
        resume(&plan);
    }

    #[test]
    fn what_a_small_ring_has_forgotten_is_told(plan in plan(false, 1..40_usize)) {
        resume(&plan);
    }
}

/// Found by the properties above.
#[test]
fn a_notice_of_a_gap_is_no_later_than_what_the_shard_has_yet_to_take() {
    let mut moves = vec![Move::Turn(4)];
    moves.extend([const { Move::Publish(0, 0, false, 0) }; 4]);
    moves.extend([const { Move::Register }; 3]);
    moves.extend([Move::Turn(2), Move::CatchUp(1), Move::Wait(60_000), Move::Turn(5), Move::CatchUp(1)]);
    moves.push(Move::Read(487));
    for archive in [true, false] {
        let cuts = vec![(false, vec![0, 1, 2], moves.clone())];
        let specs = ["b.*.*", "*.update.*", "*.*.k1"];
        let overflow = Overflow::Disconnect;
        resume(&Plan { archive, ring: 1, outbox: 16, overflow, time: false, before: 19, since: 19, specs, cuts });
    }
}

/// Found by the properties above.
#[test]
fn an_answer_after_an_event_of_long_ago_leaves_no_place_before_it() {
    let publish = |kind, action, clock| Move::Publish(kind, action, false, clock);
    let first = vec![
        publish(1, 0, -1_000_000_000),
        publish(0, 0, 0),
        publish(0, 0, 0),
        publish(0, 0, 0),
        publish(1, 0, 0),
        publish(0, 1, 0),
    ];
    let second = vec![
        Move::Turn(3),
        Move::Register,
        Move::Turn(3),
        Move::CatchUp(1),
        Move::Wait(60_000),
        Move::CatchUp(1),
        Move::Register,
        Move::CatchUp(6),
        Move::Register,
        Move::CatchUp(2),
        Move::Read(595),
    ];
    let cuts = vec![(false, vec![0, 1, 2], first), (false, vec![0, 1, 2], second)];
    let specs = ["b.*.*", "*.*.k1", "a,b.create.k0"];
    let overflow = Overflow::Disconnect;
    resume(&Plan { archive: false, ring: 22, outbox: 22, overflow, time: false, before: 0, since: 0, specs, cuts });
}
