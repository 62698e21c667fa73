//! Who sees which event: made by hand, through real websockets.

use hydrant::auth::{Store, StoreError, TenantRow, TokenRequest};
use serde_json::json;

use crate::common::people::HASH;
use crate::common::ws::Client;
use crate::common::{Hydrant, PRINCIPAL};

const M1: &str = "3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e";
const M2: &str = "4f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e";

/// Type, action, key and the machine of the object, each with a short name for the table.
const EVENTS: [(&str, &str, &str, &str, Option<&str>); 12] = [
    ("m1+", "machines", "create", M1, None),
    ("m1", "machines", "update", M1, None),
    ("m2", "machines", "update", M2, None),
    ("m2-", "machines", "delete", M2, None),
    ("j1", "jobs", "create", "j1", Some(M1)),
    ("j2", "jobs", "update", "j2", Some(M2)),
    ("j3", "jobs", "update", "j3", None),
    ("p", "profiles", "update", "p1", None),
    ("b", "beeblebrox", "update", M1, None),
    ("u", "users", "save", "alice", None),
    ("a", "log", "audit", "frontend", None),
    ("l", "leases", "create", "C0A8011E", Some(M1)),
];

const ALL: &str = "m1+ m1 m2 m2- j1 j2 j3 p b u a l";

/// A row: who, with which claims, in which tenant, and what of all events it sees. Each stands for twelve pairs.
struct Row {
    name: &'static str,
    claims: &'static [&'static str],
    tenant: &'static [(&'static str, &'static [&'static str])],
    sees: &'static str,
}

