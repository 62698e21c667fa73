//! A server that logs everything is driven through every path with credentials of every kind: none of them may show in
//! its log, its answers, its metrics or its listings.

use std::collections::BTreeSet;

use futures_util::{SinkExt, StreamExt};
use hydrant::auth::{AuthOptions, Authority, PasswordHash, TokenRequest, edit_store};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::common::people::now;
use crate::common::program::Program;
use crate::common::{Hydrant, JSON, basic, canary, http, patiently, socket};

const PASSWORD: &str = "CANARY-right-password";
const WRONG: &str = "CANARY-wrong-password";

/// A server that logs everything, with users whose passwords are told apart from all other text.
fn start(format: &str, tls: bool) -> Program {
    let dir = tempfile::tempdir().unwrap();
    edit_store(&dir.path().join("data"), |store| {
        store.add_user("alice", PasswordHash::make(PASSWORD)?, &["superuser".to_owned()])?;
        store.add_user("bob", PasswordHash::make(PASSWORD)?, &[])
    })
    .unwrap();
    let log = format!("level = \"trace\", format = \"{format}\", audit = true");
    Program::start_in(dir, &[], if tls { "self-signed" } else { "off" }, &log, "")
}

fn token(server: &Program, principal: &str) -> String {
    let authority = Authority::open_existing(&server.data_dir(), AuthOptions::default()).unwrap();
    let issued = authority.issue_local(&principal.parse().unwrap(), &TokenRequest::default(), now()).unwrap();
    issued.token.expose().to_owned()
}

/// Ways to show credentials: a header or a query.
#[derive(Debug, Clone)]
enum Way {
    Header(String),
    Query(String),
}

/// Credentials, good ones first, and the texts of them that must show nowhere.
fn credentials(good: &str, of_nobody: &str) -> (Vec<Way>, BTreeSet<String>) {
    let forged = format!("{}CANARYCANARY", &good[..good.len() - 12]);
    let long = format!("CANARY-long-{}", "x".repeat(9000));
    let headers = [
        basic(&format!("alice:{PASSWORD}")),
        format!("Bearer {good}"),
        format!("Bearer {of_nobody}"),
        basic(&format!("alice:{WRONG}")),
        basic(&format!("CANARY-nobody:{WRONG}")),
        "Basic CANARY-not-base64".to_owned(),
        "Digest CANARY-digest-value".to_owned(),
        "Bearer CANARY-no-token-at-all".to_owned(),
        format!("Bearer {forged}"),
        format!("Bearer {long}"),
    ];
    let queries = [
        format!("token={good}"),
        format!("Token=alice:{PASSWORD}"),
        format!("token=alice:{WRONG}"),
        "token=CANARY-query-token".to_owned(),
        format!("token={forged}"),
    ];
    let mut secrets: BTreeSet<String> =
        headers.iter().filter_map(|text| text.split_once(' ')).map(|(_, s)| s.to_owned()).collect();
    let signatures = [good, of_nobody].map(|token| token.rsplit('.').next().unwrap().to_owned());
    secrets.extend(signatures);
    secrets.insert("CANARY".to_owned());
    (headers.into_iter().map(Way::Header).chain(queries.into_iter().map(Way::Query)).collect(), secrets)
}

