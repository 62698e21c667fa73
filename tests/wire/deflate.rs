//! permessage-deflate over real sockets: what is agreed on, what comes deflated, what a client may send, what ends it.

use crate::common::raw::{Raw, deflated, masked};
use crate::common::{Hydrant, Seen};
use serde_json::json;

const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
const SERIALISED: &str = "hydrant_event_serialisations_total{encoding=\"deflate\"}";

const TEXT: u8 = 0x81;
const DEFLATED: u8 = 0xC1;
const DEFLATED_FIRST: u8 = 0x41;
const MIDDLE: u8 = 0x00;
const END: u8 = 0x80;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

async fn both(toml: &str, test: impl AsyncFn(Hydrant)) {
    Box::pin(test(Hydrant::start(toml).await)).await;
    Box::pin(test(Hydrant::start_tls(toml).await)).await;
}

async fn register(raw: &mut Raw, spec: &str) {
    raw.send(&masked(TEXT, format!("register {spec}").as_bytes())).await;
    assert_eq!(Seen::read(&raw.text().await).name(), format!("websocket.register.{spec}"), "answers come plain");
}

/// An event with an Object of about so many bytes that shrinks.
fn sized(kind: &str, key: &str, bytes: usize) -> String {
    json!({"Type": kind, "Action": "update", "Key": key, "Object": {"Text": "abc def ".repeat(bytes / 8)}}).to_string()
}

