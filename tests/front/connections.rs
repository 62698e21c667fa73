//! The endpoint's connections, listed and asked for through hydrant: as the service where the caller is not known
//! there, so it is for hydrant to hide what the caller's tenant hides.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hydrant::auth::{TenantRow, TokenRequest};
use serde_json::{Value, json};

use crate::common::program::Program;
use crate::common::{Hydrant, LOGIN, basic, http, patiently};
use crate::endpoint::{Drp, MACHINE};

const OTHER: &str = "4f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e";

/// An endpoint with connections of two machines and a user, and a hydrant whose user `lab` has a tenant of one machine.
async fn front() -> (Drp, Hydrant) {
    front_with("").await
}

async fn front_with(settings: &str) -> (Drp, Hydrant) {
    let drp = Drp::start().await;
    let row = |principal: String, n: usize| {
        let address = format!("192.0.2.{n}:99");
        json!({"Principal": principal, "RemoteAddr": address, "Type": "websocket"})
    };
    let principals = [format!("runner:{MACHINE}"), format!("runner:{OTHER}"), "user:other".to_owned()];
    *drp.state.connections.lock() = principals.into_iter().zip(7..).map(|(principal, n)| row(principal, n)).collect();
    let toml = format!("{}[auth]\nmode = \"local\"\n{settings}", drp.settings());
    let hydrant = Hydrant::with_people_over(&toml, true, |store| {
        for user in ["lab", "all"] {
            store.add_user(user, crate::common::people::HASH.clone(), &["superuser".to_owned()])?;
        }
        let members = [("machines".to_owned(), [MACHINE.to_owned()].into())].into();
        store.set_tenant("t", TenantRow { users: ["lab".to_owned()].into(), members })
    })
    .await;
    (drp, hydrant)
}

async fn ask(hydrant: &Hydrant, user: &str, method: &str, path: &str) -> http::Reply {
    let bearer = format!("Bearer {}", hydrant.issue(&format!("user:{user}"), &TokenRequest::default()));
    http::request(hydrant.address(), true, method, path, &[("authorization", bearer.as_str())], "").await
}

