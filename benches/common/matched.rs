//! A turn with the index in front: events are matched, put into outboxes and written, without the kernel. Matching also
//! counts what each registration has done (`make counting-cost`).

use std::hint::black_box;
use std::sync::Arc;

use hydrant::event::{Draft, Event};
use hydrant::fanout::outbox::gather::Gathered;
use hydrant::fanout::outbox::{ConnId, Fanout};
use hydrant::index::{Class, Index, Limits};
use hydrant::overflow::Overflow;
use hydrant::stats::OutboxLimits;

pub(super) const CONNECTIONS: usize = 1_000;
pub(super) const EVENTS: usize = 16;

/// What the connections have registered. All of them get all events.
///
/// Connections with equal rights that register for the same topics without a filter are one group, whatever else is in
/// their lists: an event is counted once for it. So only own rights or own filters make a count for each connection.
pub(super) const KINDS: [&str; 3] = ["shared", "classes", "filters"];

pub(super) struct Turn {
    fanout: Fanout,
    index: Index<ConnId>,
    events: Vec<Arc<Event>>,
    dirty: Vec<ConnId>,
}

impl Turn {
    /// Makes connections whose registrations are of this kind.
    pub(super) fn new(kind: &str) -> Self {
        let mut fanout = Fanout::new(OutboxLimits { bytes: 16 << 20, events: 65_536 });
        let mut index = Index::new(Limits::default());
        for at in 0..CONNECTIONS {
            let class = if kind == "classes" { u32::try_from(at).expect("a thousand") } else { 0 };
            let filter = if kind == "filters" { format!(".Name=Ne(own-{at})") } else { String::new() };
            let slot = index.subscribe(fanout.open(Overflow::Disconnect), Class(class));
            index.register(slot, &format!("machines.update.*{filter}")).expect("it is a registration");
        }
        Self { fanout, index, events: events(), dirty: Vec::new() }
    }

    /// Delivers all events to everybody, then everybody is written to. Returns the number of deliveries.
    pub(super) fn run(&mut self) -> usize {
        let Self { fanout, index, events, dirty } = self;
        let mut deliveries = 0;
        for event in events.iter() {
            fanout.begin_event(event);
            let deliver = |conn| {
                deliveries += 1;
                black_box(fanout.deliver(event, 0, conn));
            };
            index.matches(event, |_| true, deliver);
            fanout.end_event();
        }
        write(fanout, dirty);
        deliveries
    }
}

fn events() -> Vec<Arc<Event>> {
    let object = format!("{{\"Name\":\"m\",\"Text\":\"{}\"}}", "x".repeat(900));
    let seal = |at: usize| {
        let key = at.to_string();
        let mut draft = Draft::new("machines", "update", &key);
        draft.object = &object;
        Arc::new(draft.seal(jiff::Timestamp::UNIX_EPOCH))
    };
    (0..EVENTS).map(seal).collect()
}

/// Everybody who got something is written to.
pub(super) fn write(fanout: &mut Fanout, dirty: &mut Vec<ConnId>) {
    fanout.take_dirty(dirty);
    for &conn in dirty.iter() {
        let mut gathered = Gathered::new();
        fanout.gather(conn, 256 << 10, &mut gathered);
        let bytes = black_box(&gathered).iter().map(|slice| slice.len()).sum();
        drop(gathered);
        fanout.advance(conn, bytes, 100);
    }
    fanout.end_round(100);
}
