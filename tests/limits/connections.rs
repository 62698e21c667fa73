//! Connections: listed, told of, closed by address; and rights that change under a stream.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hydrant::auth::{Store, StoreError, TenantRow, TokenRequest};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::common::http::Http;
use crate::common::people::HASH;
use crate::common::raw::Raw;
use crate::common::stream::SSE;
use crate::common::ws::{Client, Show};
use crate::common::{self, Hydrant, Seen, patiently, socket};

const LOUD: &str = "connection_events = true\nshards = 2";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_told_of_when_they_come_and_when_they_vanish() {
    let server = Hydrant::start(LOUD).await;
    server.token().await;
    let mut watcher = server.watch(&["connections.*.user:rocketskates"]).await;
    // Its own coming may have been on its way when it registered.
    let listed = server.request("GET", "/api/v3/connections?Type=websocket", &[], "").await.json();
    let own = listed[0]["RemoteAddr"].as_str().unwrap().to_owned();
    let other = server.connect().await;
    let come = websocket_event(&mut watcher, "create", &own).await;
    let listed = server.request("GET", "/api/v3/connections?Type=websocket", &[], "").await.json();
    let addresses: Vec<&str> = listed.as_array().unwrap().iter().map(|c| c["RemoteAddr"].as_str().unwrap()).collect();
    assert_eq!(addresses.len(), 2);
    assert!(addresses.contains(&come.as_str()), "{come} in {addresses:?}");
    // It leaves without a word.
    drop(other);
    assert_eq!(websocket_event(&mut watcher, "delete", &own).await, come);
}