fn theirs(listed: &Value) -> Vec<&str> {
    let rows = listed.as_array().unwrap().iter().filter(|row| !row["Endpoint"].is_null());
    rows.map(|row| row["Principal"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_hides_connections_of_the_endpoint_too() {
    let (_drp, hydrant) = front().await;
    let [own, other] = [MACHINE, OTHER].map(|machine| format!("runner:{machine}"));
    let path = "/api/v3/connections?Type=websocket";
    let all = ask(&hydrant, "all", "GET", path).await.json();
    assert_eq!(theirs(&all), [own.as_str(), &other, "user:other"]);
    let listed = ask(&hydrant, "lab", "GET", path).await.json();
    assert_eq!(theirs(&listed), [own.as_str(), "user:other"]);
    let one = ask(&hydrant, "all", "GET", &format!("{path}&Principal={other}")).await.json();
    assert_eq!(theirs(&one), [other.as_str()], "filters are for them too");
}

/// A tenant may not be shown a connection because it cannot be told whose that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_hides_what_is_nobodys_and_what_is_nested_deeply() {
    let (drp, hydrant) = front().await;
    let deep = (0..300).fold(json!(1), |inner, _| json!([inner]));
    drp.state.connections.lock().extend([
        json!({"RemoteAddr": "192.0.2.50:99"}),
        json!({"Principal": 1, "RemoteAddr": "192.0.2.51:99"}),
        json!({"Nested": deep, "Principal": format!("runner:{OTHER}"), "RemoteAddr": "192.0.2.52:99"}),
    ]);
    let shown = async |user| {
        let body = ask(&hydrant, user, "GET", "/api/v3/connections").await.body;
        [7, 8, 50, 51, 52].map(|n| body.contains(&format!("192.0.2.{n}:99")))
    };
    assert_eq!(shown("all").await, [true; 5]);
    assert_eq!(shown("lab").await, [true, false, false, false, false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_without_those_of_the_endpoint_says_so() {
    let (mut drp, hydrant) = front().await;
    let incomplete = async |path: &str| {
        let reply = ask(&hydrant, "all", "GET", path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply.header("x-hydrant-incomplete").to_owned()
    };
    let (all, found) = ("/api/v3/connections", "/api/v3/connections?Spec=a.b.c");
    assert_eq!([incomplete(all).await, incomplete(found).await], ["", ""]);
    drp.stop().await;
    let agents = format!("/api/v3/machines/{MACHINE}/connections");
    assert_eq!([incomplete(all).await, incomplete(&agents).await], ["endpoint", "endpoint"]);
    assert_eq!(incomplete(found).await, "", "the endpoint is not asked");
    let described = ask(&hydrant, "all", "GET", "/api/v3/hydrant/openapi.json").await.json();
    for path in ["/connections", "/machines/{uuid}/connections"] {
        let header = &described["paths"][path]["get"]["responses"]["200"]["headers"]["X-Hydrant-Incomplete"];
        assert_eq!((&header["required"], &header["schema"]["enum"]), (&json!(false), &json!(["endpoint"])), "{path}");
    }
}

/// DRP before 4 has no such list, so there is nothing to miss. Every other refusal is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_has_no_list_makes_no_list_incomplete() {
    let (drp, hydrant) = front().await;
    for (status, missing) in [(404, ""), (401, "endpoint"), (403, "endpoint"), (500, "endpoint"), (404, "")] {
        *drp.state.refuses.lock() = ("connections", status);
        for path in ["/api/v3/connections".to_owned(), format!("/api/v3/machines/{MACHINE}/connections")] {
            let reply = ask(&hydrant, "all", "GET", &path).await;
            let told = (reply.status.as_u16(), reply.header("x-hydrant-incomplete"));
            assert_eq!(told, (200, missing), "{status} {path}");
            assert_eq!(theirs(&reply.json()), [""; 0], "{status} {path}");
        }
    }
}

/// An ingress answers 404 while it has no endpoint behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_404_of_a_server_in_front_of_the_endpoint_makes_a_list_incomplete() {
    let (drp, hydrant) = front().await;
    *drp.state.page.lock() = Some(("/api/v3/", 404));
    for path in ["/api/v3/connections".to_owned(), format!("/api/v3/machines/{MACHINE}/connections")] {
        let reply = ask(&hydrant, "all", "GET", &path).await;
        assert_eq!((reply.status.as_u16(), reply.header("x-hydrant-incomplete")), (200, "endpoint"), "{path}");
    }
}

/// A 401 or 403 ends the session of a page. It must be about the caller: if the endpoint refuses hydrant's own user,
/// that is an error of this server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_hydrants_own_user_is_none_of_the_callers() {
    let (drp, hydrant) = front().await;
    for status in [401, 403] {
        for (refused, asks) in [("connections", ["GET", "DELETE"].as_slice()), ("info", &["GET"])] {
            *drp.state.refuses.lock() = (refused, status);
            let path = if refused == "info" { "/api/v3/info" } else { "/api/v3/connections/192.0.2.9:99" };
            for method in asks {
                let reply = ask(&hydrant, "all", method, path).await;
                let message = reply.error(502);
                let expected = format!("hydrant's own user (upstream.username or upstream.token) with status {status}");
                assert!(message.contains(&expected), "{method} {path}: {message}");
                assert_eq!(reply.header("www-authenticate"), "", "{method} {path}");
            }
        }
        assert_eq!(ask(&hydrant, "all", "GET", "/api/v3/hydrant/me").await.status, 200);
    }
}

/// Each of them still sees only what its tenant shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_permits_it_shares_the_part_of_the_endpoint() {
    let (drp, hydrant) = front().await;
    let path = "/api/v3/connections";
    let list = async |user: &str, age: &str| {
        let bearer = format!("Bearer {}", hydrant.issue(&format!("user:{user}"), &TokenRequest::default()));
        let headers = [("authorization", bearer.as_str()), ("cache-control", age)];
        theirs(&http::request(hydrant.address(), true, "GET", path, &headers, "").await.json()).len()
    };
    let begun = Instant::now();
    for (user, age, shown, asked) in
        [("all", "no-cache", 3, 1), ("lab", "max-age=5", 2, 1), ("all", "max-age=5", 3, 1), ("lab", "no-cache", 2, 2)]
    {
        assert_eq!(list(user, age).await, shown, "{user}, {age}");
        let is_old = begun.elapsed() > Duration::from_secs(5);
        assert!(drp.asked(path) == asked || is_old, "{user}, {age}: asked {} times", drp.asked(path));
    }
}

/// While the endpoint does not answer, whoever asks again and again holds some places there and not all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_principal_has_few_lists_of_the_endpoint_at_a_time() {
    let (drp, hydrant) = front_with("[proxy]\nconnect = \"3s\"\n").await;
    drp.state.hangs.store(true, Ordering::Relaxed);
    let path = format!("/api/v3/machines/{MACHINE}/connections");
    let mut lists: FuturesUnordered<_> = (0..12).map(|_| ask(&hydrant, "all", "GET", &path)).collect();
    for _ in 0..4 {
        let reply = patiently("an answer without the endpoint's", lists.next()).await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("x-hydrant-incomplete")), (200, "endpoint"));
    }
    let eight = async {
        while drp.asked(&path) < 8 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    patiently("the questions of one", eight).await;
    assert_eq!(drp.asked(&path), 8);
    let other = async {
        while drp.asked(&path) < 9 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = patiently("the question of another", other) => {}
        reply = ask(&hydrant, "lab", "GET", &path) => panic!("{reply:?}"),
    }
}

