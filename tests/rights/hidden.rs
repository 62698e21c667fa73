//! Filters are not asked about what their connection may not see, live or from the past: by counting what they did.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use hydrant::auth::{Access, AuthOptions, Authority, Credential, Principal, Secret, edit_store};
use hydrant::broker::Broker;
use hydrant::broker::history::{History, HistoryLimits, Position, Since};
use hydrant::clock;
use hydrant::event::{Draft, Event};
use hydrant::fanout::catch_up::Allowance;
use hydrant::fanout::outbox::ConnId;
use hydrant::fanout::session::Shard;
use hydrant::index::Limits;
use hydrant::metrics::{FilterCost, Metrics, Source};
use hydrant::overflow::Overflow;
use hydrant::stats::OutboxLimits;

use crate::common::people::{HASH, PASSWORD, now};

type Person = (Arc<Access>, Principal);

/// A user who may see nothing but its own connections, and one who sees everything.
fn people() -> [Person; 2] {
    let dir = tempfile::tempdir().unwrap();
    edit_store(dir.path(), |store| {
        store.add_user("nobody", HASH.clone(), &[])?;
        store.add_user("root", HASH.clone(), &["superuser".to_owned()])
    })
    .unwrap();
    let (authority, _) = Authority::open(dir.path(), AuthOptions::default()).unwrap();
    ["nobody", "root"].map(|user| {
        let credential = Credential::Basic { user: user.to_owned(), password: Secret::new(PASSWORD) };
        let identity = authority.authenticate(&credential, IpAddr::V4(Ipv4Addr::LOCALHOST), clock::both()).unwrap();
        (authority.access(&identity).unwrap(), identity.principal().clone())
    })
}

const FILTERS: [&str; 5] = [
    "Params.secret=Eq(swordfish)",
    "Params.secret=Re(^s)",
    "Params=Changed()",
    "Not(Params.secret=In(a,b))",
    "And(Name=Exists(),Params.secret=Ne(guess))",
];

fn event(kind: &str, key: &str) -> Event {
    let mut draft = Draft::new(kind, "update", key);
    draft.object = r#"{"Name":"p","Params":{"secret":"swordfish"}}"#;
    draft.original = r#"{"Name":"p"}"#;
    draft.seal(now())
}

fn shard() -> Shard {
    Shard::new(Limits::default(), OutboxLimits { bytes: 1 << 20, events: 1000 }, None)
}

fn register(shard: &mut Shard, conn: ConnId, kind: &str) {
    for filter in FILTERS {
        shard.text(conn, &format!("register {kind}.*.*.{filter}"), now());
    }
}

#[test]
fn no_filter_is_asked_about_a_live_event_that_is_hidden() {
    let [(nothing, nobody), (everything, root)] = people();
    let mut shard = shard();
    let conn = shard.open(nobody.clone(), &nothing, Overflow::Disconnect);
    for kind in ["*", "profiles,connections"] {
        register(&mut shard, conn, kind);
    }
    shard.publish(&Arc::new(event("profiles", "p")), 0);
    shard.publish(&Arc::new(event("connections", root.as_str())), 0);
    assert_eq!(shard.take_filter_cost(), FilterCost::default());
    let waiting = shard.fanout().depth(conn).events;
    shard.publish(&Arc::new(event("connections", nobody.as_str())), 0);
    assert_eq!(shard.fanout().depth(conn).events, waiting + 1, "its own is seen, once");
    assert!(shard.take_filter_cost().predicate_evaluations > 0);
    // Rights that come later count from the next event on.
    shard.set_access(conn, &everything);
    shard.publish(&Arc::new(event("profiles", "p")), 0);
    assert_eq!(shard.fanout().depth(conn).events, waiting + 2);
}

#[test]
fn no_filter_is_asked_about_an_event_of_the_past_that_is_hidden() {
    let [(nothing, nobody), (everything, root)] = people();
    let broker = Broker::new(
        Arc::new(Metrics::new()),
        Instant::now(),
        History::new(HistoryLimits { events: 100, bytes: 1 << 20 }, 1, now()),
    );
    broker.publish(vec![event("profiles", "p"), event("connections", root.as_str())], Source::Post).unwrap();
    for (principal, access, sees) in [(&nobody, &nothing, 0), (&root, &everything, 2)] {
        let mut shard = shard();
        let history = broker.history();
        let beginning = Position { sequence: 0, ..history.position() };
        let start = history.resolve(Since::Position(beginning), "x", now()).unwrap();
        let conn = shard.open_since(principal.clone(), access, Overflow::Disconnect, start, 0);
        register(&mut shard, conn, "*");
        shard.set_position(2);
        let waiting = shard.fanout().depth(conn).events;
        // Nothing comes until the client has paused.
        for second in 0..2 {
            let allowance = Allowance { events: 100, bytes: 1 << 20, work: u64::MAX };
            shard.catch_up(history, allowance, second * 1_000_000, now());
        }
        assert_eq!(shard.fanout().depth(conn).events, waiting + sees);
        let cost = shard.take_filter_cost();
        assert_eq!(
            (cost.predicate_evaluations > 0, cost.field_lookups > 0, cost.work > 0),
            (sees > 0, sees > 0, sees > 0)
        );
    }
}
