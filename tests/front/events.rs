//! In front of DRP endpoints: what comes in goes out unchanged, and what was missed is told.

use crate::common;
use crate::common::drp::{self, Drp};
use crate::common::http;
use crate::common::ws::Client;
use crate::common::{Hydrant, Seen, patiently};
use serde_json::Value;

/// What `/readyz` says.
async fn readyz(server: &Hydrant) -> (u16, Value) {
    let reply = http::request(server.server.probe_address().unwrap(), false, "GET", "/readyz", &[], "").await;
    (reply.status.as_u16(), reply.json())
}

/// Waits until the first upstream is reported so.
async fn until_reported(server: &Hydrant, what: &str, good: impl Fn(&Value) -> bool) -> (u16, Value) {
    patiently(what, async {
        loop {
            let (status, body) = readyz(server).await;
            if good(&body["Upstreams"][0]) {
                return (status, body);
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
}

async fn until_connected(server: &Hydrant) {
    until_reported(server, "a connection", |report| report["Connected"] == true).await;
}

/// Waits until the error of the first upstream contains a text.
async fn until_error(server: &Hydrant, part: &str) {
    until_reported(server, part, |report| report["Error"].as_str().unwrap().contains(part)).await;
}

fn numbered(number: usize) -> String {
    format!(
        r#"{{"Time":"2026-01-02T03:04:05.000000006Z","Type":"n","Action":"update","Key":"{number}","Object":null}}"#
    )
}

fn is_gap(seen: &Seen) -> bool {
    (seen.r#type.as_str(), seen.action.as_str()) == ("hydrant", "gap")
}

/// Sends a message that hydrant does not accept between two events. Clients get a gap of one event in its place.
async fn a_gap_replaces(message: &[u8], drp: &Drp, client: &mut Client) {
    drp.publish(&numbered(1));
    drp.send_raw(message);
    drp.publish(&numbered(2));
    assert_eq!(client.event().await.key, "1");
    let notice = client.event().await;
    let object: Value = serde_json::from_str(notice.object.get()).unwrap();
    assert!(is_gap(&notice) && object["Events"] == 1 && object["Endpoint"] == drp.url(), "{notice:?}");
    assert_eq!(client.event().await.key, "2");
}

/// The times of a gap, and its endpoint.
fn gap(seen: &Seen) -> (jiff::Timestamp, jiff::Timestamp, String) {
    assert!(is_gap(seen), "{seen:?}");
    let object: Value = serde_json::from_str(seen.object.get()).unwrap();
    assert!(object["Events"].is_null() && object.as_object().unwrap().contains_key("Events"), "{object}");
    let time = |name: &str| object[name].as_str().unwrap().parse().unwrap();
    (time("From"), time("To"), object["Endpoint"].as_str().unwrap().to_owned())
}

async fn front(drp: &Drp, more: &str) -> Hydrant {
    let server = Hydrant::start(&drp.settings(more)).await;
    until_connected(&server).await;
    server
}

async fn metric(server: &Hydrant, name: &str, drp: &Drp) -> u64 {
    server.metric(&format!("hydrant_upstream_{name}{{endpoint=\"{}\"}}", drp.address)).await
}

/// Events are counted after they have been published, so a client may have them before.
async fn until_events(server: &Hydrant, events: u64, drp: &Drp) {
    server.until(&format!("hydrant_upstream_events_total{{endpoint=\"{}\"}}", drp.address), events).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_producer_wrote_passes_byte_for_byte() {
    let drp = Drp::start_tls().await;
    let server = front(&drp, "").await;
    let mut client = server.watch(&["*.*.*"]).await;
    let object = r#"{"z":12345678901234567890123,"a":"\u00e9 <\/>","n":1.0,"e":1E-7,"a":{},"l":[]}"#;
    let sent = format!(
        "{{\"Time\":\"2026-11-24T04:22:08.335670491+02:00\",\"Type\":\"machines\",\"Action\":\"update\",\
         \"Key\":\"m.1\",\"Principal\":\"runner:x\",\"Object\":{object},\"Original\":{object}}}"
    );
    assert_eq!(drp.publish(&sent), 1);
    assert_eq!(client.text().await, sent);
    // As a server of version 3 writes it: five fields, and white space is no reason to complain.
    drp.publish(&common::spread(
        r#"{"Time":"2026-11-24T04:22:08Z","Type":"a","Action":"b","Key":"c","Object":{"x":1}}"#,
    ));
    let expected = concat!(
        r#"{"Time":"2026-11-24T04:22:08Z","Type":"a","Action":"b","Key":"c","Principal":"","Object":{"x":1},"#,
        r#""Original":null}"#,
    );
    assert_eq!(client.text().await, expected);
    // Go's zero time is what a server sends that has none.
    let zero = sent.replace("2026-11-24T04:22:08.335670491+02:00", "0001-01-01T00:00:00Z");
    drp.publish(&zero);
    assert_eq!(client.text().await, zero);
    // In parts, with a ping between them.
    let (head, tail) = sent.as_bytes().split_at(70);
    drp.send_raw(&[drp::part(0x01, head), drp::part(0x89, b"x"), drp::part(0x80, tail)].concat());
    assert_eq!(client.text().await, sent);
    drp.until_ponged(1).await;
}

/// DRP publishes whatever is posted to it: `drpcli events post '{"Type":"alarm"}'`, or a body without a byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_without_a_type_an_action_or_a_key_pass_and_are_matched() {
    let drp = Drp::start().await;
    let server = front(&drp, "").await;
    let mut all = server.watch(&["*.*.*"]).await;
    // An empty element is the empty string.
    let mut some = server.watch(&["alarm..k", ",b.,x.", "..*.Key=Eq(\"z\")"]).await;
    let named = |kind: &str, action: &str, key: &str| {
        format!(
            "{{\"Time\":\"0001-01-01T00:00:00Z\",\"Type\":\"{kind}\",\"Action\":\"{action}\",\"Key\":\"{key}\",\
             \"Principal\":\"\",\"Object\":null,\"Original\":null}}"
        )
    };
    let wanted = [named("alarm", "", "k"), named("", "x", ""), named("b", "", ""), named("", "", "z")];
    let others = [named("alarm", "b", "k"), named("", "", "k"), named("", "x", "k"), named("alarm", "", "")];
    for text in wanted.iter().chain(&others) {
        drp.send_raw(&drp::text(text));
        assert_eq!(all.text().await, *text);
    }
    for text in &wanted {
        assert_eq!(some.text().await, *text);
    }
    // A field that is missing or null is one that a client of the endpoint finds empty.
    drp.send_raw(&drp::text(r#"{"Time":"0001-01-01T00:00:00Z","Type":"alarm","Action":null,"Key":"k"}"#));
    assert_eq!([all.text().await, some.text().await], [wanted[0].as_str(); 2]);
    until_events(&server, 9, &drp).await;
    assert_eq!((metric(&server, "unusable_total", &drp).await, metric(&server, "gaps_total", &drp).await), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_users_are_taken_out() {
    let drp = Drp::start().await;
    let server = front(&drp, "").await;
    let mut client = server.watch(&["users.*.*"]).await;
    drp.publish(concat!(
        r#"{"Type":"users","Action":"save","Key":"u","Object":{"Name":"u","Secret":"s","PasswordHash":"h"},"#,
        r#""Original":{"Secret":"s"}}"#,
    ));
    let seen = client.event().await;
    assert_eq!((seen.object.get(), seen.original.get()), (r#"{"Name":"u"}"#, "{}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_and_nonsense_never_enter() {
    let drp = Drp::start().await;
    let server = front(&drp, "").await;
    let mut client = server.watch(&["*.*.*"]).await;
    for nonsense in ["", "nonsense", "[1]", "7", r#"{"type":"websocket","Action":"register","Key":"x"}"#] {
        drp.send_raw(&drp::text(nonsense));
    }
    drp.send_raw(&drp::text(r#"{"Type":"websocket","Action":"register","Key":"x.*.*"}"#));
    drp.publish(&numbered(1));
    assert_eq!(client.event().await.key, "1");
    assert_eq!(metric(&server, "unusable_total", &drp).await, 6);
    until_events(&server, 1, &drp).await;
    assert_eq!(server.metric("hydrant_events_received_total{source=\"upstream\"}").await, 1);
    // The link stands.
    assert_eq!(metric(&server, "reconnects_total", &drp).await, 0);
}

/// Whoever may post events at the endpoint could otherwise end the link, or have it stand too early.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posted_events_that_look_like_answers_answer_nothing() {
    let drp = Drp::start().await;
    drp.set_mute(true);
    let server = Hydrant::start(&drp.settings("register = [\"a.*.*\", \"b.*.*\"]\n")).await;
    drp.until_greeted().await;
    let send = |action: &str, key: &str| {
        let event = serde_json::json!({"Type": "websocket", "Action": action, "Key": key, "Object": null});
        drp.send_raw(&drp::text(&event.to_string()));
    };
    send("register", "a.*.*");
    [("error", "x"), ("register", "x"), ("deregister", "b.*.*")]
        .into_iter()
        .for_each(|(action, key)| send(action, key));
    let unusable = format!("hydrant_upstream_unusable_total{{endpoint=\"{}\"}}", drp.address);
    server.until(&unusable, 3).await;
    assert_eq!(metric(&server, "connected", &drp).await, 0, "one answer is missing");
    send("register", "b.*.*");
    until_connected(&server).await;
    assert_eq!(drp.attempts(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn binary_messages_are_counted_and_cost_no_link() {
    let drp = Drp::start().await;
    let server = front(&drp, "").await;
    let mut client = server.watch(&["*.*.*"]).await;
    drp.send_raw(&drp::part(0x82, b"\x01\x02"));
    [0x02, 0x00, 0x80].iter().for_each(|first| drp.send_raw(&drp::part(*first, b"\xff")));
    drp.publish(&numbered(1));
    assert_eq!(client.event().await.key, "1");
    assert_eq!(metric(&server, "unusable_total", &drp).await, 2);
    assert_eq!(metric(&server, "reconnects_total", &drp).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_lost_is_made_again_and_the_gap_is_told() {
    let drp = Drp::start().await;
    let server = front(&drp, "").await;
    let before = hydrant::clock::now();
    let mut client = server.watch(&["n.*.*", "hydrant.gap.*"]).await;
    let mut other = server.watch(&["n.*.*"]).await;
    drp.publish(&numbered(1));
    assert_eq!(client.event().await.key, "1");
    drp.set_down(true);
    drp.cut();
    let (status, body) = until_reported(&server, "the loss", |report| report["Connected"] == false).await;
    assert_eq!((status, &body["Ready"], &body["Draining"]), (503, &Value::Bool(false), &Value::Bool(false)));
    // Clients stay, and are served.
    client.register("more.*.*").await;
    server.announce("more", "a", "b").await;
    assert_eq!(client.event().await.name(), "more.a.b");
    assert!(drp.publish(&numbered(2)) == 0, "nobody is there to get it");
    let attempts = drp.attempts();
    patiently("further tries", async {
        while drp.attempts() < attempts + 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drp.set_down(false);
    drp.until_registered(2).await;
    drp.publish(&numbered(3));
    let notice = client.event().await;
    let (from, to, endpoint) = gap(&notice);
    assert!(before <= from && from <= to && to <= hydrant::clock::now(), "{notice:?}");
    assert_eq!((notice.key, endpoint), (drp.address.to_string(), drp.url()));
    assert_eq!(client.event().await.key, "3");
    assert_eq!([other.event().await.key, other.event().await.key], ["1", "3"]);
    assert_eq!(metric(&server, "gaps_total", &drp).await, 1);
    assert_eq!(metric(&server, "reconnects_total", &drp).await, 1);
    let status = server.request("GET", "/api/v3/hydrant/status", &[], "").await.json();
    assert_eq!(status["Upstreams"][0]["Gaps"], 1, "{status}");
    until_connected(&server).await;
    assert_eq!(readyz(&server).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_an_endpoint_is_a_gap_too() {
    let drp = Drp::start().await;
    drp.set_down(true);
    let server = Hydrant::start(&drp.settings("")).await;
    let mut client = server.watch(&["hydrant.*.*"]).await;
    until_reported(&server, "an error", |report| report["Error"] != "").await;
    assert_eq!(readyz(&server).await.0, 503);
    drp.set_down(false);
    gap(&client.event().await);
    assert_eq!(metric(&server, "reconnects_total", &drp).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_link_is_found() {
    let drp = Drp::start().await;
    let server = front(&drp, "ping = \"200ms\"\nidle = \"2s\"\n").await;
    let mut client = server.watch(&["*.*.*"]).await;
    drp.freeze();
    drp.publish(&numbered(1));
    gap(&client.event().await);
    // A busy machine may look like another link of the kind.
    assert!(drp.registrations() >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_link_stands() {
    let drp = Drp::start().await;
    // Far more pings than fit into the time of silence: each is answered, and each brings a pong for servers that count
    // those.
    let server = front(&drp, "ping = \"20ms\"\nidle = \"10s\"\n").await;
    drp.until_ponged(20).await;
    assert_eq!(metric(&server, "gaps_total", &drp).await, 0);
    assert_eq!(drp.registrations(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_frames_end_the_connection_not_the_link() {
    let drp = Drp::start().await;
    let limits = "[limits]\nevent_bytes = \"64KiB\"\nbody_bytes = \"64KiB\"\n";
    let server = front(&drp, limits).await;
    let mut client = server.watch(&["*.*.*"]).await;
    let long = |bytes: usize| format!(r#"{{"Type":"n","Action":"a","Key":"long","Object":"{}"}}"#, "x".repeat(bytes));
    let breaks: [&[u8]; 3] = [
        &[0xC1, 0x00],
        &drp::part(0x00, b"a continuation of nothing"),
        &drp::text("x")[..1].iter().chain(&[0x02, 0xC3, 0x28]).copied().collect::<Vec<u8>>(),
    ];
    for (at, broken) in breaks.into_iter().enumerate() {
        drp.send_raw(broken);
        gap(&client.event().await);
        drp.until_registered(at + 2).await;
        drp.publish(&long(65_536 - 50));
        assert_eq!(client.event().await.key, "long");
    }
}

/// Whoever may post at the endpoint may post such an event: it must not take the stream from everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_too_long_is_left_out_and_the_link_stands() {
    let drp = Drp::start().await;
    let server = front(&drp, "[limits]\nevent_bytes = \"64KiB\"\nbody_bytes = \"64KiB\"\n").await;
    let mut client = server.watch(&["*.*.*"]).await;
    let long = |bytes: usize| drp::text(&format!(r#"{{"Type":"n","Action":"a","Object":"{}"}}"#, "x".repeat(bytes)));
    let part = "x".repeat(40_000).into_bytes();
    let parts = [drp::part(0x01, b"\""), drp::part(0x00, &part), drp::part(0x89, b"p"), drp::part(0x80, &part)];
    for too_long in [long(65_536), parts.concat(), long(3 << 20)] {
        a_gap_replaces(&too_long, &drp, &mut client).await;
    }
    assert_eq!((drp.registrations(), metric(&server, "reconnects_total", &drp).await), (1, 0));
    assert_eq!(metric(&server, "gaps_total", &drp).await, 3);
}

/// Clients of the endpoint get these, so clients of hydrant learn that they do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_hydrant_does_not_accept_is_reported_in_its_place() {
    let drp = Drp::start().await;
    let server = front(&drp, "").await;
    let mut client = server.watch(&["*.*.*"]).await;
    let deep = ["[".repeat(2000), "]".repeat(2000)].concat();
    for object in ["1e400", r#""\ud800""#, &deep] {
        a_gap_replaces(
            &drp::text(&format!(r#"{{"Type":"n","Action":"a","Key":"k","Object":{object}}}"#)),
            &drp,
            &mut client,
        )
        .await;
    }
    assert_eq!((metric(&server, "unusable_total", &drp).await, metric(&server, "gaps_total", &drp).await), (0, 3));
}

/// Whoever may post at the endpoint could make others believe that they have missed something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_that_are_posted_at_an_endpoint_are_not_taken_for_ours() {
    let drp = Drp::start().await;
    let server = front(&drp, "").await;
    let mut client = server.watch(&["*.*.*"]).await;
    for key in ["queue", "replay", "nats", "drp:8092", &drp.address.to_string()] {
        drp.publish(&common::event("hydrant", "gap", key));
    }
    drp.publish(&numbered(1));
    assert_eq!(client.event().await.key, "1");
    assert_eq!((metric(&server, "unusable_total", &drp).await, metric(&server, "gaps_total", &drp).await), (5, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_does_not_answer_is_not_connected() {
    let drp = Drp::start().await;
    drp.set_mute(true);
    let server = Hydrant::start(&drp.settings("answer = \"100ms\"\n")).await;
    until_error(&server, "did not answer the registrations within 100 ms").await;
    drp.set_mute(false);
    until_connected(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_replaced_in_its_file_is_used() {
    let drp = Drp::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "wrong canary\n").unwrap();
    let started = std::time::Instant::now();
    let server = Hydrant::start(&drp.settings(&format!("password_file = {:?}\n", file.path()))).await;
    until_error(&server, "403").await;
    let (status, body) = readyz(&server).await;
    assert!(status == 503 && !body.to_string().contains("canary"), "{body}");
    // Wrong credentials stay wrong: each try waits for at least half of the longest wait.
    patiently("further tries", async {
        while drp.attempts() < 5 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(started.elapsed() >= std::time::Duration::from_millis(4 * 50), "{:?}", started.elapsed());
    std::fs::write(file.path(), "r0cketsk8ts\n").unwrap();
    until_connected(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_checked_by_ca_or_fingerprint() {
    let (drp, other) = (Drp::start_tls().await, Drp::start_tls().await);
    let (own, foreign) = (drp.identity.as_ref().unwrap(), other.identity.as_ref().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let pem = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("tls = \"verify\"\nca_file = {path:?}\n")
    };
    let pin = |fingerprint: &str| format!("tls = \"pin\"\nfingerprint = {fingerprint:?}\n");
    for good in [pem("own.pem", &own.ca), pin(&own.fingerprint), pin(&own.fingerprint.replace(':', "").to_lowercase())]
    {
        front(&drp, &good).await;
    }
    let server = Hydrant::start(&drp.settings(&pem("foreign.pem", &foreign.ca))).await;
    until_error(&server, "certificate").await;
    let server = Hydrant::start(&drp.settings(&pin(&foreign.fingerprint))).await;
    let found = own.fingerprint.replace(':', "").to_lowercase();
    until_error(&server, &format!("not pinned; its SHA-256 fingerprint is {found}")).await;
    assert_eq!(drp.registrations(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_do_not_disturb_each_other() {
    let (good, dead, frozen) = (Drp::start().await, Drp::start().await, Drp::start().await);
    dead.set_down(true);
    let server = Hydrant::start(&drp::settings(&[&good, &dead, &frozen], "")).await;
    good.until_registered(1).await;
    frozen.until_registered(1).await;
    until_connected(&server).await;
    let (status, body) = readyz(&server).await;
    let connected: Vec<bool> =
        body["Upstreams"].as_array().unwrap().iter().map(|report| report["Connected"].as_bool().unwrap()).collect();
    assert_eq!((status, connected[0], connected[1]), (200, true, false), "{body}");
    frozen.freeze();
    let mut client = server.watch(&["n.*.*"]).await;
    for number in 0..1_000 {
        good.publish(&numbered(number));
        frozen.publish(&numbered(number));
    }
    for number in 0..1_000 {
        assert_eq!(client.event().await.key, number.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_configured_is_registered() {
    let drp = Drp::start().await;
    let server = front(&drp, "register = [\"a.*.*\", \"b.update.*\"]\n").await;
    assert_eq!(drp.registrations(), 2);
    let mut client = server.watch(&["*.*.*"]).await;
    for (kind, action, takers) in [("c", "update", 0), ("b", "save", 0), ("b", "update", 1), ("a", "x", 1)] {
        assert_eq!(drp.publish(&common::event(kind, action, "k")), takers);
    }
    assert_eq!([client.event().await.name(), client.event().await.name()], ["b.update.k", "a.x.k"]);
}

/// A hundred flaps while events come: none twice, none out of order, and where some are missing a gap stands in their
/// place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_flaps() {
    const FLAPS: usize = 100;
    let drp = std::sync::Arc::new(Drp::start().await);
    let server = front(&drp, "backoff_min = \"1ms\"\nbackoff_max = \"5ms\"\n").await;
    let mut client = server.watch(&["n.*.*", "hydrant.gap.*", "end.*.*"]).await;
    let reader = tokio::spawn(async move { client.until("end.end.end").await });
    let endpoint = std::sync::Arc::clone(&drp);
    let publisher = tokio::spawn(async move {
        let mut number = 0;
        while endpoint.registrations() <= FLAPS {
            for _ in 0..10 {
                endpoint.publish(&numbered(number));
                number += 1;
            }
            tokio::task::yield_now().await;
        }
        number
    });
    for flap in 1..=FLAPS {
        drp.until_registered(flap).await;
        // Let some through, so that there is an order to break.
        let before = metric(&server, "events_total", &drp).await;
        server
            .until_that(&format!("hydrant_upstream_events_total{{endpoint=\"{}\"}}", drp.address), |n| n > before)
            .await;
        drp.cut();
    }
    let sent = publisher.await.unwrap();
    until_connected(&server).await;
    drp.publish(&common::event("end", "end", "end"));
    let (mut next, mut gaps, mut told, mut got) = (0, 0, false, 0);
    for seen in reader.await.unwrap() {
        if is_gap(&seen) {
            gaps += 1;
            told = true;
            continue;
        }
        let number: usize = seen.key.parse().unwrap();
        assert!(number >= next, "{number} after {}: twice or out of order", next - 1);
        assert!(number == next || told, "{next} to {number} are missing and nobody said so");
        (next, told, got) = (number + 1, false, got + 1);
    }
    assert!(got > FLAPS && got < sent, "{got} of {sent}");
    assert_eq!(gaps, FLAPS);
    assert_eq!(metric(&server, "gaps_total", &drp).await, FLAPS as u64);
    assert_eq!(metric(&server, "reconnects_total", &drp).await, FLAPS as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_pauses_while_the_shards_do_not_follow() {
    const EVENTS: usize = 1_500;
    let drp = Drp::start().await;
    let work = "filter_work_per_event = 0\nfilter_work_per_second = 0\nfilter_work_per_principal = 0\n";
    let tables = format!("[inbox]\nevents = 1\n[outbox]\nbytes = \"1GiB\"\n[limits]\n{work}");
    let server = Hydrant::start(&format!("shards = 1\n{}{tables}", drp.settings(""))).await;
    until_connected(&server).await;
    let mut client = server.watch(&["n.*.*"]).await;
    // What an event costs a shard: patterns that look at all of its 60 KB.
    let mut costly = server.connect().await;
    for pattern in 0..200 {
        costly.register(&format!("n.*.*.Object=Re(x[a-z]*{pattern}$)")).await;
    }
    let object = "x".repeat(60_000);
    for number in 0..EVENTS {
        drp.publish(&format!(r#"{{"Type":"n","Action":"a","Key":"{number}","Object":"{object}"}}"#));
    }
    server.until_that(&format!("hydrant_upstream_pauses_total{{endpoint=\"{}\"}}", drp.address), |n| n > 0).await;
    assert!(drp.backlog() > 0, "the endpoint keeps what is not read");
    for number in 0..EVENTS {
        assert_eq!(client.event().await.key, number.to_string());
    }
    assert_eq!(drp.backlog(), 0);
    assert_eq!(metric(&server, "gaps_total", &drp).await, 0);
    assert_eq!(server.metric("hydrant_events_refused_total").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_says_so_to_the_endpoint() {
    let drp = Drp::start().await;
    let server = front(&drp, "").await;
    let mut client = server.watch(&["n.*.*"]).await;
    drp.publish(&numbered(1));
    assert_eq!(client.event().await.key, "1");
    tokio::join!(patiently("the end", server.stop()), async { assert_eq!(drp.closed().await, 1000) });
    let _ = client;
}

/// What a hydrant with these settings shows for its upstream.
fn behind(upstream: &Hydrant, more: &str) -> String {
    drp::upstream(&format!("\"{}://{}\"", if upstream.tls { "https" } else { "http" }, upstream.address()), more)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hydrants_chain_upwards_only() {
    let drp = Drp::start().await;
    let first = front(&drp, "").await;
    let refused = Hydrant::start(&behind(&first, "")).await;
    until_error(&refused, "the endpoint is a hydrant of tier 1, and this one is of tier 1").await;
    let second = Hydrant::start(&behind(&first, "tier = 2\n")).await;
    until_connected(&second).await;
    let mut client = second.watch(&["*.*.*"]).await;
    drp.publish(&numbered(1));
    assert_eq!(client.event().await.key, "1");
    // A gap further up is told further down, under the name of the endpoint that it belongs to.
    drp.cut();
    assert_eq!(client.event().await.name(), format!("hydrant.gap.{}", drp.address));
    drp.publish(&numbered(2));
    assert_eq!(client.event().await.key, "2");
}

/// Forwards connections to an address that is known later.
async fn relay() -> (std::net::SocketAddr, tokio::sync::watch::Sender<Option<std::net::SocketAddr>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, target) = tokio::sync::watch::channel(None);
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let Some(target) = *target.borrow() else { continue };
            tokio::spawn(async move {
                let mut to = tokio::net::TcpStream::connect(target).await?;
                tokio::io::copy_bidirectional(&mut from, &mut to).await
            });
        }
    });
    (address, sender)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hydrants_do_not_feed_each_other() {
    let (address, target) = relay().await;
    let one = Hydrant::start(&drp::upstream(&format!("\"http://{address}\""), "")).await;
    let two = Hydrant::start(&behind(&one, "")).await;
    target.send_replace(Some(two.address()));
    for server in [&one, &two] {
        until_error(server, "of tier 1").await;
    }
    let mut client = one.watch(&["a.*.*"]).await;
    let mut other = two.watch(&["a.*.*"]).await;
    one.announce("a", "one", "x").await;
    two.announce("a", "two", "x").await;
    one.announce("a", "end", "x").await;
    two.announce("a", "end", "x").await;
    assert_eq!([client.event().await.action, client.event().await.action], ["one", "end"]);
    assert_eq!([other.event().await.action, other.event().await.action], ["two", "end"]);
}

/// What clients register for; each event of the fleet is wanted by some and not by others.
const WANTS: [&str; 8] = [
    "*.*.*",
    "machines.*.*",
    "jobs.create,update.*",
    "machines,machine_jobs.*.*.Stage=Exists()",
    "*.update.*.Changed=Exists()",
    "machines.update.*.Stage=Changed()",
    "params,profiles,stages.*.*",
    "*.*.*.Principal=Re(^runner)",
];

async fn texts(mut client: Client) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let text = client.text().await;
        if text.contains(r#""Type":"end""#) {
            return all;
        }
        all.push(text);
    }
}

/// Clients of the front against a client of the endpoint itself, event by event.
async fn compare(upstream: &Hydrant, front: &Hydrant, clients: usize, events: usize) {
    until_connected(front).await;
    // All are connected before any waits for events, and as many at once as there is patience for.
    let (mut direct, mut behind) = (Vec::new(), Vec::new());
    for want in WANTS {
        direct.push(upstream.watch(&[want, "end.*.*"]).await);
    }
    let numbers: Vec<usize> = (0..clients).collect();
    for some in numbers.chunks(50) {
        let opening = some.iter().map(async |number| front.watch(&[WANTS[number % WANTS.len()], "end.*.*"]).await);
        behind.extend(futures_util::future::join_all(opening).await);
    }
    let reading =
        |clients: Vec<Client>| clients.into_iter().map(|client| tokio::spawn(texts(client))).collect::<Vec<_>>();
    let (direct, behind) = (reading(direct), reading(behind));
    let mut fleet = hydrant::demo::Fleet::new(7, 20);
    let lines: Vec<String> = (0..events).map(|_| line(&fleet.step())).collect();
    for lines in lines.chunks(50) {
        upstream.post_lines(&lines.join("\n")).await;
    }
    upstream.announce("end", "end", "end").await;
    let mut expected = Vec::new();
    for client in direct {
        expected.push(patiently("the direct clients", client).await.unwrap());
    }
    assert_eq!(expected[0].len(), events);
    assert!(expected.iter().filter(|texts| !texts.is_empty()).count() >= 6, "the registrations are no test");
    for (number, client) in behind.into_iter().enumerate() {
        let got = patiently("the clients of the front", client).await.unwrap();
        assert!(got == expected[number % WANTS.len()], "client {number} got something else");
    }
}

fn line(event: &hydrant::demo::DemoEvent) -> String {
    event.draft().seal(hydrant::clock::now()).json().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_the_front_get_what_a_direct_client_gets() {
    let upstream = Hydrant::start_tls("").await;
    let front = Hydrant::start(&behind(&upstream, "")).await;
    compare(&upstream, &front, 200, 600).await;
}

/// `cargo test --release --test front events -- --ignored` (part of `make soak`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a thousand clients take their time"]
async fn a_thousand_clients_of_the_front_get_what_a_direct_client_gets() {
    let upstream = Hydrant::start_tls("").await;
    let front = Hydrant::start_tls(&behind(&upstream, "")).await;
    compare(&upstream, &front, 1_000, 400).await;
}

/// What a client of a front that flaps got, against when each event was published: none twice, none out of order, and
/// what is missing was published between the From and the To of a gap that stands in its place. Returns the gaps, the
/// events that came, and by how much From was too late at worst: what is underway when a link is cut was published a
/// little before the endpoint was last heard of.
fn check_flaps(got: &[Seen], published: &[jiff::Timestamp]) -> (usize, usize, jiff::SignedDuration) {
    let (mut next, mut gaps, mut events, mut late) = (0, 0, 0, jiff::SignedDuration::ZERO);
    let mut told: Vec<(jiff::Timestamp, jiff::Timestamp)> = Vec::new();
    let mut until = |number: usize, told: &[(jiff::Timestamp, jiff::Timestamp)]| {
        assert!(number >= next, "{number} after {next}: twice or out of order");
        for (lost, time) in published.iter().enumerate().take(number).skip(next) {
            let early = |(from, to): &(_, _)| (time <= to).then(|| time.duration_until(*from));
            let early = told.iter().filter_map(early).min();
            late = late.max(early.unwrap_or_else(|| panic!("{lost} of {time} is missing, and told was {told:?}")));
        }
        next = number + 1;
    };
    for seen in got {
        if is_gap(seen) {
            let (from, to, _) = gap(seen);
            told.push((from, to));
            gaps += 1;
        } else {
            until(seen.key.parse().unwrap(), &told);
            told.clear();
            events += 1;
        }
    }
    until(published.len(), &told);
    (gaps, events, late)
}

/// As `a_hundred_flaps`, but spread over a minute, with events all the time. Part of `make soak`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes a minute"]
async fn a_hundred_flaps_in_a_minute() {
    const FLAPS: usize = 100;
    let drp = std::sync::Arc::new(Drp::start().await);
    let server = front(&drp, "").await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut client = server.watch(&["n.*.*", "hydrant.gap.*", "end.*.*"]).await;
        readers.push(tokio::spawn(async move { client.until("end.end.end").await }));
    }
    let (endpoint, done) = (std::sync::Arc::clone(&drp), std::sync::Arc::new(tokio::sync::Notify::new()));
    let stop = std::sync::Arc::clone(&done);
    let feed = tokio::spawn(async move {
        let mut pace = tokio::time::interval(std::time::Duration::from_millis(1));
        let mut published = Vec::new();
        let publishing = async {
            loop {
                pace.tick().await;
                published.push(hydrant::clock::now());
                endpoint.publish(&numbered(published.len() - 1));
            }
        };
        tokio::select! { () = publishing => {}, () = stop.notified() => {} }
        published
    });
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(600));
    for flap in 1..=FLAPS {
        pace.tick().await;
        drp.until_registered(flap).await;
        drp.cut();
    }
    drp.until_registered(FLAPS + 1).await;
    done.notify_one();
    let published = feed.await.unwrap();
    drp.publish(&common::event("end", "end", "end"));
    for reader in readers {
        let (gaps, events, late) = check_flaps(&reader.await.unwrap(), &published);
        println!("{events} of {} events, {gaps} gaps, From at worst {late:?} late", published.len());
        assert_eq!(gaps, FLAPS);
        assert!(events > FLAPS && events < published.len(), "{events} of {}", published.len());
        assert!(late < jiff::SignedDuration::from_secs(1), "From is {late:?} late");
    }
    assert_eq!(metric(&server, "gaps_total", &drp).await, FLAPS as u64);
}

/// Ten seconds in which the endpoint's events are lost, and in which a client of the front is served all the same.
/// Returns when the first and the last of the lost events were published.
async fn ten_seconds_without(drp: &Drp, server: &Hydrant, client: &mut Client) -> [jiff::Timestamp; 2] {
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(200));
    let mut lost = Vec::new();
    for round in 0..50 {
        pace.tick().await;
        let round = round.to_string();
        server.announce("local", "a", &round).await;
        assert_eq!(client.event().await.name(), format!("local.a.{round}"));
        client.register(&format!("more.{round}.*")).await;
        client.deregister(&format!("more.{round}.*")).await;
        lost.push(hydrant::clock::now());
        drp.publish(&numbered(0));
    }
    pace.tick().await;
    until_reported(server, "the loss", |report| report["Connected"] == false).await;
    [lost[0], lost[lost.len() - 1]]
}

/// The endpoint is back: the gap is told, with what was lost within it, and events come again.
async fn is_back(drp: &Drp, client: &mut Client, lost: [jiff::Timestamp; 2], registrations: usize) {
    drp.until_registered(registrations).await;
    drp.publish(&numbered(registrations));
    let (from, to, endpoint) = gap(&client.event().await);
    assert!(from <= lost[0] && lost[1] <= to, "lost from {} to {}, told {from} to {to}", lost[0], lost[1]);
    assert_eq!(endpoint, drp.url());
    assert_eq!(client.event().await.key, registrations.to_string());
}

/// First it hangs, with all connections standing, and then it is gone, with its port closed. Part of `make soak`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes twenty seconds"]
async fn an_endpoint_stopped_for_ten_seconds() {
    let mut drp = Drp::start().await;
    let server = front(&drp, "ping = \"200ms\"\nidle = \"4s\"\n").await;
    let mut client = server.watch(&["n.*.*", "local.*.*", "hydrant.gap.*"]).await;
    drp.publish(&numbered(1));
    assert_eq!(client.event().await.key, "1");
    drp.set_hung(true);
    let lost = ten_seconds_without(&drp, &server, &mut client).await;
    drp.set_hung(false);
    is_back(&drp, &mut client, lost, 2).await;
    drp.unlisten().await;
    let lost = ten_seconds_without(&drp, &server, &mut client).await;
    drp.listen().await;
    is_back(&drp, &mut client, lost, 3).await;
    assert_eq!(metric(&server, "gaps_total", &drp).await, 2);
}
