//! Who did what, as lines of the log that can be turned off.

use std::collections::BTreeSet;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use crate::common::program::Program;
use crate::common::{http, patiently, socket};

/// What a server has logged about a login, a refusal, and a websocket with a good and a bad command: messages of the
/// audit, and whether the refusal is told besides.
async fn told(audit: bool) -> (BTreeSet<String>, bool) {
    let server = Program::start("off", &format!("level = 'info', format = 'json', audit = {audit}"), "");
    let token = server.token().await;
    let wrong = [("authorization", "Bearer CANARY-audit-wrong-token")];
    assert_eq!(http::request(server.api, false, "GET", "/api/v3/info", &wrong, "").await.status.as_u16(), 403);
    let url = format!("ws://{}/api/v3/ws?token={token}", server.api);
    let socket = socket::connect(server.api, false).await;
    let (mut stream, _) = patiently("a websocket", tokio_tungstenite::client_async(url, socket)).await.unwrap();
    for command in ["register a.b.c.Pin=Eq(CANARY-pin)", "register a.b.c.Pin=Qe(CANARY-pin)"] {
        stream.send(Message::text(command)).await.unwrap();
        patiently("an answer", stream.next()).await.unwrap().unwrap();
    }
    let lines = server.end();
    assert!(
        !lines.iter().any(|line| line.contains("CANARY-pin")),
        "values of filters are nobody's business: {lines:?}"
    );
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_audit = lines.iter().filter(|line| line["target"] == "hydrant::audit");
    let of_audit: Vec<&Value> = of_audit.collect();
    assert!(of_audit.iter().all(|line| line["peer"].as_str().unwrap().starts_with("127.0.0.1:")), "{of_audit:?}");
    let messages = of_audit.iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect();
    (
        messages,
        lines
            .iter()
            .any(|line| line["level"] == "WARN" && line["message"].as_str().unwrap().starts_with("login refused")),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_tells_who_did_what_where_it_is_wanted() {
    let all = ["command", "command refused", "connection closed", "connection opened", "login", "refused"];
    assert_eq!(told(true).await, (all.map(str::to_owned).into(), true));
    assert_eq!(told(false).await, (BTreeSet::new(), true), "an attack shows all the same");
}

/// Behind a proxy the lines name its client, and nobody else can have another address written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_names_the_client_behind_a_proxy() {
    for (trusted, expected) in [("127.0.0.1", "192.0.2.1"), ("10.0.0.0/8", "127.0.0.1")] {
        let settings = format!("trusted_proxies = [\"{trusted}\"]");
        let server = Program::start("off", "level = 'info', format = 'json', audit = true", &settings);
        let token = format!("Bearer {}", server.token().await);
        for (authorization, status) in [("Bearer CANARY-audit-wrong-token", 403), (token.as_str(), 200)] {
            let headers = [("authorization", authorization), ("x-forwarded-for", "203.0.113.9, 192.0.2.1")];
            let reply = http::request(server.api, false, "GET", "/api/v3/info", &headers, "").await;
            assert_eq!(reply.status.as_u16(), status);
        }
        let lines = server.end();
        let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let peers = |message: &str| -> BTreeSet<String> {
            let peer = |line: &Value| line["peer"].as_str().unwrap().rsplit_once(':').unwrap().0.to_owned();
            lines.iter().filter(|line| line["message"].as_str().unwrap().starts_with(message)).map(peer).collect()
        };
        for message in ["refused", "login refused"] {
            assert_eq!(peers(message), [expected.to_owned()].into(), "{message}");
        }
        assert!(peers("login").contains(expected), "{:?}", peers("login"));
    }
}