/// Letters that do not shrink at level 1.
fn noise(bytes: usize) -> String {
    let mut state = 1_u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap()).to_string().replace(['"', '\\'], "\u{e9}")
    };
    (0..bytes).map(|_| letter()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_is_answered_and_nothing_else() {
    let server = Hydrant::start("").await;
    let with_window = format!("{AGREED}; server_max_window_bits=15");
    for (offers, expected) in [
        (&[][..], None),
        (&["permessage-deflate"], Some(AGREED)),
        (&["permessage-deflate; client_max_window_bits"], Some(AGREED)),
        (&["permessage-deflate; server_max_window_bits=10", "x-other, permessage-deflate"], Some(AGREED)),
        (&["permessage-deflate; server_max_window_bits=15"], Some(&with_window)),
        (&["permessage-deflate; server_max_window_bits=10"], None),
        (&["permessage-deflate; client_max_window_bits=99"], None),
        (&["x-webkit-deflate-frame"], None),
    ] {
        let (_raw, agreed) = server.raw_offering(offers).await;
        assert_eq!(agreed.as_deref(), expected, "{offers:?}");
    }
    let off = Hydrant::start("deflate = { mode = \"off\" }").await;
    let (mut raw, agreed) = off.raw_offering(&["permessage-deflate"]).await;
    assert_eq!(agreed, None);
    register(&mut raw, "*.*.*").await;
    off.post(&sized("machines", "m", 4000)).await;
    assert!(!raw.maybe_deflated().await.0);
    raw.send(&masked(DEFLATED, &deflated(b"register a.b.c"))).await;
    assert_eq!(raw.closed().await.0, 1002);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_pays_comes_deflated_and_the_rest_plain() {
    let toml = "shards = 2\n[deflate]\nlevel = 1\nmin_bytes = \"300\"\nmax_bytes = \"50KiB\"\n\
         skip_types = [\"jobs\", \"logs\"]";
    both(toml, async |server| {
        let (mut deflating, mut plain) = (server.raw_deflate().await, server.watch(&["*.*.*"]).await);
        register(&mut deflating, "*.*.*").await;
        let noisy = json!({"Type": "machines", "Action": "update", "Key": "noise", "Object": noise(3000)}).to_string();
        for (event, expected) in [
            (sized("machines", "large", 4000), true),
            (sized("machines", "small", 80), false),
            (sized("machines", "too large", 60_000), false),
            (sized("machines", "next to too large", 49_000), true),
            (sized("jobs", "skipped", 4000), false),
            (sized("logs", "skipped", 4000), false),
            (sized("machines.jobs", "not skipped", 4000), true),
            (noisy, false),
        ] {
            server.post(&event).await;
            let (deflated, text) = deflating.maybe_deflated().await;
            assert_eq!(deflated, expected, "{}", Seen::read(&text).name());
            assert_eq!(text, plain.text().await);
        }
        let (input, output) = ("hydrant_deflate_input_bytes_total", "hydrant_deflate_output_bytes_total");
        // The one that did not shrink was tried too. A shard tells its counts after it has written.
        server.until(SERIALISED, 4).await;
        server.until_that(input, |bytes| bytes > 60_000).await;
        assert!(server.metric(output).await < 10_000);
        // The bytes that wait are those that are sent.
        server.until("hydrant_queue_bytes", 0).await;
    })
    .await;
}

/// Several frames in one write, and what is registered when: the order is that of plain connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deflated_frames_keep_the_order_among_the_plain_ones() {
    both("shards = 1", async |server| {
        let mut raw = server.raw_deflate().await;
        register(&mut raw, "machines.*.*").await;
        let events: Vec<String> =
            (0..300).map(|at| sized("machines", &at.to_string(), if at % 3 == 0 { 8 } else { at * 50 })).collect();
        server.post_lines(&events.join("\n")).await;
        for at in 0..300 {
            let (deflated, text) = raw.maybe_deflated().await;
            assert_eq!(Seen::read(&text).key, at.to_string());
            assert_eq!(deflated, text.len() >= 256, "{at}");
        }
        raw.send(&masked(TEXT, b"deregister machines.*.*")).await;
        assert_eq!(Seen::read(&raw.text().await).name(), "websocket.deregister.machines.*.*");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deflated_commands_are_heard() {
    both("", async |server| {
        let mut raw = server.raw_deflate().await;
        // Section 7.2.3.1 of the RFC: "Hello", in one frame and in two, with a ping between them.
        let hello = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
        raw.send(&masked(DEFLATED, &hello)).await;
        assert_eq!(Seen::read(&raw.text().await).key, "Hello");
        raw.send(&masked(DEFLATED_FIRST, &hello[..3])).await;
        raw.send(&masked(PING, b"between")).await;
        assert_eq!(raw.frame().await, (PONG, b"between".to_vec()));
        raw.send(&masked(END, &hello[3..])).await;
        assert_eq!(Seen::read(&raw.text().await).key, "Hello");
        let command = deflated(b"register a.b.c");
        let (head, tail) = command.split_at(4);
        raw.send(&[masked(DEFLATED_FIRST, head), masked(MIDDLE, b""), masked(END, tail)].concat()).await;
        assert_eq!(Seen::read(&raw.text().await).name(), "websocket.register.a.b.c");
        // A plain one after it is plain, and none of them knows of the other.
        raw.send(&masked(TEXT, b"register a.b.d")).await;
        assert_eq!(Seen::read(&raw.text().await).name(), "websocket.register.a.b.d");
        for byte in masked(DEFLATED, &deflated(b"deregister a.b.d")) {
            raw.send(&[byte]).await;
        }
        assert_eq!(Seen::read(&raw.text().await).name(), "websocket.deregister.a.b.d");
        raw.send(&masked(0xC2, &deflated(b"register a.b.e"))).await;
        assert!(Seen::read(&raw.text().await).error().contains("binary"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_messages_close_with_their_code() {
    let (protocol, corrupt) = ((1002, "protocol error"), (1007, "message cannot be inflated"));
    let (utf8, big) = ((1007, "text is not UTF-8"), (1009, "message too big"));
    let good = deflated(b"register a.b.c");
    let garbled: Vec<u8> = good.iter().map(|byte| !byte).collect();
    let rows: Vec<(&str, Vec<u8>, (u16, &str))> = vec![
        ("RSV1 in a continuation", [masked(DEFLATED_FIRST, &good[..4]), masked(0xC0, &good[4..])].concat(), protocol),
        ("RSV1 in a ping", masked(0xC9, b""), protocol),
        ("RSV1 in a close", masked(0xC8, &[0x03, 0xE8]), protocol),
        ("RSV2", masked(0xA1, &good), protocol),
        ("garbled", masked(DEFLATED, &garbled), corrupt),
        ("not deflated", masked(DEFLATED, b"register a.b.c"), corrupt),
        ("cut", masked(DEFLATED, &good[..good.len() - 3]), corrupt),
        ("empty", masked(DEFLATED, b""), corrupt),
        ("not UTF-8", masked(DEFLATED, &deflated(b"register a.b.\xC3")), utf8),
        ("a byte too long", masked(DEFLATED, &deflated(&vec![b' '; 65_537])), big),
        ("a bomb", masked(DEFLATED, &deflated(&vec![b' '; 60 << 20])), big),
        ("announced too long", vec![DEFLATED, 0xFF, 0, 0, 0, 0, 0, 1, 0, 1], big),
    ];
    both("", async |server| {
        for (what, bytes, (code, reason)) in &rows {
            let mut raw = server.raw_deflate().await;
            raw.send(bytes).await;
            assert_eq!(raw.closed().await, (*code, (*reason).to_owned()), "{what}");
        }
        assert_eq!(server.metric("hydrant_disconnects_total{reason=\"bad_deflate\"}").await, 4);
        let mut raw = server.raw_deflate().await;
        raw.send(&masked(DEFLATED, &deflated(&[b"register a.b.c".as_slice(), &vec![b' '; 65_522]].concat()))).await;
        assert_eq!(Seen::read(&raw.text().await).name(), "websocket.register.a.b.c", "as long as allowed");
    })
    .await;
}
