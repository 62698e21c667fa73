//! The server's descriptions of itself: OpenAPI of its routes and AsyncAPI of its websocket. That every answer which a
//! test gets is among those of the document is held by `tests/common/document.rs`; `make openapi` tries made-up
//! requests.

use serde_json::Value;

use crate::common::http::{Http, Reply};
use crate::common::{Hydrant, JSON, basic, document, http};

const OPENAPI: &str = "/api/v3/hydrant/openapi.json";
const ASYNCAPI: &str = "/api/v3/hydrant/asyncapi.json";

async fn anonymously(server: &Hydrant, method: &str, path: &str) -> Reply {
    http::request(server.address(), server.tls, method, path, &[], "").await
}

/// Every operation: its method, its path with the examples in it, and what is said of it.
async fn operations(server: &Hydrant) -> Vec<(String, String, Value)> {
    let document = anonymously(server, "GET", OPENAPI).await.json();
    let mut all = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let mut path = path.clone();
            let mut query = Vec::new();
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap();
                let example = parameter["example"].as_array().map_or(&parameter["example"], |all| &all[0]);
                let example = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
                match parameter["in"].as_str().unwrap() {
                    "path" => path = path.replace(&format!("{{{name}}}"), &example),
                    "query" => query.push(format!("{name}={}", example.replace(' ', "%20"))),
                    _ => {}
                }
            }
            let path = format!("/api/v3{path}?{}", query.join("&"));
            all.push((method.to_uppercase(), path, operation.clone()));
        }
    }
    assert!(all.len() >= 18, "{}", all.len());
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptions_are_for_everybody_and_all_else_needs_credentials() {
    let server = Hydrant::start("").await;
    let openapi = anonymously(&server, "GET", OPENAPI).await;
    assert_eq!((openapi.status.as_u16(), openapi.header("content-type")), (200, JSON));
    assert_eq!(openapi.json()["openapi"], "3.1.0");
    let asyncapi = anonymously(&server, "GET", ASYNCAPI).await;
    assert_eq!((asyncapi.status.as_u16(), &asyncapi.json()["asyncapi"]), (200, &"3.0.0".into()));
    assert_eq!(anonymously(&server, "HEAD", OPENAPI).await.status.as_u16(), 200);
    anonymously(&server, "POST", OPENAPI).await.error(401);
    for (method, path, operation) in operations(&server).await {
        let answer = anonymously(&server, &method, &path).await;
        let expected = if operation["security"].is_array() { 200 } else { 401 };
        assert_eq!(answer.status.as_u16(), expected, "{method} {path}");
    }
    server.request("GET", "/api/v3/hydrant/nothing", &[], "").await.error(404);
}

/// Whoever lacks the claim that an operation names gets nothing by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_of_the_document_are_those_that_are_asked_for() {
    let server = Hydrant::with_people("", |store| {
        store.set_role("poor", vec!["machines/list/*".parse().unwrap()])?;
        store.add_user("poor", crate::common::people::HASH.clone(), &["poor".to_owned()])
    })
    .await;
    let bearer = format!("Bearer {}", server.issue("user:poor", &hydrant::auth::TokenRequest::default()));
    let mut claims = 0;
    for (method, path, operation) in operations(&server).await {
        let Some(claim) = operation["x-claim"].as_str() else { continue };
        let mut connection = Http::connect(server.address(), false).await;
        let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
        let answer = connection.request(&method, &path, &headers, "{}").await;
        let nothing = matches!(answer.status.as_u16(), 403 | 404) || answer.body == "[]";
        assert!(nothing, "{method} {path} without {claim}: {answer:?}");
        claims += 1;
    }
    assert!(claims >= 12, "{claims}");
}

/// The examples of the document are sent as they stand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn examples_are_understood() {
    let server = Hydrant::start("").await;
    for (method, path, operation) in operations(&server).await {
        if operation["requestBody"].is_object() || path.contains("/ws?") || path.starts_with("/api/v3/events?") {
            continue;
        }
        let answer = server.request(&method, &path, &[], "").await;
        assert!(matches!(answer.status.as_u16(), 200 | 404), "{method} {path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_a_websocket_are_those_of_the_document() {
    let server = Hydrant::start("").await;
    let mut client = server.connect().await;
    for (command, schema) in [
        ("register machines.*.*", "Answer"),
        ("register machine.*.*", "Answer"),
        ("deregister machine.*.*", "Answer"),
        ("deregister machine.*.*", "Refusal"),
        ("hello", "Refusal"),
    ] {
        client.say(command).await;
        let text = client.text().await;
        assert_eq!(document::message(schema, &text), Ok(()), "{text}");
        let other = if schema == "Answer" { "Refusal" } else { "Answer" };
        assert!(document::message(other, &text).is_err(), "{text}");
    }
    server.announce("machines", "update", "m1").await;
    let event = client.text().await;
    assert_eq!(document::message("Event", &event), Ok(()));
    assert!(document::message("Answer", &event).is_err());
    // A connection with its registrations, and who watches.
    let all = server.request("GET", "/api/v3/connections", &[], "").await.json();
    let address = all.as_array().unwrap().iter().find(|one| one["Type"] == "websocket").unwrap()["RemoteAddr"].clone();
    let one = server.request("GET", &format!("/api/v3/connections/{}", address.as_str().unwrap()), &[], "").await;
    assert_eq!(one.json()["Specs"][0]["Spec"], "machines.*.*");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_the_document_does_not_have_would_fail_a_test() {
    let server = Hydrant::start("").await;
    let reply =
        http::request(server.address(), false, "GET", "/api/v3/info", &[("authorization", &basic("x:y"))], "").await;
    assert_eq!(reply.status.as_u16(), 403);
    let strange = Reply { status: hyper::StatusCode::IM_A_TEAPOT, ..reply };
    let check = || document::check(server.address(), "GET", "/api/v3/info", &strange);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err());
    let bare = Reply { status: hyper::StatusCode::OK, body: "{}".to_owned(), ..strange };
    let check = || document::check(server.address(), "GET", "/api/v3/info", &bare);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err());
}
