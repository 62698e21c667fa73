//! A fleet's registrations and events for the benchmarks of matching.

use hydrant::event::{Draft, Event};
use hydrant::index::{Class, Index, Limits};

const KEYS: usize = 65_000;

/// A UUID-shaped key, spread by a multiplicative hash so that neighbours have nothing in common.
fn key(n: usize) -> String {
    let mixed = (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("{:08x}-{:04x}-4000-8000-{:012x}", mixed >> 32, mixed >> 16 & 0xFFFF, mixed & 0xFFFF_FFFF_FFFF)
}

fn spec(n: usize) -> String {
    let key = key(n % KEYS);
    match n % 10 {
        0..=3 => format!("machines.*.{key}"),
        4..=6 => format!("machines.update.{key}"),
        7..=8 => format!("machine_jobs.*.{key}"),
        _ => ["jobs.create.*", "profiles.*.*", "work_orders.update.*", "params.save.*"][n / 10 % 4].to_owned(),
    }
}

/// Ten registrations a subscriber, as a portal or a runner has them.
pub(super) fn index(registrations: usize) -> Index<u32> {
    let mut index = Index::new(Limits::default());
    let subscribers = registrations.div_ceil(10);
    for subscriber in 0..subscribers {
        let slot = index.subscribe(u32::try_from(subscriber).expect("a million"), Class(0));
        for n in (subscriber..registrations).step_by(subscribers) {
            index.register(slot, &spec(n)).expect("a good registration");
        }
    }
    index
}

/// One event of a type for each machine.
pub(super) fn events(kind: &str) -> impl Iterator<Item = Event> {
    let event = move |n: usize| {
        let object = format!("{{\"Machine\":\"{}\"}}", key(n));
        let key = key(n);
        let mut draft = Draft::new(kind, "update", &key);
        draft.object = &object;
        draft.seal(jiff::Timestamp::UNIX_EPOCH)
    };
    // In an order of its own, not that of the registrations.
    (0..KEYS).map(move |n| event(n * 7919 % KEYS))
}
