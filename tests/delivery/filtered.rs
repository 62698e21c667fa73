//! Filters among many subscribers and from hostile ones: what is shared is worked out once an event, and a bad filter
//! costs its sender one error answer and nobody anything else.

use std::collections::BTreeSet;

use crate::common::Hydrant;
use hydrant::event::Draft;
use hydrant::index::{Class, Index, Limits};

const FILTERS: usize = 50;

/// Regular expressions, because nothing but asking each of them tells whether it is true.
fn filter(at: usize) -> String {
    format!("machines.update.*.Name=Re(^rack-{at}-)")
}

fn named(at: usize) -> String {
    format!(r#"{{"Type":"machines","Action":"update","Key":"k{at}","Object":{{"Name":"rack-{at}-node"}}}}"#)
}

#[test]
fn ten_thousand_subscribers_of_fifty_filters_cost_fifty_evaluations() {
    const SUBSCRIBERS: usize = 10_000;
    let mut index = Index::new(Limits::default());
    for subscriber in 0..SUBSCRIBERS {
        let slot = index.subscribe(subscriber, Class(0));
        assert!(index.register(slot, &filter(subscriber % FILTERS)).unwrap());
    }
    for at in [0, 7, FILTERS - 1] {
        let text = named(at);
        let event = Draft::read(&text).unwrap().seal("2026-01-02T03:04:05Z".parse().unwrap());
        let before = index.filter_counters().predicate_evaluations;
        let mut hits = BTreeSet::new();
        index.matches(&event, |_| true, |subscriber| assert!(hits.insert(subscriber), "{subscriber} is hit twice"));
        assert_eq!(index.filter_counters().predicate_evaluations - before, FILTERS as u64);
        assert_eq!(hits, (at..SUBSCRIBERS).step_by(FILTERS).collect());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metric_tells_that_filters_are_shared() {
    const NAME: &str = "hydrant_predicate_evaluations_total";
    let server = Hydrant::start("shards = 1").await;
    let mut clients = Vec::new();
    for client in 0..4 * FILTERS {
        clients.push(server.watch(&[&filter(client % FILTERS), "end.*.*"]).await);
    }
    assert_eq!(server.metric(NAME).await, 0);
    server.post(&format!("[{},{}]", named(3), named(4))).await;
    server.announce("end", "of", "it").await;
    for (at, client) in clients.iter_mut().enumerate() {
        let expected: &[&str] = match at % FILTERS {
            3 => &["machines.update.k3"],
            4 => &["machines.update.k4"],
            _ => &[],
        };
        assert_eq!(client.names_until("end.of.it").await, expected, "client {at}");
    }
    server.until(NAME, 2 * FILTERS as u64).await;
}

/// Filters that ask for more than they may, each within the length of a message, and a word of the reason.
fn hostile() -> Vec<(String, &'static str)> {
    let deep = |levels: usize| format!("{}A=Exists(){}", "Not(".repeat(levels), ")".repeat(levels));
    vec![
        (deep(65), "limit"),
        (deep(10_000), "limit"),
        ("Not(".repeat(15_000), ""),
        (format!("A=Eq({})", "[".repeat(60_000)), ""),
        ("A=Re(a{1000}{1000}{1000})".to_owned(), "regular expression"),
        (format!("A=Re({})", r"(\pL{900})".repeat(50)), "regular expression"),
        (format!("A=Re({}{})", "(".repeat(5_000), ")".repeat(5_000)), "regular expression"),
        (format!("{}=Exists()", "a.".repeat(30_000)), ""),
        ("A=Re((a)\\1)".to_owned(), "regular expression"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_filter_leaves_the_connection_usable() {
    let server = Hydrant::start("shards = 1").await;
    let (mut client, mut other) = (server.watch(&["machines.*.*"]).await, server.watch(&["machines.*.*"]).await);
    for (filter, word) in hostile() {
        let shown: String = filter.chars().take(40).collect();
        client.say(&format!("register machines.*.*.{filter}")).await;
        let answer = client.event().await;
        assert!(answer.key.len() <= 256, "{shown}");
        let error = answer.error();
        assert!(error.contains(word) && error.contains("byte "), "{shown}: {error}");
        assert!(error.len() < 2_000, "{shown}: an answer of {} bytes", error.len());
        server.post(&named(1)).await;
        for client in [&mut client, &mut other] {
            assert_eq!(client.event().await.name(), "machines.update.k1", "after {shown}");
        }
    }
    assert_eq!(server.metric("hydrant_registrations").await, 2);
}

/// A backtracking engine would take longer than the universe has lasted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_takes_linear_time() {
    let server = Hydrant::start("shards = 1").await;
    let mut client = server.watch(&["machines.*.*.Name=Re(^(a+)+(a|aa)+$)", "end.*.*"]).await;
    let text = "a".repeat(20_000);
    server.post(&format!(r#"{{"Type":"machines","Action":"update","Key":"no","Object":{{"Name":"{text}b"}}}}"#)).await;
    server.post(&format!(r#"{{"Type":"machines","Action":"update","Key":"yes","Object":{{"Name":"{text}"}}}}"#)).await;
    server.announce("end", "of", "it").await;
    assert_eq!(client.names_until("end.of.it").await, ["machines.update.yes"]);
}
