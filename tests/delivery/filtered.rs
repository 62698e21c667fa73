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
        // No machine matches these in a bounded time a byte.
        (r"Object=Re(^(?:[ -z]?[ -y]?[ -x]?){300}[^ -~])".to_owned(), "replace {n,m} by + or *"),
        ("Name=Re(1[01]{200}[^01])".to_owned(), "replace {n,m} by + or *"),
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

/// The pattern that stopped a shard: it is a search for the last class, and costs four units a byte and not a
/// millisecond.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_costs_so_much_a_byte() {
    let server = Hydrant::start("shards = 1").await;
    let mut client = server.watch(&["*.*.*.Object=Re((?:[ -z]?[ -y]?[ -x]?){1000}[^ -~])", "end.*.*"]).await;
    let text = "x".repeat(160 << 10);
    server.post(&format!(r#"{{"Type":"machines","Action":"update","Key":"k","Object":{{"Name":"{text}"}}}}"#)).await;
    server.announce("end", "of", "it").await;
    assert_eq!(client.names_until("end.of.it").await, Vec::<String>::new());
    server.until_that("hydrant_filter_work_total", |work| work > 0).await;
    let work = server.metric("hydrant_filter_work_total").await;
    assert!(work < 6 * (160 << 10), "{work}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_filters_cost_too_much_is_closed_and_nobody_else() {
    let server = Hydrant::start("shards = 1\nlimits = { filter_work_per_event = 50000 }").await;
    let mut other = server.watch(&["machines.*.*.Name=Re(x$)"]).await;
    let patterns: Vec<String> = (0..8).map(|n| format!("machines.*.*.Name=Re(x[^a]*{n}$)")).collect();
    let mut greedy = server.watch(&patterns.iter().map(String::as_str).collect::<Vec<_>>()).await;
    server.post(&named(1)).await;
    let text = "x".repeat(5_000);
    server.post(&format!(r#"{{"Type":"machines","Action":"update","Key":"long","Object":{{"Name":"{text}"}}}}"#)).await;
    let (code, reason, events) = greedy.closed().await;
    assert_eq!((code, reason.as_str(), events), (1008, "filters cost too much: over limits.filter_work_per_event", 0));
    assert_eq!(other.event().await.name(), "machines.update.long");
    server.until("hydrant_disconnects_total{reason=\"filter_work\"}", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_of_a_connection_and_of_a_principal_have_a_length() {
    let limits = "{ registration_bytes = 20000, registration_bytes_per_principal = 30000 }";
    let server = Hydrant::start(&format!("shards = 1\nlimits = {limits}")).await;
    let (mut first, mut second) = (server.watch(&[]).await, server.watch(&[]).await);
    let mut refused = Vec::new();
    let spec = |n: usize| format!("a.b.{}{n}", "x".repeat(600));
    for client in [&mut first, &mut second] {
        for n in 0..100 {
            client.say(&format!("register {}", spec(n))).await;
            let answer = client.event().await;
            if answer.action == "error" {
                refused.push((n, answer.error()));
                break;
            }
        }
    }
    assert_eq!([refused[0].0, refused[1].0], [33, 16], "{refused:?}");
    assert!(refused[0].1.contains("limits.registration_bytes)"), "{refused:?}");
    assert!(refused[1].1.contains("limits.registration_bytes_per_principal)"), "{refused:?}");
    // What is taken back makes room, and so does who goes.
    first.say(&format!("deregister {}", spec(0))).await;
    assert_eq!(first.event().await.action, "deregister");
    first.register(&spec(50)).await;
    drop(first);
    server.until("hydrant_connections", 1).await;
    second.register(&spec(16)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_of_a_connection_and_of_a_principal_have_a_size() {
    let server =
        Hydrant::start("shards = 1\nlimits = { filter_bytes = 20000, filter_bytes_per_principal = 30000 }").await;
    let (mut first, mut second) = (server.watch(&[]).await, server.watch(&[]).await);
    let mut refused = Vec::new();
    for client in [&mut first, &mut second] {
        for n in 0..100 {
            client.say(&format!("register a.b.c.Name=Re(^{}{n}$)", "x".repeat(50))).await;
            let answer = client.event().await;
            if answer.action == "error" {
                refused.push(answer.error());
                break;
            }
        }
    }
    assert!(refused[0].contains("limits.filter_bytes)"), "{refused:?}");
    assert!(refused[1].contains("limits.filter_bytes_per_principal)"), "{refused:?}");
}