/// A page that polls would fill the log otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_hydrants_own_user_is_few_lines() {
    const ASKED: usize = 20;
    let drp = Drp::start().await;
    *drp.state.refuses.lock() = ("connections", 403);
    let program = Program::start("off", "", &format!("{}[auth]\nmode = \"local\"\n", drp.settings()));
    let bearer = format!("Bearer {}", program.token().await);
    for _ in 0..ASKED {
        let headers = [("authorization", bearer.as_str())];
        let reply = http::request(program.api, false, "GET", "/api/v3/connections", &headers, "").await;
        assert_eq!((reply.status.as_u16(), reply.header("x-hydrant-incomplete")), (200, "endpoint"));
    }
    let lines = program.end();
    for message in ["the endpoint refuses hydrant's own credential", "cannot read the endpoint's list of connections"] {
        let told = lines.iter().filter(|line| line.contains(message)).count();
        assert!((1..ASKED / 2).contains(&told), "{told} lines: {message}");
    }
}

/// Whoever the endpoint knows asks it with a credential of its own, and is told what the endpoint says of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_the_callers_own_credential_passes() {
    let drp = Drp::start().await;
    let hydrant = Hydrant::start_tls(&drp.settings()).await;
    let login = basic(LOGIN);
    for status in [401, 403] {
        *drp.state.refuses.lock() = ("connections", status);
        let path = "/api/v3/connections/192.0.2.9:99";
        let headers = [("authorization", login.as_str())];
        assert_eq!(http::request(hydrant.address(), true, "GET", path, &headers, "").await.status, status);
    }
}

/// Whose it is only the endpoint knows, so whoever has a tenant is not told of one alone, and closes none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_of_the_endpoint_is_nothing_for_a_tenant() {
    let (drp, hydrant) = front().await;
    let path = "/api/v3/connections/192.0.2.9:99";
    assert_eq!(ask(&hydrant, "all", "GET", path).await.json()["Principal"], "user:other");
    let asked = || drp.state.got.lock().iter().filter(|got| got.target == path).count();
    let before = asked();
    for method in ["GET", "DELETE"] {
        ask(&hydrant, "lab", method, path).await.error(404);
    }
    assert_eq!(asked(), before, "nor is the endpoint asked");
}
