//! What drpcli asks, in its order, with hydrant in between.

use tokio_tungstenite::tungstenite::Message;

use crate::common::http::Http;
use crate::common::ws::Show;
use crate::common::{Hydrant, JSON, LOGIN, basic, patiently};
use crate::endpoint::{Drp, MACHINE, User};

/// What ties a request to the trace that it belongs to (W3C Trace Context).
const TRACE: [(&str, &str); 2] =
    [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("tracestate", "a=1,b=2")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn info_is_the_endpoints_with_ours_added() {
    let drp = Drp::start().await;
    let hydrant = Hydrant::start_tls(&format!("{}[auth]\nmode = \"local\"\n", drp.settings())).await;
    let reply = hydrant
        .request("GET", "/api/v3/info?token=canary", &[("accept-encoding", "gzip"), TRACE[0], TRACE[1]], "")
        .await;
    let start = r#"{"License":{"Data":"12345678901234567890"},"arch":"amd64","features":["api-v3","secure-params","#;
    assert!(reply.body.starts_with(start), "{}", reply.body);
    let features = reply.json()["features"].clone();
    assert!(features.as_array().unwrap().contains(&"websocket-changed-filter".into()), "{features}");
    assert_eq!(reply.json()["stats"][0]["name"], "machines.count");
    assert_eq!(reply.json()["stats"][1]["name"], "connections.count");
    let got = drp.last("/api/v3/info");
    assert_eq!(got.header("accept-encoding"), "");
    // With the service's credential the trace is still the caller's.
    assert_eq!(TRACE.map(|(name, value)| got.header(name) == value), [true; 2], "{:?}", got.headers);
    // The credential of a caller whom the endpoint does not know stays here, however its name is spelled.
    drp.take();
    hydrant.request("GET", "/api/v3/info?a=b&%74oken=canary&t%6fke%6E=canary", &[], "").await;
    let targets: Vec<String> = drp.take().into_iter().map(|got| got.target).filter(|t| t.contains("info")).collect();
    assert_eq!(targets, ["/api/v3/info"]);
}

/// drpcli's start with nothing cached, then commands, all with the endpoint's own users.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_through_to_the_endpoint() {
    let drp = Drp::start().await;
    let hydrant = Hydrant::start_tls(&drp.settings()).await;
    let mut http = Http::connect(hydrant.address(), true).await;
    // A token of another server in the cache: refused, so that the password is used.
    let foreign = [("authorization", "Bearer b3RoZXI="), ("accept", JSON)];
    assert!(http.request("GET", "/api/v3/info", &foreign, "").await.status.as_u16() >= 400);
    let first = http.request("GET", "/api/v3/users/rocketskates/token", &[("authorization", &basic(LOGIN))], "").await;
    let token = first.json()["Token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("accept", JSON), ("content-type", JSON)];
    let longer = http.request("GET", "/api/v3/users/rocketskates/token?ttl=7200", &headers, "").await;
    assert!(longer.json()["Token"].is_string());
    assert_eq!(http.request("GET", "/api/v3/info", &headers, "").await.json()["features"][1], "secure-params");

    let zero = concat!(
        r#"{"Time":"0001-01-01T00:00:00Z","Type":"a","Action":"b","Key":"c","Principal":"","Object":null,"#,
        r#""Original":null}"#,
    );
    let posted = http.request("POST", "/api/v3/events", &headers, zero).await;
    assert_eq!((posted.status.as_u16(), posted.header("content-type")), (204, JSON));
    assert_eq!(drp.state.posted.lock().len(), 1, "it is the endpoint's to take");

    // `machines wait`.
    let machine = format!("/api/v3/machines/{MACHINE}");
    assert_eq!(http.request("GET", "/api/v3/machines/Name:john", &headers, "").await.json()["Uuid"], MACHINE);
    let mut socket = hydrant.try_connect(&Show::Header(&bearer), &[]).await.unwrap();
    let specs = [format!("machines.update.{MACHINE}"), format!("machines.save.{MACHINE}")];
    for spec in &specs {
        socket.say(&format!("register {spec}")).await;
    }
    for spec in &specs {
        socket.answer("register", spec).await;
    }
    assert_eq!(http.request("GET", &machine, &headers, "").await.json()["Runnable"], false);
    for spec in &specs {
        socket.say(&format!("deregister {spec}")).await;
    }
    for spec in &specs {
        socket.answer("deregister", spec).await;
    }
    socket.send(Message::Close(None)).await;
}

/// The endpoint may be another hydrant: its users' tokens work at the front, and what they post is taken in there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_hydrant_is_an_endpoint_too() {
    let back = Hydrant::start_tls("").await;
    let settings = format!(
        "[upstream]\nurls = [\"https://{}\"]\npassword = \"r0cketsk8ts\"\ntls = \"insecure\"\n",
        back.address()
    );
    let front = Hydrant::start_tls(&settings).await;
    let mut watcher = back.watch(&["session.*.*"]).await;
    let bearer = format!("Bearer {}", front.token().await);
    let by_back = back.try_connect(&Show::Header(&bearer), &[]).await;
    assert!(by_back.is_ok(), "the token is that of the endpoint");
    front.announce("session", "posted", "k").await;
    let seen = watcher.event().await;
    assert_eq!((seen.name(), seen.principal), ("session.posted.k".to_owned(), "user:rocketskates".to_owned()));
    let info = front.request("GET", "/api/v3/info", &[], "").await.json();
    let theirs = back.request("GET", "/api/v3/info", &[], "").await.json();
    assert_eq!((&info["id"], &info["api_port"]), (&theirs["id"], &theirs["api_port"]));
    // What neither serves is refused by the endpoint, in its words.
    front.request("GET", "/api/v3/machines", &[], "").await.error(404);
}

