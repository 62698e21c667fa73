//! Whole replays while anything happens: publishing by two followers of one endpoint, holes, a client that pauses.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::sleep;

use super::world::{Client, World};

#[derive(Debug, Clone)]
enum Step {
    Publish(u64),
    /// The stream is ahead of the node by so many.
    Store(u64),
    /// The stream lacks so many.
    Lack(u64),
    /// The node accepts so many of one that publishes.
    Accept(usize, u64),
    /// A node publishes so many events of the endpoint.
    Follow(usize, u64),
    /// Both publish so many. The stream has those of this one first, and the node those of the other.
    Copies(usize, u64),
    Take(usize),
    Wait(u64),
    DropOldest(usize),
    /// The client does nothing for longer than it is waited for. The nodes keep up meanwhile.
    Pause,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..60_u64).prop_map(Step::Publish),
        2 => (1..20_u64).prop_map(Step::Store),
        1 => (1..5_u64).prop_map(Step::Lack),
        2 => (0..2_usize, 1..20_u64).prop_map(|(node, count)| Step::Accept(node, count)),
        1 => (0..2_usize, 1..20_u64).prop_map(|(node, count)| Step::Follow(node, count)),
        2 => (0..2_usize, 1..20_u64).prop_map(|(node, count)| Step::Copies(node, count)),
        5 => (1..300_usize).prop_map(Step::Take),
        4 => (1..60_u64).prop_map(Step::Wait),
        1 => (1..200_usize).prop_map(Step::DropOldest),
        1 => Just(Step::Pause),
    ]
}

async fn pause() {
    sleep(Duration::from_secs(70)).await;
}

impl World {
    async fn step(&mut self, client: &mut Client, step: &Step) {
        match *step {
            Step::Publish(count) => self.publish(count),
            Step::Store(count) => (0..count).for_each(|_| self.store(false)),
            Step::Lack(count) => (0..count).for_each(|_| self.store(true)),
            Step::Accept(node, count) => (0..count).for_each(|_| self.accept_of(node)),
            Step::Follow(node, count) => (0..count).for_each(|_| self.follow(node, false)),
            Step::Copies(node, count) => {
                (0..count).for_each(|_| self.follow(node, false));
                (0..count).for_each(|_| self.follow(1 - node, false));
                (0..count).for_each(|_| self.accept_of(1 - node));
                (0..count).for_each(|_| self.accept_of(node));
            }
            Step::Take(count) => client.take(count),
            Step::Wait(milliseconds) => sleep(Duration::from_millis(milliseconds)).await,
            Step::DropOldest(count) => {
                self.shelf.drop_oldest(count.min(self.shelf.len() / 2));
            }
            Step::Pause => {
                self.accept_all();
                pause().await;
            }
        }
    }

    /// Checks that the client has had, or gets from the history, nothing twice. Returns whether something is missing of
    /// what is `wanted`, and whether it is told so.
    fn check(&self, client: &Client, wanted: &[u64]) -> (bool, bool) {
        let (rest, lost) = self.rest(&client.settled());
        let got: Vec<u64> = client.got.iter().copied().chain(rest).collect();
        let all: BTreeSet<u64> = got.iter().copied().collect();
        assert_eq!(all.len(), got.len(), "something came twice: {got:?}");
        (wanted.iter().any(|number| !all.contains(number)), lost > 0 || !client.gaps.is_empty())
    }
}

/// What happens, and what the history holds.
#[derive(Debug, Clone)]
struct Run {
    history: usize,
    before: u64,
    steps: Vec<Step>,
    /// A later registration asks for so many of a thousand, and pauses after so many chunks.
    again: (usize, usize),
}

/// Checks a replay that goes on during these steps, and that of a later registration.
async fn check(Run { history, before, steps, again: (thousandths, taken) }: &Run) {
    let mut world = World::new(*history);
    world.publish(*before);
    let mut client = world.serve(world.reading());
    for step in steps {
        world.step(&mut client, step).await;
    }
    world.accept_all();
    client.finish().await;
    let has = |wanted: fn(&Step) -> bool| steps.iter().any(wanted);
    let holds_all = *history as u64 > world.events && !has(|step| matches!(step, Step::DropOldest(_)));
    let everything: Vec<u64> = (0..world.events).collect();
    let (has_missing, is_told) = world.check(&client, &everything);
    assert!(!has_missing || is_told && !holds_all);
    let is_whole = holds_all && !has(|step| matches!(step, Step::Pause));
    assert!(!is_whole || client.gaps.is_empty(), "{:?}", client.gaps);
    let last = client.places.len() * thousandths / 1000;
    let mut late = world.serve(client.again(last));
    sleep(Duration::from_millis(1)).await;
    late.take(*taken);
    pause().await;
    late.finish().await;
    let brought = &client.got[..client.got.len().min(last + 1)];
    let (has_missing, is_told) = world.check(&late, if holds_all { &everything } else { brought });
    assert!(!has_missing || is_told && !holds_all);
}

/// The stream has the first event of the node: what it lacks before its first one of a node is not known to be missing.
fn runs(history: Range<usize>) -> impl Strategy<Value = Run> {
    let again = (0..1000_usize, 0..400_usize);
    (history, 1..600_u64, prop::collection::vec(step(), 0..30), again).prop_map(|(history, before, steps, again)| Run {
        history,
        before,
        steps,
        again,
    })
}

fn run(check: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(check);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_event_comes_once_or_a_notice_in_its_place(case in runs(1..80)) {
        run(check(&case));
    }

    #[test]
    fn nothing_is_missing_while_the_history_holds_everything(case in runs(5000..5001)) {
        run(check(&case));
    }
}
