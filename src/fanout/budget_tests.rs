//! Tests that the budget of the outboxes bounds what they hold in memory, not what they are about to send.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::outbox::{Budget, ConnId, DeflatePolicy};
use super::session::Shard;
use crate::auth::{AuthOptions, Authority, Credential, Secret};
use crate::event::{Draft, Event};
use crate::index::Limits;
use crate::overflow::Overflow;
use crate::protocol::Close;
use crate::stats::OutboxLimits;
use crate::websocket::frame::Encoding;

const OUTBOX: OutboxLimits = OutboxLimits { bytes: 8 << 20, events: 65_536 };

const BUDGET: usize = 4 << 20;

/// Opens a shard's connections with these policies and encodings, each registered for events of its type.
fn connect<'a>(kinds: impl Iterator<Item = (Overflow, Encoding, &'a str)>) -> (Shard, Vec<ConnId>) {
    let data = tempfile::tempdir().unwrap();
    let (authority, _) = Authority::open(data.path(), AuthOptions::default()).unwrap();
    let credential = Credential::Basic { user: "rocketskates".to_owned(), password: Secret::new("r0cketsk8ts") };
    let identity = authority.authenticate(&credential, IpAddr::V4(Ipv4Addr::LOCALHOST), crate::clock::both()).unwrap();
    let access = authority.access(&identity).unwrap();
    let deflate = DeflatePolicy { level: 2, min_bytes: 256, max_bytes: 1 << 20, skip_types: Vec::new() };
    let mut shard = Shard::new(Limits::default(), OUTBOX, Some(deflate));
    let conns = kinds.map(|(policy, encoding, kind)| {
        let conn = shard.open(identity.principal().clone(), &access, policy);
        shard.fanout().set_encoding(conn, encoding);
        shard.text(conn, &format!("register {kind}.*.*"), jiff::Timestamp::UNIX_EPOCH);
        conn
    });
    let conns = conns.collect();
    (shard, conns)
}

fn event(kind: &str, bytes: usize) -> Arc<Event> {
    let object = format!("\"{}\"", "x".repeat(bytes));
    let mut draft = Draft::new(kind, "update", "key");
    draft.object = &object;
    Arc::new(draft.seal(jiff::Timestamp::UNIX_EPOCH))
}

/// What deflates a hundredfold is in memory as it was.
#[test]
fn whoever_holds_the_most_memory_is_shed_however_little_it_is_sent() {
    for (policy, encoding) in Overflow::ALL.into_iter().flat_map(|policy| {
        [Encoding::Plain, Encoding::Deflate, Encoding::EventStream].map(|encoding| (policy, encoding))
    }) {
        let healthy = (0..20).map(|_| (Overflow::Disconnect, Encoding::Plain, "small"));
        let (mut shard, conns) = connect([(policy, encoding, "large")].into_iter().chain(healthy));
        let (large, healthy) = conns.split_first().unwrap();
        (0..20).for_each(|_| shard.publish(&event("small", 1000), 0));
        let before: Vec<_> = healthy.iter().map(|conn| shard.fanout().depth(*conn)).collect();
        let budget = Budget::new(BUDGET, 1);
        for _ in 0..64 {
            shard.fanout().begin_turn();
            shard.publish(&event("large", 256 << 10), 0);
            shard.keep_budget(&budget, 0);
            assert!(!budget.is_exceeded(), "{policy:?} {encoding:?}");
        }
        assert!(before.iter().eq(healthy.iter().map(|conn| shard.fanout().depth(*conn)).collect::<Vec<_>>().iter()));
        let lost = (shard.fanout().is_closing(*large), shard.fanout().totals(*large).1 > 0);
        let expected = match policy {
            Overflow::Conflate => (false, false),
            Overflow::DropOldest => (false, true),
            Overflow::Disconnect => (true, true),
        };
        assert_eq!(lost, expected, "{policy:?} {encoding:?}");
    }
}

/// What is queued when a client closes, or the server drains, is still sent. Whoever does not read it, and comes back
/// at once, would hold as much again.
#[test]
fn a_connection_that_is_closing_is_shed_before_others_that_hold_less() {
    for (policy, close) in [Overflow::Disconnect, Overflow::DropOldest]
        .into_iter()
        .flat_map(|policy| [Close::Normal(1000), Close::Draining].map(|close| (policy, close)))
    {
        let healthy = (0..20).map(|_| (Overflow::Disconnect, Encoding::Plain, "small"));
        let (mut shard, conns) = connect([(policy, Encoding::Plain, "large")].into_iter().chain(healthy));
        let (large, healthy) = conns.split_first().unwrap();
        (0..20).for_each(|_| shard.publish(&event("small", 1000), 0));
        (0..28).for_each(|_| shard.publish(&event("large", 256 << 10), 0));
        shard.close(*large, close);
        assert_eq!(shard.take_closing(), [(*large, close)]);
        let budget = Budget::new(BUDGET, 1);
        for _ in 0..4 {
            shard.fanout().begin_turn();
            shard.keep_budget(&budget, 0);
        }
        assert!(!budget.is_exceeded(), "{policy:?} {close:?}");
        assert_eq!(shard.fanout().totals(*large).1, if policy == Overflow::Disconnect { 28 } else { 15 });
        assert!(
            healthy.iter().all(|conn| shard.fanout().depth(*conn).events == 21 && !shard.fanout().is_closing(*conn))
        );
        assert!(shard.take_closing().is_empty(), "nobody is closed, nor twice");
    }
}
