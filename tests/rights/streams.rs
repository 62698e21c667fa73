//! Rights that end under a running stream: how soon, and that nobody else is disturbed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hydrant::auth::{PasswordHash, Store, StoreError, TokenRequest};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::common::http::Http;
use crate::common::people::{HASH, PASSWORD};
use crate::common::ws::{Client, Show};
use crate::common::{Hydrant, JSON, Seen, basic, event};

/// How long after a change an event may still come that it forbids. The promise is a second, which only a machine that
/// has nothing else to do can be held to (`make soak`); on others it is only not waited for for ever.
fn promise() -> Duration {
    if std::env::var_os("HYDRANT_SOAK").is_some() { Duration::from_secs(1) } else { Duration::MAX }
}

fn people(store: &mut Store) -> Result<(), StoreError> {
    store.set_role("machines", vec!["machines/get/*".parse().unwrap()])?;
    store.set_role("tasks", vec!["tasks/get/*".parse().unwrap()])?;
    store.set_role("both", vec!["machines,tasks/get/*".parse().unwrap()])?;
    store.add_user("alice", HASH.clone(), &["machines".to_owned(), "tasks".to_owned()])?;
    store.add_user("bystander", HASH.clone(), &["both".to_owned()])
}

/// Pairs of events, `machines.update.N` and `tasks.update.N`, one after the other, until it is told to stop.
struct Stream {
    posted: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
    bystander: Client,
}