const PATHS: [(&str, &str, &str); 22] = [
    ("GET", "/api/v3/info", ""),
    ("GET", "/api/v3/connections", ""),
    ("GET", "/api/v3/connections/127.0.0.1:1", ""),
    ("GET", "/api/v3/connections/nonsense", ""),
    ("DELETE", "/api/v3/connections/127.0.0.1:1", ""),
    ("GET", "/api/v3/machines/u1/connections", ""),
    ("GET", "/api/v3/nonsense/u1/connections", ""),
    ("POST", "/api/v3/events", r#"{"Type":"a","Action":"b","Key":"c"}"#),
    ("POST", "/api/v3/events", r#"{"Type":"#),
    ("POST", "/api/v3/events", r#"[{"Type":"websocket","Action":"b"}]"#),
    ("GET", "/api/v3/events", ""),
    ("GET", "/api/v3/users/alice/token", ""),
    ("GET", "/api/v3/users/bob/token", ""),
    ("POST", "/api/v3/users/alice/token", r#"{"ttl":"x"}"#),
    ("GET", "/api/v3/users/nobody/token", ""),
    ("GET", "/api/v3/machines/3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e/token", ""),
    ("GET", "/api/v3/machines/nonsense/token", ""),
    ("GET", "/api/v3/ws", ""),
    ("POST", "/api/v3/ws", ""),
    ("PUT", "/api/v3/no/such/route", "x"),
    ("GET", "/api/v3/", ""),
    ("GET", "/elsewhere", ""),
];

/// Everything that clients were shown.
struct Shown {
    texts: Vec<String>,
    /// Tokens that were asked for: their answers show them, nothing else may.
    issued: BTreeSet<String>,
}

async fn drive_rest(server: &Program, ways: &[Way], shown: &mut Shown) {
    for way in ways {
        for (method, path, body) in PATHS {
            let (uri, header) = match way {
                Way::Header(value) => (path.to_owned(), Some(value.as_str())),
                Way::Query(query) => (format!("{path}?{query}"), None),
            };
            let mut headers = vec![("content-type", JSON)];
            headers.extend(header.map(|value| ("authorization", value)));
            let reply = http::request(server.api, server.tls, method, &uri, &headers, body).await;
            shown.texts.push(format!("{:?}", reply.headers));
            if reply.status == 200 && path.ends_with("/token") {
                let token = reply.json()["Token"].as_str().unwrap().to_owned();
                shown.texts.push(reply.json()["Info"].to_string());
                shown.issued.insert(token);
            } else {
                shown.texts.push(reply.body);
            }
        }
    }
}

async fn drive_websockets(server: &Program, ways: &[Way], shown: &mut Shown) -> usize {
    let mut opened = 0;
    for way in ways {
        let (query, header) = match way {
            Way::Header(value) => (String::new(), Some(value)),
            Way::Query(query) => (format!("?{query}"), None),
        };
        let mut request = format!("ws://{}/api/v3/ws{query}", server.api).into_client_request().unwrap();
        if let Some(value) = header {
            request.headers_mut().insert("authorization", value.parse().unwrap());
        }
        let socket = socket::connect(server.api, server.tls).await;
        match patiently("a websocket", tokio_tungstenite::client_async(request, socket)).await {
            Ok((mut stream, _)) => {
                opened += 1;
                for text in
                    ["register a.b.c", "register nonsense", "register a.b.c.Eq(", "nonsense", "deregister x.y.z"]
                {
                    stream.send(Message::text(text)).await.unwrap();
                    let answer = patiently("an answer", stream.next()).await.unwrap().unwrap();
                    shown.texts.push(answer.into_text().unwrap().as_str().to_owned());
                }
                stream.close(None).await.unwrap();
            }
            Err(Error::Http(answer)) => {
                shown.texts.push(format!(
                    "{:?} {:?}",
                    answer.headers(),
                    answer.body().as_deref().map(String::from_utf8_lossy)
                ));
            }
            Err(error) => panic!("{error}"),
        }
    }
    opened
}

async fn no_secret_shows(format: &str, tls: bool) {
    let server = start(format, tls);
    let (good, of_nobody) = (token(&server, "user:alice"), token(&server, "plugin:ipmi"));
    let (ways, mut secrets) = credentials(&good, &of_nobody);
    let mut shown = Shown { texts: Vec::new(), issued: BTreeSet::new() };
    // A listener must be there while it is listed.
    drive_rest(&server, &ways, &mut shown).await;
    assert!(drive_websockets(&server, &ways, &mut shown).await >= 4);
    let bearer = format!("Bearer {good}");
    let listed = http::request(server.api, tls, "GET", "/api/v3/connections", &[("authorization", &bearer)], "").await;
    assert!(listed.body.contains("user:alice"), "{}", listed.body);
    shown.texts.push(listed.body);
    for path in ["/metrics", "/healthz", "/readyz", "/nothing?token=CANARY-probe-query"] {
        shown.texts.push(http::request(server.probe, false, "GET", path, &[], "").await.body);
    }
    let log = server.end();
    for needed in ["login refused", "connection opened", "request", "\"refused\"", "TRACE"] {
        let plain = needed.trim_matches('"');
        assert!(log.iter().any(|line| line.contains(plain)), "no {plain} in the log: it shows too little to judge by");
    }
    assert!(shown.issued.len() > 4 && shown.texts.len() > 400, "{} {}", shown.issued.len(), shown.texts.len());
    secrets.extend(shown.issued.iter().map(|token| token.rsplit('.').next().unwrap().to_owned()));
    for text in shown.texts.iter().chain(&log) {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{secret} shows in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_shows_in_text_logs() {
    no_secret_shows("text", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_shows_in_json_logs_behind_tls() {
    no_secret_shows("json", true).await;
}

/// The watch over all tests sees what it is for: credentials as they stand in a query, decoded, and encoded anew.
#[test]
fn credentials_are_known_in_every_spelling() {
    canary::guard_query("/api/v3/ws?x=y&Token=CANARY-user%3aCANARY-pass%20word");
    canary::guard_header(&basic("CANARY-other:CANARY-pass/word"));
    for text in [
        "CANARY-user%3aCANARY-pass%20word",
        "CANARY-user%3ACANARY-pass%20word",
        "CANARY-user:CANARY-pass word",
        "CANARY-pass word",
        "CANARY-other%3ACANARY-pass%2Fword",
        "CANARY-pass%2Fword",
    ] {
        assert!(canary::leak(&format!("GET /x?token={text} HTTP/1.1")).is_some(), "{text}");
    }
    assert_eq!(canary::leak("CANARY-user"), None, "a name is no secret");
}

/// A server that does not answer cannot be looked at, and a test must not pass because of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_fails_its_test_unless_that_stopped_it() {
    let server = Hydrant::start("").await;
    let (probe, api, data) = (server.server.probe_address().unwrap(), server.address(), server.data_dir());
    server.stop().await;
    let mut look = canary::AtEnd::within(probe, api, false, Some(data));
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look.now()));
    assert!(failed.is_err_and(|why| why.downcast_ref::<String>().unwrap().contains("does not answer /metrics")));
}