/// What a client posts goes to the endpoint and comes back by its stream; so does what changes there of its users.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_up_and_come_back_by_the_stream() {
    let drp = Drp::start().await;
    drp.state.users.lock().insert("alice".to_owned(), User::new("wonder", &["superuser"]));
    let hydrant = Hydrant::start_tls(&drp.settings()).await;
    let mut alice = hydrant.try_connect(&Show::Header(&basic("alice:wonder")), &[]).await.unwrap();
    alice.register("a.*.*").await;
    // Before the link stands, what is posted has nowhere to come back to.
    let back = async {
        loop {
            hydrant.announce("a", "b", "c").await;
            if let Ok(event) = tokio::time::timeout(std::time::Duration::from_millis(200), alice.event()).await {
                return event;
            }
        }
    };
    let seen = patiently("the stream", Box::pin(back)).await;
    assert_eq!((seen.name(), seen.principal), ("a.b.c".to_owned(), "user:rocketskates".to_owned()));
    drp.state.users.lock().remove("alice");
    drp.state.emit(&serde_json::json!({"Type": "users", "Action": "delete", "Key": "alice"}), "user:rocketskates");
    assert_eq!(alice.closed().await.0, 1008);
}

/// What hydrant is in front for: to the endpoint there is one websocket, however many listen here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_clients_is_one_to_the_endpoint() {
    let drp = Drp::start().await;
    let hydrant = Hydrant::start_tls(&format!("{}[auth]\nmode = \"local\"\n", drp.settings())).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = hydrant.connect().await;
        client.register("a.*.*").await;
        clients.push(client);
    }
    let tell = |key: &str| drp.state.emit(&serde_json::json!({"Type": "a", "Action": "b", "Key": key}), "user:x");
    // Before the link stands, nobody hears of what happens at the endpoint.
    let stands = async {
        loop {
            tell("first");
            let heard = tokio::time::timeout(std::time::Duration::from_millis(200), clients[0].event()).await;
            if heard.is_ok() {
                return;
            }
        }
    };
    patiently("the link", Box::pin(stands)).await;
    tell("last");
    for client in &mut clients {
        while client.event().await.name() != "a.b.last" {}
    }
    let sockets = drp.take().into_iter().filter(|got| got.target.starts_with("/api/v3/ws")).count();
    assert_eq!((sockets, drp.state.stream.receiver_count()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go's gorilla/websocket, from the network: make gorilla"]
async fn go_session_as_drpcli_has_it() {
    let drp = Drp::start().await;
    let hydrant = Hydrant::start_tls(&drp.settings()).await;
    hydrant.until(&format!("hydrant_upstream_connected{{endpoint=\"{}\"}}", drp.address), 1).await;
    let program = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/go-session");
    let mut command = std::process::Command::new(program);
    command.arg(format!("https://{}", hydrant.address())).args(["rocketskates", "r0cketsk8ts", MACHINE]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n", "{output:?}");
    assert_eq!(drp.state.posted.lock().len(), 1, "what was posted went to the endpoint, and came back by its stream");
}