impl Stream {
    async fn start(server: &Hydrant) -> Self {
        let bystander = watch(server, "user:bystander").await;
        let (posted, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let bearer = format!("Bearer {}", server.token().await);
        let mut http = Http::connect(server.address(), false).await;
        let (times, until) = (Arc::clone(&posted), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
            for n in 0.. {
                let n = n.to_string();
                let last = until.load(Ordering::Acquire);
                let kinds = if last { ["tasks", "tasks"] } else { ["machines", "tasks"] };
                let action = if last { "end" } else { "update" };
                times.lock().push(Instant::now());
                let body = format!("[{},{}]", event(kinds[0], action, &n), event(kinds[1], action, &n));
                http.request("POST", "/api/v3/events", &headers, body).await.taken();
                if last {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Self { posted, stop, task, bystander }
    }

    /// How long after `change` the event with this key was posted.
    fn age(&self, key: &str, change: Instant) -> Duration {
        self.posted.lock()[key.parse::<usize>().unwrap()].saturating_duration_since(change)
    }

    /// The bystander must have got every event in order.
    async fn end(mut self) {
        self.stop.store(true, Ordering::Release);
        self.task.await.unwrap();
        let pairs = self.posted.lock().len() - 1;
        for n in 0..pairs {
            assert_eq!(self.bystander.event().await.name(), format!("machines.update.{n}"));
            assert_eq!(self.bystander.event().await.name(), format!("tasks.update.{n}"));
        }
        assert_eq!(self.bystander.event().await.name(), format!("tasks.end.{pairs}"));
    }
}

async fn watch(server: &Hydrant, principal: &str) -> Client {
    let mut client = server.connect_as(principal, &TokenRequest::default()).await;
    client.register("machines,tasks.*.*").await;
    client
}

/// Reads on until the server closes, which it must do for this reason and soon; returns the last event before.
async fn closed(client: &mut Client, reason: &str) -> Option<Seen> {
    use tokio_tungstenite::tungstenite::Message;
    let mut last = None;
    loop {
        match client.next().await {
            Message::Text(text) => last = Some(Seen::read(text.as_str())),
            Message::Close(Some(frame)) => {
                assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1008, reason));
                return last;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// `change` must end alice's connections within the promise.
async fn ends(change: impl FnOnce(&mut Store) -> Result<(), StoreError>) {
    let server = Hydrant::with_people("shards = 2", people).await;
    let by_password = basic(&format!("alice:{PASSWORD}"));
    let mut alices = vec![watch(&server, "user:alice").await];
    let mut other = server.try_connect(&Show::Header(&by_password), &[]).await.unwrap();
    other.register("machines,tasks.*.*").await;
    alices.push(other);
    let stream = Stream::start(&server).await;
    for alice in &mut alices {
        alice.event().await;
    }
    let changed = Instant::now();
    server.edit(change);
    for alice in &mut alices {
        let last = closed(alice, "credentials revoked").await;
        assert!(changed.elapsed() < promise(), "closed after {:?}", changed.elapsed());
        let late = last.map_or(Duration::ZERO, |last| stream.age(&last.key, changed));
        assert!(late < promise(), "an event posted {late:?} later");
    }
    stream.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_user_is_gone_within_a_second() {
    ends(|store| store.remove_user("alice")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_password_ends_streams_within_a_second() {
    let new = PasswordHash::make("another").unwrap();
    ends(|store| store.set_password("alice", new)).await;
}

/// `change` must hide machines from alice, who goes on to see tasks.
async fn hides(change: impl FnOnce(&mut Store) -> Result<(), StoreError>) {
    let server = Hydrant::with_people("shards = 2", people).await;
    let mut alice = watch(&server, "user:alice").await;
    let stream = Stream::start(&server).await;
    alice.event().await;
    let changed = Instant::now();
    server.edit(change);
    let mut last = alice.event().await;
    let hidden_from = loop {
        let next = alice.event().await;
        if (last.r#type.as_str(), next.r#type.as_str()) == ("tasks", "tasks") {
            break next;
        }
        last = next;
    };
    let late = stream.age(&last.key, changed);
    assert!(late < promise(), "an event posted {late:?} later");
    let first: usize = hidden_from.key.parse().unwrap();
    for n in first + 1..first + 50 {
        assert_eq!(alice.event().await.name(), format!("tasks.update.{n}"), "it stays hidden, and nothing else is");
    }
    stream.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_role_applies_within_a_second() {
    hides(|store| store.set_role("machines", vec!["machines/get/other".parse().unwrap()])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_roles_apply_within_a_second() {
    hides(|store| store.set_user_roles("alice", &["tasks".to_owned()])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_applies_within_a_second() {
    hides(|store| {
        let members = [("machines".to_owned(), ["other".to_owned()].into())].into();
        store.set_tenant("lab", hydrant::auth::TenantRow { users: ["alice".to_owned()].into(), members })
    })
    .await;
}

/// A stream by a token that lives for ten seconds, which a busy machine needs some of, and when it ends.
async fn short_lived(server: &Hydrant) -> (Client, Instant) {
    let request = TokenRequest { ttl: Some(Duration::from_secs(10)), ..TokenRequest::default() };
    let ends = Instant::now() + Duration::from_secs(10);
    let mut client = server.connect_as("user:alice", &request).await;
    client.register("machines,tasks.*.*").await;
    (client, ends)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_closes_where_it_is_told_to() {
    let server = Hydrant::with_people("close_on_token_expiry = true\nshards = 2", people).await;
    let stream = Stream::start(&server).await;
    let (mut alice, ends) = short_lived(&server).await;
    let last = closed(&mut alice, "token expired").await;
    let late = last.map_or(Duration::ZERO, |last| stream.age(&last.key, ends));
    assert!(late < promise(), "an event posted {late:?} later");
    stream.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_goes_on_where_it_is_not() {
    let server = Hydrant::with_people("shards = 2", people).await;
    let stream = Stream::start(&server).await;
    let (mut alice, ends) = short_lived(&server).await;
    let (mut last, beyond) = (alice.event().await, Duration::from_millis(1500));
    while stream.age(&last.key, ends) < beyond {
        let next = alice.event().await;
        let pair = (last.r#type.as_str(), next.r#type.as_str());
        assert!(matches!(pair, ("machines", "tasks") | ("tasks", "machines")), "no gap: {last:?} {next:?}");
        last = next;
    }
    stream.end().await;
}