/// The address in the next event about a websocket other than its own, which must have this action.
async fn websocket_event(watcher: &mut Client, action: &str, own: &str) -> String {
    loop {
        let text = watcher.text().await;
        let event: serde_json::Value = serde_json::from_str(&text).unwrap();
        if event["Object"]["Type"] == "websocket" && event["Object"]["RemoteAddr"] != own {
            assert_eq!(
                (event["Type"].as_str(), event["Action"].as_str()),
                (Some("connections"), Some(action)),
                "{text}"
            );
            return event["Object"]["RemoteAddr"].as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_connection_is_closed_and_gone() {
    let server = Hydrant::start("shards = 2").await;
    let mut client = server.watch(&["a.b.c"]).await;
    let listed = server.request("GET", "/api/v3/connections?Type=websocket", &[], "").await.json();
    let row = &listed[0];
    assert_eq!((row["Registrations"].as_u64(), row["Principal"].as_str()), (Some(1), Some("user:rocketskates")));
    let path = format!("/api/v3/connections/{}", row["RemoteAddr"].as_str().unwrap());
    assert_eq!(server.request("GET", &path, &[], "").await.json()["RemoteAddr"], row["RemoteAddr"]);
    assert_eq!(server.request("DELETE", &path, &[], "").await.json()["RemoteAddr"], row["RemoteAddr"]);
    let (code, reason, _) = client.closed().await;
    assert_eq!((code, reason.as_str()), (1001, "connection deleted"));
    drop(client);
    server.until("hydrant_connections", 0).await;
    assert_eq!(server.request("DELETE", &path, &[], "").await.status.as_u16(), 404);
    assert_eq!(server.request("GET", "/api/v3/connections/nonsense", &[], "").await.status.as_u16(), 404);
    assert_eq!(server.request("GET", "/api/v3/machines/u1/connections", &[], "").await.body, "[]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_of_a_principal_are_kept() {
    let limits = "limits = { connections_per_principal = 2, posted_events_per_second = 5 }";
    let server = Hydrant::start(limits).await;
    let (first, _second) = (server.connect().await, server.connect().await);
    let bearer = format!("Bearer {}", server.token().await);
    let show = Show::Header(&bearer);
    assert_eq!(server.try_connect(&show, &[]).await.err().unwrap().status, 429);
    server.until("hydrant_connections", 2).await;
    drop(first);
    server.until("hydrant_connections", 1).await;
    assert!(server.try_connect(&show, &[]).await.is_ok());
    // A batch that is larger than the quota is taken and paid off later: nothing more for a minute.
    let many: Vec<String> = (0..300).map(|at| common::event("a", "b", &at.to_string())).collect();
    let body = format!("[{}]", many.join(","));
    let json = [("content-type", "application/json")];
    assert_eq!(server.request("POST", "/api/v3/events", &json, &body).await.status.as_u16(), 204);
    let refused = server.request("POST", "/api/v3/events", &json, &body).await;
    assert_eq!(refused.status.as_u16(), 429);
    assert!(refused.headers.contains_key("retry-after"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_says_nothing_any_more_is_let_go_and_told_of() {
    let server = Hydrant::with_people(&format!("{LOUD}\ntimeouts = {{ ping = \"500ms\", idle = \"3s\" }}"), |store| {
        store.add_user("mute", HASH.clone(), &[])
    })
    .await;
    // A stream, which is not expected to say anything.
    let spec = "connections.*.user:mute";
    let mut watcher = server.stream(SSE, &format!("register={spec}"), "").await;
    watcher.answered(spec).await;
    let mut told = async || Seen::read(&watcher.message().await.unwrap().data).name();
    let token = server.issue("user:mute", &TokenRequest::default());
    let mut mute = server.dial().await;
    let handshake = server.handshake_text().await.replace(server.token().await, &token);
    mute.send(handshake.as_bytes()).await;
    assert!(mute.head().await.starts_with("HTTP/1.1 101 "));
    // Its socket stays open and nothing is ever sent again: no close, no end of the connection, no pong.
    assert_eq!(told().await, "connections.create.user:mute");
    assert_eq!(told().await, "connections.delete.user:mute");
    let listed = server.request("GET", "/api/v3/connections?Principal=user:mute", &[], "").await;
    assert_eq!(listed.body, "[]");
    drop(mute);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_of_ipv6_stand_in_paths() {
    let server = Hydrant::start("listen = [\"[::1]:0\"]\nshards = 2").await;
    assert!(server.address().is_ipv6());
    let mut client = server.watch(&["a.b.c"]).await;
    let listed = server.request("GET", "/api/v3/connections?Type=websocket", &[], "").await.json();
    let address = listed[0]["RemoteAddr"].as_str().unwrap().to_owned();
    assert!(address.starts_with("[::1]:"), "{address}");
    for path in [address.clone(), address.replace('[', "%5B").replace(']', "%5D").replace(':', "%3A")] {
        let found = server.request("GET", &format!("/api/v3/connections/{path}"), &[], "").await;
        assert_eq!(found.json()["RemoteAddr"], address.as_str(), "{path}");
    }
    let query = format!("/api/v3/connections?Type=websocket&RemoteAddr={address}");
    assert_eq!(server.request("GET", &query, &[], "").await.json().as_array().unwrap().len(), 1);
    // A right to this connection is one however its address is written.
    let word = |text: &str| Some(text.to_owned());
    let (scope, action, specific) = (word("connections"), word("get,delete"), Some(address.clone()));
    let only = TokenRequest { scope, action, specific, ..TokenRequest::default() };
    let bearer = format!("Bearer {}", server.issue("user:rocketskates", &only));
    let path = format!("/api/v3/connections/{}", address.replace("::1", "0:0:0:0:0:0:0:1"));
    for method in ["GET", "DELETE"] {
        let headers = [("authorization", bearer.as_str())];
        let reply = common::http::request(server.address(), false, method, &path, &headers, "").await;
        assert_eq!(reply.json()["RemoteAddr"], address.as_str(), "{method} {path}: {reply:?}");
    }
    assert_eq!(client.closed().await.0, 1001);
}

/// DRP's keys, and so the principals of agents and claims, have UUIDs in lower case.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connections_of_an_agent_are_found_whatever_the_letter_case_of_its_uuid() {
    let server = Hydrant::with_people("shards = 1", |store| {
        let claim = format!("machines,clusters,resource_brokers/get/{OWN}");
        store.set_role("reader", vec![claim.parse().unwrap()])?;
        store.add_user("reader", HASH.clone(), &["reader".to_owned()])
    })
    .await;
    let mut agent = server.connect_as(&format!("runner:{OWN}"), &TokenRequest::default()).await;
    agent.register("a.b.c").await;
    let bearer = format!("Bearer {}", server.issue("user:reader", &TokenRequest::default()));
    for scope in ["machines", "clusters", "resource_brokers"] {
        for (uuid, expected) in [(OWN, 200), (&OWN.to_uppercase(), 200), (OTHER, 404)] {
            let (path, headers) = (format!("/api/v3/{scope}/{uuid}/connections"), [("authorization", bearer.as_str())]);
            let reply = common::http::request(server.address(), false, "GET", &path, &headers, "").await;
            assert_eq!(reply.status.as_u16(), expected, "{path}");
            let is_shown = reply.json()[0]["Principal"] == format!("runner:{OWN}").as_str();
            assert_eq!(is_shown, expected == 200, "{path}: {}", reply.body);
        }
    }
}

/// Two connections between different addresses, of which the client's are the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_from_one_address_to_two_of_the_servers_are_two() {
    let server = Hydrant::start("listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]").await;
    let authorization = format!("Bearer {}", server.token().await);
    let headers = [("authorization", authorization.as_str())];
    let mut clients = Vec::new();
    for &address in server.server.addresses() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        let from = clients.last().map_or("127.0.0.1:0".parse().unwrap(), |(_, from)| *from);
        socket.bind(from).unwrap();
        let stream = socket.connect(address).await.unwrap();
        let from = stream.local_addr().unwrap();
        let mut http = Http::over(socket::over(stream, false).await, address).await;
        assert_eq!(http.request("GET", "/api/v3/info", &headers, "").await.status.as_u16(), 200);
        clients.push((http, from));
    }
    let from = clients[0].1;
    let listed = async || {
        let path = format!("/api/v3/connections?Type=api&RemoteAddr={from}");
        server.request("GET", &path, &[], "").await.json().as_array().unwrap().len()
    };
    assert_eq!(listed().await, 2);
    clients.pop();
    let gone = async {
        while listed().await == 2 {
            tokio::task::yield_now().await;
        }
    };
    patiently("the end of a connection", gone).await;
    assert_eq!(listed().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_alive_http_connection_is_told_of_once() {
    let server = Hydrant::with_people(LOUD, |store| store.add_user("bob", HASH.clone(), &[])).await;
    let bearer = format!("Bearer {}", server.issue("user:bob", &TokenRequest::default()));
    let mut watcher = server.watch(&["connections.*.user:bob"]).await;
    let mut http = Http::connect(server.address(), false).await;
    for _ in 0..5 {
        assert_eq!(http.request("GET", "/api/v3/info", &[("authorization", &bearer)], "").await.status.as_u16(), 200);
    }
    let listed = server.request("GET", "/api/v3/connections?Type=api&Principal=user:bob", &[], "").await.json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    drop(http);
    let names = [watcher.event().await.name(), watcher.event().await.name()];
    assert_eq!(names, ["connections.create.user:bob", "connections.delete.user:bob"]);
    // A stranger is nobody, and is not told of.
    let mut stranger = Http::connect(server.address(), false).await;
    assert_eq!(stranger.request("GET", "/api/v3/info", &[], "").await.status.as_u16(), 401);
    drop(stranger);
    server.announce("connections", "end", "user:bob").await;
    assert_eq!(watcher.event().await.name(), "connections.end.user:bob");
}

/// 10,000 with `HYDRANT_SOAK`, as `make soak` has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_connections_that_were() {
    let rounds = if std::env::var_os("HYDRANT_SOAK").is_some() { 10_000 } else { 500 };
    let server = std::sync::Arc::new(Hydrant::start(LOUD).await);
    server.token().await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..10 {
        let server = std::sync::Arc::clone(&server);
        clients.spawn(async move {
            for round in 0..rounds / 10 {
                let mut client_of_round = server.watch(&["a.*.*.Key=Exists()", "connections.*.*"]).await;
                match (client + round) % 3 {
                    // In peace, without a word, and with events on their way.
                    0 => client_of_round.stream.close(None).await.unwrap(),
                    1 => drop(client_of_round),
                    _ => client_of_round.say("deregister a.*.*.Key=Exists()").await,
                }
            }
        });
    }
    clients.join_all().await;
    server.until_empty().await;
    let listed = server.request("GET", "/api/v3/connections?Type=websocket", &[], "").await;
    assert_eq!(listed.body, "[]");
    assert_eq!(server.metric("hydrant_connections_opened_total").await, rounds);
}

/// A request without credentials.
const STRANGE: &[u8] = b"GET /api/v3/info HTTP/1.1\r\nHost: a\r\n\r\n";

/// Three connections that take places, one of which has shown bad credentials: whoever comes then is refused. They may
/// take two seconds for a request, which is longer than newcomers wait. On a busy machine these may have passed, and it
/// is tried again.
async fn three_that_wait(server: &Hydrant) -> (Http, [Raw; 2]) {
    for _ in 0..20 {
        let (since, mut refused) = (Instant::now(), Http::connect(server.address(), false).await);
        let status = refused.request("GET", "/api/v3/info", &[], "").await.status.as_u16();
        if status == 503 {
            // Those of the try before are not gone yet.
            continue;
        }
        assert_eq!(status, 401);
        let mut begun = [server.dial().await, server.dial().await];
        for raw in &mut begun {
            raw.send(b"GET /").await;
        }
        let mut one_too_many = server.dial().await;
        one_too_many.send(STRANGE).await;
        let answer = one_too_many.head().await;
        if answer.starts_with("HTTP/1.1 503 ") {
            return (refused, begun);
        }
        assert!(since.elapsed() >= Duration::from_secs(1), "{answer}");
    }
    panic!("the machine is too busy to begin requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_have_not_shown_who_they_are_are_bounded() {
    let server = Hydrant::start("limits = { pending_handshakes = 3 }").await;
    let mut known = Http::connect(server.address(), false).await;
    let bearer = format!("Bearer {}", server.token().await);
    let info =
        async |http: &mut Http| http.request("GET", "/api/v3/info", &[("authorization", &bearer)], "").await.status;
    assert_eq!(info(&mut known).await.as_u16(), 200, "whoever is known takes no place");
    let (mut refused, _begun) = three_that_wait(&server).await;
    server.until_that("hydrant_handshakes_rejected_total{reason=\"limited\"}", |refused| refused > 0).await;
    assert_eq!(info(&mut known).await.as_u16(), 200);
    assert_eq!(info(&mut refused).await.as_u16(), 200, "it shows better credentials and frees its place");
    let mut next = Http::connect(server.address(), false).await;
    assert_eq!(info(&mut next).await.as_u16(), 200);
}

/// Each newcomer's place is free again soon: nobody of a fleet that reconnects is refused, though there are few places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_with_many_others_waits_and_is_served() {
    let server = Hydrant::start("limits = { pending_handshakes = 8 }").await;
    let bearer = format!("Bearer {}", server.token().await);
    // They wait for a second at most, which is little for clients that get no time themselves.
    for _ in 0..30 {
        let (begun, mut all) = (Instant::now(), join_all((0..24).map(|_| server.dial())).await);
        while server.metric("hydrant_newcomers_waiting").await < 16 && begun.elapsed() < Duration::from_secs(1) {}
        if begun.elapsed() < Duration::from_secs(1)
            && join_all(all.iter_mut().map(|raw| raw.is_served(&bearer))).await == [true; 24]
        {
            return;
        }
    }
    panic!("not all of twenty-four waited and were served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_shown_and_closed_by_claims() {
    let server = Hydrant::with_people("shards = 2", |store| {
        for (name, claim) in
            [("list", "connections/list/*"), ("get", "connections/get/*"), ("close", "connections/delete/*")]
        {
            store.set_role(name, vec![claim.parse().unwrap()])?;
            store.add_user(name, HASH.clone(), &[name.to_owned()])?;
        }
        store.add_user("nobody", HASH.clone(), &[])
    })
    .await;
    // Its shard has it once it has answered something.
    let mut client = server.watch(&["a.b.c"]).await;
    let listed = server.request("GET", "/api/v3/connections?Type=websocket", &[], "").await.json();
    let path = format!("/api/v3/connections/{}", listed[0]["RemoteAddr"].as_str().unwrap());
    let status = async |user: &str, method: &str, path: &str| {
        let bearer = format!("Bearer {}", server.issue(&format!("user:{user}"), &TokenRequest::default()));
        let headers = [("authorization", bearer.as_str())];
        common::http::request(server.address(), false, method, path, &headers, "").await.status.as_u16()
    };
    for (user, get, runner, delete) in
        [("nobody", 404, 404, 403), ("list", 404, 404, 403), ("get", 200, 404, 403), ("close", 404, 404, 200)]
    {
        assert_eq!(status(user, "GET", &path).await, get, "{user}");
        assert_eq!(status(user, "GET", "/api/v3/machines/u1/connections").await, runner, "{user}");
        assert_eq!(status(user, "DELETE", &path).await, delete, "{user}");
    }
    assert_eq!(client.closed().await.0, 1001);
}

/// The claim for a single connection shows its registrations, and no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_by_registration_finds_what_the_caller_may_get() {
    let server = Hydrant::with_people("shards = 2", |store| {
        store.set_role("one", vec!["connections/list/*".parse().unwrap()])?;
        store.add_user("one", HASH.clone(), &["one".to_owned()])
    })
    .await;
    let _clients = [server.watch(&["a.b.c"]).await, server.watch(&["a.b.c"]).await];
    let path = "/api/v3/connections?Spec=a.b.c";
    let addresses = |list: serde_json::Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["RemoteAddr"].as_str().unwrap().to_owned()).collect()
    };
    let all = addresses(server.request("GET", path, &[], "").await.json());
    assert_eq!(all.len(), 2);
    let found = async || {
        let bearer = format!("Bearer {}", server.issue("user:one", &TokenRequest::default()));
        let headers = [("authorization", bearer.as_str())];
        addresses(common::http::request(server.address(), false, "GET", path, &headers, "").await.json())
    };
    assert_eq!(found().await, [""; 0]);
    let claims = ["connections/list/*".to_owned(), format!("connections/get/{}", all[1])];
    server.edit(|store| store.set_role("one", claims.iter().map(|claim| claim.parse().unwrap()).collect()));
    common::patiently("the changed role", async {
        while found().await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(found().await, all[1..]);
}

/// Whatever the route: a machine's agent is the machine's.
const OWN: &str = "3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e";
const OTHER: &str = "4f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e";

/// A user whose tenant has the machine [`OWN`].
fn add_lab(store: &mut Store) -> Result<(), StoreError> {
    store.add_user("lab", HASH.clone(), &["superuser".to_owned()])?;
    let members = [("machines".to_owned(), [OWN.to_owned()].into())].into();
    store.set_tenant("t", TenantRow { users: ["lab".to_owned()].into(), members })
}

/// A server behind a proxy that says of every client that it has the same address.
fn proxied(shards: usize) -> String {
    format!("shards = {shards}\nlisten_proxy_protocol = [\"127.0.0.1:0\"]\ntrusted_proxies = [\"127.0.0.1\"]")
}

/// An agent behind that proxy.
async fn agent(server: &Hydrant, machine: &str) -> Client {
    let token = server.issue(&format!("runner:{machine}"), &TokenRequest::default());
    let mut stream = TcpStream::connect(server.server.addresses()[1]).await.unwrap();
    stream.write_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n").await.unwrap();
    let socket = socket::try_over(stream, false).await.unwrap();
    let mut agent = server.handshake(socket, &Show::Query(&format!("token={token}")), &[]).await.unwrap();
    agent.register("a.b.c").await;
    agent
}

/// Which shard has which of them is chance: with more shards than clients, each has its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_clients_with_one_address_the_one_that_is_shown_is_closed() {
    for shards in [1, 4] {
        let server = Hydrant::with_people(&proxied(shards), |_| Ok(())).await;
        let machines = ["3", "4", "5"].map(|first| format!("{first}{}", &OWN[1..]));
        let mut agents = Vec::new();
        for machine in &machines {
            agents.push(agent(&server, machine).await);
        }
        for left in (0..machines.len()).rev() {
            let ask = async |method| {
                let reply = server.request(method, "/api/v3/connections/192.0.2.7:4711", &[], "").await;
                reply.json()["Principal"].as_str().unwrap().to_owned()
            };
            let shown = ask("GET").await;
            assert_eq!([ask("GET").await, ask("DELETE").await], [shown.as_str(); 2], "of {shards} shards");
            let at = machines.iter().position(|machine| shown == format!("runner:{machine}")).unwrap();
            assert_eq!(agents[at].closed().await.0, 1001);
            server.until("hydrant_connections", left as u64).await;
        }
    }
}

/// Behind two proxies, or at two listeners of one, two clients can have one address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_clients_with_one_address_a_tenant_is_shown_its_own() {
    let server = Hydrant::with_people(&proxied(1), add_lab).await;
    let mut agents = [agent(&server, OTHER).await, agent(&server, OWN).await];
    let bearer = format!("Bearer {}", server.issue("user:lab", &TokenRequest::default()));
    let headers = [("authorization", bearer.as_str())];
    let path = "/api/v3/connections/192.0.2.7:4711";
    for method in ["GET", "DELETE"] {
        let reply = common::http::request(server.address(), false, method, path, &headers, "").await;
        assert_eq!((reply.status.as_u16(), &reply.json()["Principal"]), (200, &format!("runner:{OWN}").into()));
    }
    assert_eq!(agents[1].closed().await.0, 1001);
    server.until("hydrant_connections", 1).await;
    for method in ["GET", "DELETE"] {
        let reply = common::http::request(server.address(), false, method, path, &headers, "").await;
        assert_eq!(reply.status.as_u16(), 404, "{method}");
    }
    agents[0].register("a.b.d").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_of_machines_hides_the_connections_of_others() {
    let server = Hydrant::with_people("shards = 1", add_lab).await;
    let mut agents = Vec::new();
    for machine in [OWN, OTHER] {
        let token = server.issue(&format!("runner:{machine}"), &TokenRequest::default());
        let mut agent = server.try_connect(&Show::Query(&format!("token={token}")), &[]).await.unwrap();
        agent.register("a.b.c").await;
        agents.push(agent);
    }
    let bearer = format!("Bearer {}", server.issue("user:lab", &TokenRequest::default()));
    let ask = async |method: &str, path: &str| {
        common::http::request(server.address(), false, method, path, &[("authorization", bearer.as_str())], "").await
    };
    let everybody = server.request("GET", "/api/v3/connections?Type=websocket", &[], "").await.json();
    let address_of = |machine: &str| {
        let principal = format!("runner:{machine}");
        let one = everybody.as_array().unwrap().iter().find(|one| one["Principal"] == *principal).unwrap();
        one["RemoteAddr"].as_str().unwrap().to_owned()
    };
    let listed = ask("GET", "/api/v3/connections?Type=websocket").await.json();
    let shown: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["Principal"].clone()).collect();
    assert_eq!(shown, [format!("runner:{OWN}")]);
    let holders = ask("GET", "/api/v3/connections?Spec=a.b.c").await.json();
    let shown: Vec<_> = holders.as_array().unwrap().iter().map(|one| one["Principal"].clone()).collect();
    assert_eq!(shown, [format!("runner:{OWN}")], "nor does a search by registration find the others");
    let everywhere = server.request("GET", "/api/v3/connections?Spec=a.b.c", &[], "").await.json();
    assert_eq!(everywhere.as_array().unwrap().len(), 2);
    for room in ["clusters", "resource_brokers"] {
        let path = |machine| format!("/api/v3/{room}/{machine}/connections");
        assert_eq!(ask("GET", &path(OTHER)).await.json(), serde_json::json!([]), "{room}");
        assert_eq!(ask("GET", &path(OWN)).await.json().as_array().unwrap().len(), 1, "{room}");
    }
    for method in ["GET", "DELETE"] {
        let path = |machine| format!("/api/v3/connections/{}", address_of(machine));
        assert_eq!(ask(method, &path(OTHER)).await.status.as_u16(), 404, "{method}");
        assert_eq!(ask(method, &path(OWN)).await.status.as_u16(), 200, "{method}");
    }
    assert_eq!(agents[0].closed().await.0, 1001);
}