const fn row(name: &'static str, claims: &'static [&'static str], sees: &'static str) -> Row {
    Row { name, claims, tenant: &[], sees }
}

const ROWS: [Row; 21] = [
    row("everything", &["*/*/*"], ALL),
    row("nothing", &[], ""),
    row("reader", &["machines/get,list/*"], "m1+ m1 m2 m2-"),
    row("lister", &["machines/list/*"], ""),
    row("updater", &["machines/update/*"], "m1 m2"),
    row("partial", &["machines/update:/Meta/*"], ""),
    row("actor", &["machines/action:x,delete/*"], "m2-"),
    row("one", &[concat!("machines/get/", "3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e")], "m1+ m1"),
    row("some", &[concat!("machines/*/x,", "3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e", ",y")], "m1+ m1"),
    row("split", &["machines/delete/3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e", "machines/create/*"], "m1+"),
    row("lists", &["machines,profiles/get/*"], "m1+ m1 m2 m2- p"),
    row("through", &["jobs/get/3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e"], "j1"),
    row("create-only", &["jobs/create/3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e,j2"], "j1"),
    row("jobs", &["jobs/get/*"], "j1 j2 j3"),
    row("one-job", &["jobs/*/j2"], "j2"),
    row("updates", &["*/update/*"], "m1 m2 j2 j3 p b"),
    row("unknown", &["beeblebrox/*/*"], "b"),
    row("alice", &["users/get/alice"], "u"),
    Row {
        name: "tenant",
        claims: &["*/*/*"],
        tenant: &[("machines", &[M1]), ("profiles", &[])],
        sees: "m1+ m1 j1 b u a l",
    },
    Row { name: "tenant-reader", claims: &["machines/get/*"], tenant: &[("machines", &[M2])], sees: "m2 m2-" },
    Row {
        name: "tenant-jobs",
        claims: &["jobs,machines/get/*"],
        tenant: &[("jobs", &["j1"])],
        sees: "m1+ m1 m2 m2- j1",
    },
];

/// Tokens: whose, restricted how, and what they show.
fn tokens() -> Vec<(&'static str, TokenRequest, &'static str)> {
    let only = |scope: &str, action: &str, specific: &str| TokenRequest {
        scope: Some(scope.to_owned()),
        action: Some(action.to_owned()),
        specific: Some(specific.to_owned()),
        ..TokenRequest::default()
    };
    let roles = |names: &[&str]| TokenRequest {
        roles: names.iter().map(|&name| name.to_owned()).collect(),
        ..TokenRequest::default()
    };
    vec![
        ("user:everything", only("machines", "get", M1), "m1+ m1"),
        ("user:everything", only("jobs", "get", M2), "j2"),
        ("user:everything", only("*", "*", "*"), ALL),
        ("user:reader", only("*", "update", "*"), "m1 m2"),
        ("user:reader", only("profiles", "*", "*"), ""),
        ("user:everything", roles(&["reader"]), "m1+ m1 m2 m2-"),
        ("user:everything", roles(&["reader", "unknown"]), "m1+ m1 m2 m2- b"),
        ("user:reader", roles(&["jobs"]), ""),
        ("user:tenant", roles(&["reader"]), "m1+ m1"),
        ("runner:3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e", TokenRequest::default(), "m1+ m1 j1"),
        ("plugin:ipmi", TokenRequest::default(), ALL),
    ]
}

fn people(store: &mut Store) -> Result<(), StoreError> {
    for Row { name, claims, tenant, .. } in &ROWS {
        store.set_role(name, claims.iter().map(|claim| claim.parse().unwrap()).collect())?;
        store.add_user(name, HASH.clone(), &[(*name).to_owned()])?;
        if !tenant.is_empty() {
            let keys = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect();
            let members = tenant.iter().map(|(kind, listed)| ((*kind).to_owned(), keys(listed))).collect();
            store.set_tenant(name, TenantRow { users: [(*name).to_owned()].into(), members })?;
        }
    }
    Ok(())
}

fn event((_, kind, action, key, machine): (&str, &str, &str, &str, Option<&str>)) -> String {
    let object = machine.map(|machine| json!({"Machine": machine}));
    json!({"Type": kind, "Action": action, "Key": key, "Object": object}).to_string()
}

/// Posts all events, in one shard and so in one order, and returns once everybody has what it gets.
async fn post_all(server: &Hydrant) {
    let mut last = server.watch(&["end.end.end"]).await;
    let all: Vec<String> = EVENTS.into_iter().map(event).collect();
    server.post(&format!("[{}]", all.join(","))).await;
    server.announce("end", "end", "end").await;
    last.event().await;
}

/// The short names of what a client has got.
async fn got(client: &mut Client) -> String {
    client.say("register end.of.test").await;
    let names = client.names_until("websocket.register.end.of.test").await;
    let short = |name: &String| {
        let found = EVENTS.iter().find(|(_, kind, action, key, _)| *name == format!("{kind}.{action}.{key}"));
        found.map(|(short, ..)| *short)
    };
    names.iter().filter(|name| *name != "end.end.end").filter_map(short).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_sees_what_the_table_says() {
    let server = Hydrant::with_people("shards = 1", people).await;
    let whole = ROWS.iter().map(|row| (format!("user:{}", row.name), TokenRequest::default(), row.sees));
    let narrowed = tokens().into_iter().map(|(who, request, sees)| (who.to_owned(), request, sees));
    let table: Vec<(String, TokenRequest, &str)> = whole.chain(narrowed).collect();
    assert!(table.len() * EVENTS.len() >= 40);
    let mut clients = Vec::new();
    for (who, request, _) in &table {
        let mut client = server.connect_as(who, request).await;
        client.register("*.*.*").await;
        clients.push(client);
    }
    post_all(&server).await;
    for ((who, request, sees), client) in table.iter().zip(&mut clients) {
        assert_eq!(got(client).await, *sees, "{who} with {request:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_and_filters_show_no_more_than_rights_do() {
    let server = Hydrant::with_people("shards = 1", people).await;
    let table = [
        ("user:reader", "machines,jobs.update,create.*", "m1+ m1 m2"),
        ("user:reader", "*.update,save.*", "m1 m2"),
        ("user:through", "machine_jobs.*.3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e", "j1"),
        ("user:through", "machine_jobs,jobs,machines.*.*", "j1"),
        ("user:jobs", "machine_jobs.*.4f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e", "j2"),
        ("user:tenant", "machine_jobs.*.*", "j1"),
        ("user:tenant", "machines.*.4f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e", ""),
        ("user:one", "*.*.*.Key=Eq(3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e)", "m1+ m1"),
        ("user:nothing", "*.*.*.Key=Exists()", ""),
    ];
    let mut clients = Vec::new();
    for (who, spec, _) in &table {
        let mut client = server.connect_as(who, &TokenRequest::default()).await;
        client.say(&format!("register {spec}")).await;
        client.event().await;
        clients.push(client);
    }
    post_all(&server).await;
    for ((who, spec, sees), client) in table.iter().zip(&mut clients) {
        assert_eq!(got(client).await, *sees, "{who} with {spec}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_sees_its_own_connections_and_nobody_elses() {
    let server = Hydrant::with_people("connection_events = true\nshards = 1", people).await;
    let mut nothing = server.connect_as("user:nothing", &TokenRequest::default()).await;
    nothing.register("connections.*.*").await;
    let mut reader = server.connect_as("user:reader", &TokenRequest::default()).await;
    reader.register("*.*.*").await;
    let mut all = server.watch(&["connections.create,delete.*"]).await;
    let (again, other) = (
        server.connect_as("user:nothing", &TokenRequest::default()).await,
        server.connect_as("user:through", &TokenRequest::default()).await,
    );
    drop((again, other));
    let mut seen = Vec::new();
    while !["connections.delete.user:nothing", "connections.delete.user:through"]
        .iter()
        .all(|name| seen.contains(&(*name).to_owned()))
    {
        seen.push(all.event().await.name());
    }
    nothing.say("register end.of.test").await;
    let own = nothing.names_until("websocket.register.end.of.test").await;
    let own: Vec<&str> = own.iter().map(String::as_str).filter(|name| !name.contains(PRINCIPAL)).collect();
    assert!(own.ends_with(&["connections.create.user:nothing", "connections.delete.user:nothing"]), "{own:?}");
    assert!(own.iter().all(|name| name.ends_with(".user:nothing")), "{own:?}");
    reader.say("register end.of.test").await;
    let own = reader.names_until("websocket.register.end.of.test").await;
    assert!(own.iter().all(|name| name.ends_with(".user:reader")), "{own:?}");
}
