//! What `POST /api/v3/hydrant/explain` takes, and by which limits it reads registrations: those of the server.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::common::http::Reply;
use crate::common::{Hydrant, basic};

const LOGIN: &str = "rocketskates:r0cketsk8ts";

async fn asked(server: &Hydrant, question: &Value) -> Reply {
    let authorization = basic(LOGIN);
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    server.request("POST", "/api/v3/hydrant/explain", &headers, &question.to_string()).await
}

fn event(bytes: usize) -> Value {
    json!({"Type": "machines", "Action": "update", "Key": "k", "Object": "x".repeat(bytes)})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_are_bounded_by_number_and_with_the_bytes_of_the_event() {
    let server = Hydrant::start("").await;
    let specs = |count: usize| (0..count).map(|n| format!("machines.*.{n}")).collect::<Vec<_>>();
    let told = asked(&server, &json!({"Event": event(10), "Specs": specs(64)})).await;
    assert_eq!((told.status.as_u16(), told.json()["Registrations"].as_array().unwrap().len()), (200, 64));
    let message = asked(&server, &json!({"Event": event(10), "Specs": specs(65)})).await.error(400);
    assert!(message.contains("at most 64 are explained per request"), "{message}");
    let message = asked(&server, &json!({"Event": event(1 << 20), "Specs": specs(64)})).await.error(400);
    assert!(message.contains("64 registrations and an event of 1048") && message.contains("too much"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_no_longer_than_a_body_may_be() {
    let server = Hydrant::start("limits = { event_bytes = \"2KiB\", body_bytes = \"8KiB\" }").await;
    let question = |bytes| json!({"Event": event(bytes), "Spec": "machines.*.*"});
    assert_eq!(asked(&server, &question(4_000)).await.status, 200);
    asked(&server, &question(9_000)).await.error(413);
}

/// A few such questions would otherwise keep others from posting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_with_too_many_registrations_takes_no_memory_of_others() {
    let server = Hydrant::start("limits = { event_bytes = \"2KiB\", body_bytes = \"8KiB\" }").await;
    // Far more than bodies may have together, which is four of the longest.
    let specs: Vec<String> = (0..100).map(|n| format!("machines.update.{}{n}", "k".repeat(500))).collect();
    let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
    let _client = server.watch(&specs).await;
    let listed = server.request("GET", "/api/v3/connections?Type=websocket", &[], "").await.json();
    let question = json!({"Event": event(10), "Connection": listed[0]["RemoteAddr"]});
    let message = asked(&server, &question).await.error(400);
    assert!(message.contains("at most 64 are explained per request"), "{message}");
}

/// What a websocket of this server would be refused is refused here, and the other way round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_are_read_by_the_limits_of_the_server() {
    let deep = format!("machines.*.*.{}Key=Exists(){}", "And(".repeat(70), ")".repeat(70));
    let question = json!({"Event": event(10), "Spec": deep});
    let server = Hydrant::start("limits = { filter_nesting = 100 }").await;
    assert_eq!(asked(&server, &question).await.status, 200);
    let server = Hydrant::start("").await;
    let message = asked(&server, &question).await.error(400);
    assert!(message.contains("64"), "{message}");
}

/// Enough expensive questions at once that some wait for too long: how many that is depends on the machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explanations_take_turns_and_who_waits_too_long_is_told_so() {
    let server = Hydrant::start("").await;
    let specs: Vec<String> = (0..60).map(|n| format!("machines.*.*.Object=Re(x+y{n})")).collect();
    let question = json!({"Event": event(1_000_000), "Specs": specs});
    let mut refused = Vec::new();
    for count in [5, 10, 20, 40, 80] {
        let questions = std::iter::repeat_with(|| asked(&server, &question)).take(count);
        let (told, late) = join_all(questions).await.into_iter().partition::<Vec<_>, _>(|reply| reply.status == 200);
        assert!(!told.is_empty(), "none of {count} explained");
        refused = late;
        if !refused.is_empty() {
            break;
        }
    }
    assert!(!refused.is_empty(), "nobody had to wait for too long");
    for reply in refused {
        assert!(!reply.header("retry-after").is_empty(), "{reply:?}");
        let message = reply.error(503);
        assert!(message.contains("other explanations are in progress"), "{message}");
    }
}
