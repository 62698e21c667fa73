//! What people ask a running server: status, registrations with what they do, warnings, explanations.

use std::time::{Duration, Instant};

use hydrant::auth::{Store, StoreError, TenantRow, TokenRequest};
use serde_json::{Value, json};

use crate::common::people::HASH;
use crate::common::stream::SSE;
use crate::common::ws::Client;
use crate::common::{Hydrant, Seen, event, patiently};

/// Users: one who may look at connections, one who sees jobs only, one in a tenant.
fn people(store: &mut Store) -> Result<(), StoreError> {
    let claims = |claims: &[&str]| claims.iter().map(|claim| claim.parse().unwrap()).collect();
    store.set_role("looker", claims(&["connections/list,get/*", "jobs/get/*"]))?;
    store.set_role("machinist", claims(&["machines/get/*"]))?;
    store.set_role("chief", claims(&["*/*/*"]))?;
    for (user, role) in [("looker", "looker"), ("worker", "machinist"), ("tenant", "chief")] {
        store.add_user(user, HASH.clone(), &[role.to_owned()])?;
    }
    let members = [("machines".to_owned(), ["m1".to_owned()].into())].into();
    store.set_tenant("t", TenantRow { users: ["tenant".to_owned()].into(), members })
}

async fn ask(server: &Hydrant, user: &str, method: &str, path: &str, body: &str) -> crate::common::http::Reply {
    let token = server.issue(&format!("user:{user}"), &TokenRequest::default());
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    crate::common::http::request(server.address(), false, method, path, &headers, body).await
}

async fn get(server: &Hydrant, path: &str) -> Value {
    server.request("GET", path, &[], "").await.json()
}

async fn update(server: &Hydrant, key: &str, stage: &str) {
    let event = json!({"Type": "machines", "Action": "update", "Key": key, "Object": {"Stage": stage}});
    server.post(&event.to_string()).await;
}

