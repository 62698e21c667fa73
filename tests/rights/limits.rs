//! Limits of roles: N are allowed, N + 1 are refused, with the right answer and a metric.

use hydrant::auth::{LimitChange, RoleLimits, Store, StoreError, TokenRequest};

use crate::common::people::HASH;
use crate::common::ws::Show;
use crate::common::{Hydrant, JSON, event, http, patiently};

const EVERYTHING: &str = "*/*/*";

fn limited(store: &mut Store, role: &str, limits: &[&str]) -> Result<(), StoreError> {
    store.set_role(role, vec![EVERYTHING.parse().unwrap()])?;
    let limits: Vec<LimitChange> = limits.iter().map(|limit| limit.parse().unwrap()).collect();
    store.set_role_limits(role, RoleLimits::default().changed(&limits))
}

/// `small` and `large` have limits, `other` has none; what the configuration says lies between the two.
fn people(store: &mut Store) -> Result<(), StoreError> {
    limited(store, "small", &["connections=1", "registrations=2", "posted_events_per_second=3"])?;
    limited(store, "large", &["connections=4", "registrations=5", "posted_events_per_second=1000"])?;
    limited(store, "other", &[])?;
    let roles = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    store.add_user("few", HASH.clone(), &roles(&["small"]))?;
    store.add_user("many", HASH.clone(), &roles(&["small", "large", "other"]))?;
    store.add_user("plain", HASH.clone(), &roles(&["other"]))
}

const TOML: &str = "limits = { connections_per_principal = 2, registrations = 3, posted_events_per_second = 100 }";

/// How long the posts of a test keep a principal from posting more.
const SECONDS: usize = 40;

async fn server() -> Hydrant {
    Hydrant::with_people(TOML, people).await
}

async fn limited_total(server: &Hydrant, limit: &str) -> u64 {
    server.metric(&format!("hydrant_limited_total{{limit=\"{limit}\"}}")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_a_principal_are_limited_by_its_roles() {
    let server = server().await;
    for (user, allowed) in [("few", 1), ("many", 4), ("plain", 2)] {
        let told = limited_total(&server, "connections").await;
        let bearer = format!("Bearer {}", server.issue(&format!("user:{user}"), &TokenRequest::default()));
        let show = Show::Header(&bearer);
        let mut open = Vec::new();
        for n in 0..allowed {
            open.push(server.try_connect(&show, &[]).await.unwrap_or_else(|refused| panic!("{user} {n}: {refused:?}")));
        }
        let refused = server.try_connect(&show, &[]).await.err().unwrap();
        assert_eq!(refused.status, 429, "{user}");
        assert!(refused.headers.contains_key("retry-after"));
        let said = format!("too many connections of this principal: at most {allowed} are allowed");
        assert!(refused.body.contains(&said), "{}", refused.body);
        assert_eq!(limited_total(&server, "connections").await, told + 1);
        drop(open.pop());
        // The place is free a moment after the connection is gone.
        let again = patiently("a place", async {
            loop {
                if let Ok(client) = server.try_connect(&show, &[]).await {
                    return client;
                }
            }
        });
        open.push(Box::pin(again).await);
        drop(open);
        server.until("hydrant_connections", 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_of_a_connection_are_limited_by_its_roles() {
    let server = server().await;
    for (at, (user, allowed)) in (1..).zip([("few", 2), ("many", 5), ("plain", 3)]) {
        let mut client = server.connect_as(&format!("user:{user}"), &TokenRequest::default()).await;
        for n in 0..allowed {
            client.register(&format!("a.b.{n}")).await;
        }
        client.register("a.b.0").await;
        client.say("register a.b.more").await;
        let refused = client.event().await.error();
        assert_eq!(refused, format!("too many registrations: a connection can have at most {allowed}"), "{user}");
        server.until("hydrant_limited_total{limit=\"registrations\"}", at).await;
        client.deregister("a.b.0").await;
        client.register("a.b.more").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posted_events_of_a_principal_are_limited_by_its_roles() {
    let server = server().await;
    for (at, (user, allowed)) in (1..).zip([("few", 3), ("many", 1000), ("plain", 100)]) {
        let bearer = format!("Bearer {}", server.issue(&format!("user:{user}"), &TokenRequest::default()));
        let (server, headers) = (&server, &[("authorization", bearer.as_str()), ("content-type", JSON)]);
        // What a whole bucket pays for is taken at once, and takes so many seconds to pay off that no test is as slow.
        let body = format!("[{}]", vec![event("a", "b", "c"); allowed * SECONDS].join(","));
        let post = |body: String| async move {
            http::request(server.address(), false, "POST", "/api/v3/events", headers, &body).await
        };
        post(body).await.taken();
        let refused = post(event("a", "b", "c")).await;
        assert_eq!(refused.error(429), format!("too many events: {allowed} per second are allowed"), "{user}");
        let wait: usize = refused.header("retry-after").parse().unwrap();
        assert!((1..=SECONDS).contains(&wait), "{user} waits for {wait} s");
        assert_eq!(limited_total(server, "posted_events").await, at);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_limit_applies_to_open_connections() {
    let server = server().await;
    let mut few = server.connect_as("user:few", &TokenRequest::default()).await;
    few.register("a.b.1").await;
    few.register("a.b.2").await;
    let more = RoleLimits::default().changed(&["registrations=4".parse().unwrap()]);
    server.edit(|store| store.set_role_limits("small", more));
    // Until the server has read the store.
    few.register_at_last("a.b.3").await;
    few.register("a.b.4").await;
    few.say("register a.b.5").await;
    assert!(few.event().await.error().contains("at most 4"));
    let token = TokenRequest { roles: vec!["other".to_owned()], ..TokenRequest::default() };
    let mut narrowed = server.connect_as("user:few", &token).await;
    for n in 0..4 {
        narrowed.register(&format!("a.b.{n}")).await;
    }
    narrowed.say("register a.b.more").await;
    assert!(narrowed.event().await.error().contains("at most 4"), "a token for other roles lifts no limit");
}

/// Memory for bodies is for those who may have what they ask for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_have_a_token_is_told_so_before_its_body() {
    let server = Hydrant::with_people("", |store| {
        store.add_user("few", HASH.clone(), &[])?;
        store.add_user("plain", HASH.clone(), &[])
    })
    .await;
    let token = server.issue("user:few", &TokenRequest::default());
    for (user, expected) in [("plain", "HTTP/1.1 403 "), ("nobody", "HTTP/1.1 403 ")] {
        let mut raw = server.dial().await;
        let head = format!(
            "POST /api/v3/users/{user}/token HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        );
        raw.send(head.as_bytes()).await;
        let answer = raw.head().await;
        assert!(answer.starts_with(expected), "{user}: {answer}");
    }
    let bearer = format!("Bearer {token}");
    let own = [("authorization", bearer.as_str()), ("content-type", JSON)];
    let reply = http::request(server.address(), false, "POST", "/api/v3/users/few/token", &own, "{}").await;
    assert_eq!(reply.status.as_u16(), 200);
    // It has a few names in it, and no more room than for these.
    let long = format!("{}{{}}", " ".repeat(64 << 10));
    let reply = http::request(server.address(), false, "POST", "/api/v3/users/few/token", &own, &long).await;
    assert_eq!(reply.status.as_u16(), 413, "{}", reply.body);
}
