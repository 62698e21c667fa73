//! What `POST /api/v3/hydrant/explain` takes, and by which limits it reads registrations: those of the server.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::common::http::Reply;
use crate::common::people::HASH;
use crate::common::raw::Raw;
use crate::common::{Hydrant, basic, patiently};

const LOGIN: &str = "rocketskates:r0cketsk8ts";
const ALICE: &str = "alice:correct-horse";

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

/// The caller has a long event already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_event_of_the_caller_is_not_repeated() {
    let server = Hydrant::start("").await;
    let question = |bytes| json!({"Event": event(bytes), "Spec": "machines.*.*"});
    let (short, long) = (asked(&server, &question(60_000)).await, asked(&server, &question(70_000)).await);
    assert_eq!(short.json()["Event"]["Object"].as_str().unwrap().len(), 60_000);
    assert!(long.json()["Event"].is_null() && long.json()["Delivered"] == true, "{long:?}");
}

/// Sends a question whose answer has some megabytes, and reads only the head of the answer.
async fn unread(server: &Hydrant, login: &str) -> (Raw, String) {
    let spec = format!("machines.*.{}", "x".repeat(1_000_000));
    let question = json!({"Event": event(10), "Spec": spec}).to_string();
    let (authorization, length) = (basic(login), question.len());
    let mut raw = server.dial().await;
    let head = format!(
        "POST /api/v3/hydrant/explain HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    raw.send(&[head.as_bytes(), question.as_bytes()].concat()).await;
    let status = raw.head().await.split(' ').nth(1).unwrap().to_owned();
    (raw, status)
}

/// Answers that are not read take a bounded part of the memory, and those of one caller a part of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_answers_that_nobody_reads_are_bounded() {
    let toml = "limits = { event_bytes = \"1MiB\", body_bytes = \"4MiB\", socket_buffer = \"64KiB\" }";
    let server = Hydrant::with_people(toml, |store| store.add_user("alice", HASH.clone(), &[])).await;
    let mut held = Vec::new();
    loop {
        let (raw, status) = unread(&server, ALICE).await;
        if status != "200" {
            assert_eq!(status, "503");
            break;
        }
        held.push(raw);
        assert!(held.len() < 20, "a quarter of 64 MiB has room for sixteen at most");
    }
    assert!(held.len() >= 2, "{}", held.len());
    assert_eq!(unread(&server, LOGIN).await.1, "200", "others are not kept from theirs");
    drop(held);
    // An answer counts until hydrant has noticed that its connection is gone.
    let again = async { while unread(&server, ALICE).await.1 != "200" {} };
    patiently("room for an answer", again).await;
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