/// Where the only websocket of the server comes from.
async fn address(server: &Hydrant) -> String {
    get(server, "/api/v3/connections?Type=websocket").await[0]["RemoteAddr"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_has_what_the_metrics_have() {
    let server = Hydrant::with_people("shards = 2", people).await;
    let mut client = server.watch(&["machines.*.*", "jobs.*.*"]).await;
    for at in 0..20 {
        update(&server, &at.to_string(), "local").await;
        client.event().await;
    }
    server.until("hydrant_deliveries_total", 20).await;
    let status = get(&server, "/api/v3/hydrant/status").await;
    assert_eq!(
        (&status["Connections"], &status["Registrations"], &status["Delivered"]),
        (&1.into(), &2.into(), &20.into())
    );
    let shards = status["Shards"].as_array().unwrap();
    let connections: u64 = shards.iter().map(|shard| shard["Connections"].as_u64().unwrap()).sum();
    assert_eq!((&status["Received"]["post"], shards.len(), connections), (&20.into(), 2, 1));
    let latency: u64 =
        status["Latency"]["Counts"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(latency, 20);
    assert!(status["Rates"]["DeliveredPerSecond"].as_f64().unwrap() > 0.0, "{status}");
    assert!(status["Rates"]["P99Microseconds"].as_u64().unwrap() > 0, "{status}");
    for absent in ["Nats", "Identity"] {
        assert_eq!(status[absent], Value::Null, "{status}");
    }
    assert_eq!(ask(&server, "looker", "GET", "/api/v3/hydrant/status", "").await.status.as_u16(), 200);
    ask(&server, "worker", "GET", "/api/v3/hydrant/status", "").await.error(403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_tell_what_they_have_done() {
    let server = Hydrant::with_people("shards = 2", people).await;
    let filtered = "machines.update.*.Stage=Eq(local)";
    let mut clients: Vec<Client> = Vec::new();
    for specs in [&["machines.*.m1", filtered][..], &["machines.*.m1"], &["jobs.*.*"]] {
        clients.push(server.watch(specs).await);
    }
    for (key, stage) in [("m1", "local"), ("m2", "none"), ("m2", "local")] {
        update(&server, key, stage).await;
    }
    server.until("hydrant_deliveries_total", 3).await;
    let all = get(&server, "/api/v3/hydrant/registrations?sort=deliveries").await;
    let row = |spec: &str| {
        let one = all.as_array().unwrap().iter().find(|one| one["Spec"] == spec).unwrap().clone();
        [&one["Hits"], &one["Deliveries"], &one["Shared"]].map(|value| value.as_u64().unwrap())
    };
    assert_eq!(row("machines.*.m1"), [1, 2, 2], "{all}");
    assert_eq!(row(filtered), [2, 2, 1], "{all}");
    assert_eq!(row("jobs.*.*"), [0, 0, 1], "{all}");
    let cost = get(&server, "/api/v3/hydrant/registrations?sort=work&limit=1").await;
    assert_eq!((cost.as_array().unwrap().len(), &cost[0]["Spec"]), (1, &filtered.into()));
    assert!(cost[0]["FilterWork"].as_u64().unwrap() > 0 && cost[0]["LastHit"].is_string(), "{cost}");
    clients.push(server.watch(&["machine.update.*"]).await);
    // What is found is told again for a second.
    let warned = async {
        let path = "/api/v3/hydrant/registrations";
        while !get(&server, path).await.to_string().contains("did you mean `machines`?") {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    crate::common::patiently("a warning", warned).await;
    drop(clients);
    server.until("hydrant_connections", 0).await;
    server.request("GET", "/api/v3/hydrant/registrations?sort=x", &[], "").await.error(400);
    ask(&server, "worker", "GET", "/api/v3/hydrant/registrations", "").await.error(403);
    // A tenant hides what belongs to everybody.
    ask(&server, "tenant", "GET", "/api/v3/hydrant/registrations", "").await.error(403);
    ask(&server, "tenant", "GET", "/api/v3/hydrant/status", "").await.error(403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_tells_its_registrations_to_whoever_may_see_it() {
    let server = Hydrant::with_people("shards = 2", people).await;
    let mut client = server.watch(&["machines.*.*", "jobs.*.*"]).await;
    update(&server, "m1", "local").await;
    client.event().await;
    let address = address(&server).await;
    let path = format!("/api/v3/connections/{address}");
    let connection = get(&server, &path).await;
    let specs = &connection["Specs"];
    assert_eq!((&connection["Registrations"], &connection["Encoding"]), (&2.into(), &"plain".into()), "{connection}");
    assert_eq!(
        (&specs[0]["Spec"], &specs[0]["Hits"], &specs[0]["LastHit"]),
        (&"jobs.*.*".into(), &0.into(), &Value::Null)
    );
    assert_eq!((&specs[1]["Spec"], &specs[1]["Hits"]), (&"machines.*.*".into(), &1.into()), "{specs}");
    let path = format!("/api/v3/hydrant/registrations?connection={address}");
    assert_eq!(get(&server, &path).await, *specs);
    assert_eq!(ask(&server, "looker", "GET", &path, "").await.status.as_u16(), 200);
    ask(&server, "worker", "GET", &path, "").await.error(404);
    get(&server, "/api/v3/hydrant/registrations?connection=1.2.3.4:5").await["Code"].as_u64().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connections_that_have_a_registration_are_found() {
    let lister = |store: &mut Store| {
        store.set_role("lister", ["connections/list/*".parse().unwrap()].into_iter().collect())?;
        store.add_user("lister", HASH.clone(), &["lister".to_owned()])?;
        people(store)
    };
    let server = Hydrant::with_people("shards = 2", lister).await;
    let filtered = "jobs.*.*.State=In(a,b)";
    let _clients = [
        server.watch(&["machines.*.*", filtered]).await,
        server.watch(&[filtered]).await,
        server.watch(&["machines.*.*"]).await,
        server.watch(&["machines.*.*.A=Eq(1)"]).await,
    ];
    let found = async |user: &str, spec: &str| {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("Spec", spec).finish();
        let list = ask(&server, user, "GET", &format!("/api/v3/connections?Type=websocket&{query}"), "").await.json();
        list.as_array().unwrap().len()
    };
    for (spec, count) in [(filtered, 2), ("machines.*.*", 2), ("machines.*", 0), ("jobs.*.*", 0)] {
        assert_eq!(found("looker", spec).await, count, "{spec}");
    }
    // Whoever may not see what a connection has registered does not learn it this way either.
    assert_eq!([found("lister", "machines.*.*").await, found("worker", "machines.*.*").await], [0, 0]);
    assert_eq!(found("lister", "").await, 4, "without a registration it is the list");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_odd_is_told_in_the_answer_and_refuses_nothing() {
    let server = Hydrant::start("shards = 1").await;
    let warnings = |seen: &Seen| -> Vec<String> {
        let object: Value = serde_json::from_str(seen.object.get()).unwrap();
        object["Warnings"]
            .as_array()
            .map_or_else(Vec::new, |all| all.iter().map(|one| one.as_str().unwrap().to_owned()).collect())
    };
    let mut client = server.connect().await;
    for (spec, said) in [
        ("machine.update.*", "did you mean `machines`?"),
        ("machines.destroy.*", "did you mean `delete`?"),
        ("machines.update.*.Stage=local", "is read as part of the key"),
        ("machines.*.*.And(Stage=Eq(a),Stage=Eq(b))", "can never both be true"),
        ("websocket.*.*", "nothing matches the type `websocket`"),
    ] {
        client.say(&format!("register {spec}")).await;
        let answer = client.answer("register", spec).await;
        let found = warnings(&answer);
        assert!(found.len() == 1 && found[0].contains(said), "{spec}: {found:?}");
        client.say(&format!("register {spec}")).await;
        assert_eq!(client.answer("register", spec).await.object.get(), "null", "told once");
    }
    // It takes effect all the same; and what has been seen is not odd.
    server.announce("machine", "update", "x").await;
    assert_eq!(client.event().await.name(), "machine.update.x");
    client.say("register machine.create.*").await;
    assert_eq!(client.answer("register", "machine.create.*").await.object.get(), "null");
    let mut quiet = server.connect_with("warnings=0&register=machines.destroy.*", false).await.unwrap();
    assert_eq!(quiet.answer("register", "machines.destroy.*").await.object.get(), "null");
    let mut stream = server.stream(SSE, "register=machines.destroy.*", "").await;
    let answer = stream.message().await.unwrap();
    assert_eq!(warnings(&Seen::read(&answer.data)).len(), 1, "{answer:?}");
}

async fn explain(server: &Hydrant, user: &str, question: Value) -> crate::common::http::Reply {
    ask(server, user, "POST", "/api/v3/hydrant/explain", &question.to_string()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_says_why_and_tells_nobody_of_what_he_may_not_see() {
    let server = Hydrant::with_people("shards = 1", people).await;
    let mut stream = server.stream(SSE, "register=*.*.*", "").await;
    stream.answered("*.*.*").await;
    server.post(&event("jobs", "create", "j1")).await;
    let position = stream.message().await.unwrap().id;
    let mut watcher = server.watch(&["jobs.update.*"]).await;
    let of_history = |more: Value| {
        let mut question = json!({"Position": position});
        question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        question
    };
    let asked = of_history(json!({"Spec": "jobs.*.*", "User": "worker"}));
    let answer = explain(&server, "rocketskates", asked.clone()).await.json();
    assert_eq!((&answer["Delivered"], &answer["Principal"]), (&false.into(), &"user:worker".into()), "{answer}");
    assert_eq!(answer["Causes"], json!([{"Kind": "Claim", "Claim": "jobs/get/j1"}]));
    assert_eq!(answer["Roles"], json!(["chief", "looker"]), "{answer}");
    assert_eq!(answer["Event"]["Key"], "j1");
    let answer = explain(&server, "looker", of_history(json!({"Spec": "jobs.*.*"}))).await.json();
    assert_eq!(answer["Delivered"], true, "{answer}");
    // An open connection.
    let address = address(&server).await;
    let answer = explain(&server, "looker", of_history(json!({"Connection": address}))).await.json();
    assert_eq!(answer["Causes"], json!([{"Kind": "Action", "Wanted": "`update`", "Found": "`create`"}]), "{answer}");
    // Who may see a connection, and not whose it is, learns nothing of what that user may see.
    let of_worker = server.connect_as("user:worker", &TokenRequest::default()).await;
    let listed = async || get(&server, "/api/v3/connections?Type=websocket&Principal=user:worker").await;
    // Its shard may not have it yet.
    patiently("its shard", async { while listed().await == json!([]) {} }).await;
    let others = listed().await;
    let address_of_worker = others[0]["RemoteAddr"].as_str().unwrap().to_owned();
    let question = of_history(json!({"Connection": address_of_worker, "Spec": "jobs.*.*"}));
    let answer = explain(&server, "looker", question.clone()).await.json();
    assert_eq!((&answer["Delivered"], &answer["Causes"]), (&false.into(), &json!([{"Kind": "Rights"}])), "{answer}");
    assert_eq!(answer["Rights"]["Steps"], Value::Null, "{answer}");
    assert!(!answer.to_string().contains("machines/get"), "{answer}");
    let answer = explain(&server, "rocketskates", question).await.json();
    assert_eq!(answer["Causes"], json!([{"Kind": "Claim", "Claim": "jobs/get/j1"}]));
    drop(of_worker);
    // Who may not see the event, the user or the connection, learns nothing.
    explain(&server, "worker", of_history(json!({"Spec": "jobs.*.*"}))).await.error(404);
    explain(&server, "looker", asked).await.error(404);
    let given = json!({"Event": {"Type": "machines", "Action": "update", "Key": "m2"}, "Connection": address});
    explain(&server, "worker", given).await.error(404);
    // A tenant, a filter and a mistake.
    let given = json!({"Event": {"Type": "machines", "Action": "update", "Key": "m2", "Object": {"Stage": "a"}},
        "Spec": "machines.*.*.Stage=Eq(b)"});
    let answer = explain(&server, "tenant", given).await.json();
    let causes = json!([{"Kind": "Tenant", "Model": "machines", "Key": "m2"},
        {"Kind": "Filter", "Term": "Stage=Eq(\"b\")", "Value": "\"a\""}]);
    assert_eq!(answer["Causes"], causes, "{answer}");
    for (wrong, said) in [
        (json!({"Spec": "a.b.c"}), "one of Event and Position"),
        (json!({"Position": "x", "Spec": "a.b.c"}), "EPOCH:SEQUENCE"),
        (of_history(json!({"Spec": "a.b.c.X=Eq("})), "bad filter"),
        (of_history(json!({})), "is required"),
        (json!({"Nonsense": 1}), "unknown field"),
        (json!({"Event": {"Type": ""}, "Spec": "a.b.c"}), "Event: at byte 10: Action is missing"),
        (json!({"Event": 5, "Spec": "a.b.c"}), "Event: at byte 0: an event must be a JSON object"),
        (json!({"Event": {}, "Specs": ["a.b.c", 5]}), "Specs must be an array of strings"),
    ] {
        let message = explain(&server, "rocketskates", wrong).await.error(400);
        assert!(message.contains(said), "{message}");
    }
    let of_an_endpoint = json!({"Event": {"Type": "", "Action": ""}, "Spec": "..*"});
    assert_eq!(explain(&server, "rocketskates", of_an_endpoint).await.json()["Delivered"], true);
    watcher.say("register end.of.test").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_is_checked_against_what_the_caller_may_see_of_the_past() {
    let server = Hydrant::with_people("shards = 2", people).await;
    for at in 0..30 {
        update(&server, &format!("m{at}"), if at < 10 { "local" } else { "none" }).await;
        server.post(&event("jobs", "create", &format!("j{at}"))).await;
    }
    let check = async |user: &str, spec: &str| {
        ask(&server, user, "POST", "/api/v3/hydrant/check", &json!({"Spec": spec}).to_string()).await
    };
    let counts = async |user: &str, spec: &str| {
        let answer = check(user, spec).await.json();
        [&answer["Looked"], &answer["Matched"]].map(|count| count.as_u64().unwrap())
    };
    assert_eq!(counts("rocketskates", "machines.update.*.Stage=Eq(local)").await, [60, 10]);
    assert_eq!(counts("rocketskates", " *.*.* ").await, [60, 60]);
    assert_eq!(counts("worker", "*.*.*").await, [30, 30], "machines are all that it sees");
    assert_eq!(counts("worker", "jobs.*.*").await, [30, 0]);
    assert_eq!(counts("tenant", "machines.*.*").await[1], 1);
    let odd = check("worker", "machine.update.*").await.json();
    assert!(odd["Warnings"][0].as_str().unwrap().contains("did you mean `machines`?"), "{odd}");
    assert!(check("worker", "machines.*.*.Stage=Eq(").await.error(400).contains("bad filter"));
    check("worker", "machines").await.error(400);
    ask(&server, "worker", "POST", "/api/v3/hydrant/check", "{}").await.error(400);
    // Longer ago is not looked at.
    let lines: Vec<String> = (0..1100).map(|at| event("jobs", "update", &at.to_string())).collect();
    server.post_lines(&lines.join("\n")).await;
    assert_eq!(counts("rocketskates", "machines.*.*").await, [1000, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_may_know_what_he_may_see() {
    let server = Hydrant::with_people("shards = 1", people).await;
    let me = ask(&server, "looker", "GET", "/api/v3/hydrant/me", "").await.json();
    assert_eq!((&me["Principal"], &me["HasTenant"]), (&"user:looker".into(), &false.into()), "{me}");
    assert_eq!(me["Claims"], json!(["connections/get,list/*", "jobs/get/*"]), "{me}");
    assert!(me["Narrowing"] == json!([]) && me["Expires"].is_string(), "{me}");
    assert_eq!(ask(&server, "tenant", "GET", "/api/v3/hydrant/me", "").await.json()["HasTenant"], true);
}

/// How old a shared look may be.
const LONGEST: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_permit_it_share_one_look_and_see_only_what_they_may() {
    let server = Hydrant::with_people("shards = 2", people).await;
    let _first = server.watch(&["machines.*.*"]).await;
    let (path, shared) = ("/api/v3/connections?Type=websocket", [("cache-control", "max-age=5")]);
    let begun = Instant::now();
    let list = |headers: &'static [(&'static str, &'static str)]| {
        let server = &server;
        async move { server.request("GET", path, headers, "").await.json().as_array().unwrap().len() }
    };
    assert_eq!(server.request("GET", path, &shared, "").await.json().as_array().unwrap().len(), 1);
    let _second = server.watch(&["machines.*.*"]).await;
    let count = list(&[("cache-control", "max-age=5")]).await;
    assert!(count == 1 || begun.elapsed() > LONGEST, "the list of the first caller");
    assert_eq!(list(&[]).await, 2, "without permission the list is current");
    assert_eq!(list(&[("cache-control", "no-cache")]).await, 2);
    assert_eq!(list(&[("cache-control", "max-age=5")]).await, 2, "the newest list is shared");
    let token = server.issue("user:worker", &TokenRequest::default());
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), shared[0]];
    let theirs = crate::common::http::request(server.address(), false, "GET", path, &headers, "").await;
    assert_eq!(theirs.json(), json!([]), "whoever may not list them does not see shared ones either");
    let (status, begun) = ("/api/v3/hydrant/status", Instant::now());
    let once = server.request("GET", status, &shared, "").await.json();
    update(&server, "m1", "local").await;
    let again = server.request("GET", status, &shared, "").await.json();
    let is_shared = (&once["Time"], &once["Received"]) == (&again["Time"], &again["Received"]);
    assert!(is_shared || begun.elapsed() > LONGEST, "{once} {again}");
    assert_eq!(get(&server, status).await["Received"]["post"], 1);
}
