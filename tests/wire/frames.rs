//! Frames that tungstenite would not send: fragments, broken rules, silence, half a close.

use std::time::Instant;

use crate::common::raw::{Raw, masked};
use crate::common::{Hydrant, Seen};

const TEXT: u8 = 0x81;
const FIRST: u8 = 0x01;
const MIDDLE: u8 = 0x00;
const END: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

async fn both(test: impl AsyncFn(Hydrant)) {
    Box::pin(test(Hydrant::start("shards = 1").await)).await;
    Box::pin(test(Hydrant::start_tls("shards = 1").await)).await;
}

async fn answered(raw: &mut Raw, name: &str) {
    let seen = Seen::read(&raw.text().await);
    assert_eq!(seen.name(), name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fragments_make_one_command_and_pings_may_stand_between_them() {
    both(async |server| {
        let mut raw = server.raw().await;
        let parts = ["reg", "", "ister a.b.\u{e9}"];
        // The last fragment begins in the middle of a character.
        let bytes = parts.concat().into_bytes();
        let (head, tail) = bytes.split_at(bytes.len() - 1);
        raw.send(&masked(FIRST, &head[..3])).await;
        raw.send(&masked(PING, b"one")).await;
        assert_eq!(raw.frame().await, (PONG, b"one".to_vec()), "at once, not after the message");
        raw.send(&masked(MIDDLE, b"")).await;
        raw.send(&masked(PONG, b"unasked")).await;
        raw.send(&[masked(MIDDLE, &head[3..]), masked(PING, b"two"), masked(END, tail)].concat()).await;
        assert_eq!(raw.frame().await, (PONG, b"two".to_vec()));
        answered(&mut raw, "websocket.register.a.b.\u{e9}").await;
        // Byte by byte, and several commands in one packet.
        for byte in masked(TEXT, b"register a.b.d") {
            raw.send(&[byte]).await;
        }
        answered(&mut raw, "websocket.register.a.b.d").await;
        raw.send(&[masked(TEXT, b"deregister a.b.d"), masked(TEXT, b"register a.b.f")].concat()).await;
        answered(&mut raw, "websocket.deregister.a.b.d").await;
        answered(&mut raw, "websocket.register.a.b.f").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_rules_close_with_their_code() {
    let (protocol, utf8, big) = ((1002, "protocol error"), (1007, "text is not UTF-8"), (1009, "message too big"));
    let mut unmasked = vec![TEXT, 14];
    unmasked.extend_from_slice(b"register a.b.c");
    let long_ping = [vec![PING, 0xFE, 0, 126, 0, 0, 0, 0], vec![0; 126]].concat();
    let over_limit =
        (0..3).map(|at| masked(if at == 0 { FIRST } else { MIDDLE }, &vec![b'x'; 30_000])).collect::<Vec<_>>();
    let rows: Vec<(&str, Vec<u8>, (u16, &str))> = vec![
        ("unmasked", unmasked, protocol),
        ("reserved bit", masked(0xC1, b"register a.b.c"), protocol),
        ("reserved opcode", masked(0x83, b""), protocol),
        ("control frame of 126 bytes", long_ping, protocol),
        ("fragmented ping", masked(0x09, b""), protocol),
        ("continuation of nothing", masked(END, b"x"), protocol),
        ("a message in a message", [masked(FIRST, b"reg"), masked(TEXT, b"register a.b.c")].concat(), protocol),
        ("length not in its shortest form", vec![TEXT, 0xFE, 0, 14, 0, 0, 0, 0], protocol),
        ("invalid UTF-8", masked(TEXT, b"register a.b.\xC3\x28"), utf8),
        ("cut UTF-8", masked(TEXT, b"register a.b.\xC3"), utf8),
        ("invalid UTF-8 over fragments", [masked(FIRST, b"\xC3"), masked(END, b"x")].concat(), utf8),
        ("cut UTF-8 at the end of fragments", [masked(FIRST, b"ok"), masked(END, b"\xE2\x82")].concat(), utf8),
        ("UTF-16 surrogate", masked(TEXT, b"\xED\xA0\x80"), utf8),
        ("announced too long", vec![TEXT, 0xFF, 0, 0, 0, 0x7F, 0, 0, 0, 0], big),
        ("too long over fragments", over_limit.concat(), big),
        ("too many fragments", [masked(FIRST, b"x"), masked(MIDDLE, b"x").repeat(19_000)].concat(), big),
        ("close of one byte", masked(CLOSE, b"\x03"), protocol),
        ("close with a code for no wire", masked(CLOSE, &1006_u16.to_be_bytes()), protocol),
        ("close with a code of nobody's", masked(CLOSE, &2999_u16.to_be_bytes()), protocol),
        ("close with a bad reason", masked(CLOSE, b"\x03\xE8\xFF"), utf8),
    ];
    both(async |server| {
        let mut witness = server.watch(&["a.b.*"]).await;
        for (what, bytes, (code, reason)) in &rows {
            let mut raw = server.raw().await;
            raw.send(&masked(TEXT, b"register a.b.c")).await;
            answered(&mut raw, "websocket.register.a.b.c").await;
            // The close comes at once, without another byte; what follows is not listened to.
            raw.send(bytes).await;
            let close = [&code.to_be_bytes(), reason.as_bytes()].concat();
            assert_eq!(raw.frame().await, (CLOSE, close), "{what}");
            raw.send(&masked(TEXT, b"register not.heard.any.more")).await;
            raw.end().await;
        }
        server.until("hydrant_connections", 1).await;
        server.until("hydrant_registrations", 1).await;
        for (label, code) in [("protocol", 1002), ("bad_utf8", 1007), ("too_big", 1009)] {
            let expected = rows.iter().filter(|row| row.2.0 == code).count() as u64;
            assert_eq!(server.metric(&format!("hydrant_disconnects_total{{reason=\"{label}\"}}")).await, expected);
        }
        server.announce("a", "b", "c").await;
        assert_eq!(witness.event().await.name(), "a.b.c");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_is_answered_after_what_was_said_before_it() {
    both(async |server| {
        let mut raw = server.raw().await;
        raw.send(&[masked(TEXT, b"register a.b.c"), masked(CLOSE, b"\x03\xE8bye")].concat()).await;
        answered(&mut raw, "websocket.register.a.b.c").await;
        assert_eq!(raw.closed().await, (1000, String::new()));
        raw = server.raw().await;
        raw.send(&masked(CLOSE, b"")).await;
        assert_eq!(raw.closed().await, (1000, String::new()), "a close without a code");
        for code in [1001_u16, 1014, 3000, 4001, 4999] {
            raw = server.raw().await;
            raw.send(&masked(CLOSE, &code.to_be_bytes())).await;
            assert_eq!(raw.closed().await, (code, String::new()), "the client's own code comes back");
        }
        drop(raw);
        server.until_empty().await;
        assert_eq!(server.metric("hydrant_disconnects_total{reason=\"normal\"}").await, 7);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_without_a_word_leaves_nothing() {
    both(async |server| {
        let mut raw = server.raw().await;
        raw.send(&masked(TEXT, b"register a.b.c")).await;
        answered(&mut raw, "websocket.register.a.b.c").await;
        raw.send(&[TEXT, 0xB2, 1, 2]).await;
        drop(raw);
        server.until_empty().await;
        assert_eq!(server.metric("hydrant_disconnects_total{reason=\"vanished\"}").await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_closed_after_the_idle_time() {
    let server = Hydrant::start("timeouts = { ping = \"300ms\", idle = \"1500ms\" }").await;
    let begun = Instant::now();
    let mut raw = server.raw().await;
    let mut pings = 0;
    let close = loop {
        match raw.frame().await {
            (PING, payload) => {
                assert!(payload.is_empty());
                pings += 1;
            }
            other => break other,
        }
    };
    assert!(begun.elapsed().as_millis() >= 1500, "closed after {:?}", begun.elapsed());
    let most = 1 + begun.elapsed().as_millis() / 300;
    assert!((1..=most).contains(&pings), "{pings} pings, at most {most}");
    assert_eq!(close, (CLOSE, b"\x03\xE9no sign of life".to_vec()));
    raw.end().await;
    drop(raw);
    server.until("hydrant_disconnects_total{reason=\"silent\"}", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_answer_a_close_is_cut() {
    let server = Hydrant::start("timeouts = { close = \"100ms\" }").await;
    let mut raw = server.raw().await;
    raw.send(&masked(0xC1, b"")).await;
    // It holds its end open; the server must not wait for it.
    server.until("hydrant_disconnects_total{reason=\"protocol\"}", 1).await;
    server.until_empty().await;
    assert_eq!(raw.closed().await, (1002, "protocol error".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_behind_the_handshake_in_one_packet_are_heard() {
    both(async |server| {
        let mut raw = server.dial().await;
        let early = [server.handshake_text().await.into_bytes(), masked(TEXT, b"register a.b.c")].concat();
        raw.send(&early).await;
        assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
        answered(&mut raw, "websocket.register.a.b.c").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_has_one_key_whose_spare_bits_do_not_matter() {
    let server = Hydrant::start("shards = 1").await;
    let handshake = server.handshake_text().await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (with, expected) in [(format!("{key}{key}"), "400"), (key.replace("ZQ==", "ZR=="), "101")] {
        let mut raw = server.dial().await;
        raw.send(handshake.replace(key, &with).as_bytes()).await;
        let answer = raw.head().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{with}: {answer}");
    }
}

/// A subprotocol that a client does not know ends its connection, and so does an extension.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_subprotocol_and_no_other_extension_is_agreed_on() {
    both(async |server| {
        let handshake = server.handshake_text().await;
        for offer in [
            "Sec-WebSocket-Protocol: drp\r\n",
            "Sec-WebSocket-Protocol: drp, v3.drp.example\r\nSec-WebSocket-Protocol: chat\r\n",
            "Sec-WebSocket-Extensions: x-webkit-deflate-frame, permessage-bzip2; level=1\r\n",
            "Sec-WebSocket-Protocol: drp\r\nSec-WebSocket-Extensions: bbf-usp-protocol; eid=\"a\"\r\n",
        ] {
            let mut raw = server.dial().await;
            let request = handshake.replace("Sec-WebSocket-Version", &format!("{offer}Sec-WebSocket-Version"));
            raw.send(request.as_bytes()).await;
            let answer = raw.head().await.to_ascii_lowercase();
            assert!(answer.starts_with("http/1.1 101 "), "{offer}: {answer}");
            let says = |name: &str| answer.contains(&format!("\r\nsec-websocket-{name}"));
            assert!(says("accept:") && !says("protocol") && !says("extensions"), "{offer}: {answer}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_second_close_frame_harms_nobody() {
    let server = Hydrant::start("shards = 1").await;
    let mut bystander = server.watch(&["a.*.*"]).await;
    for after in [masked(0x89, b"ping"), masked(0x81, b"register a.*.*"), masked(0x82, b"binary"), masked(0x88, b"")] {
        let mut raw = server.raw().await;
        raw.send(&masked(0x88, &1000_u16.to_be_bytes())).await;
        assert_eq!(raw.frame().await.0, 0x88);
        raw.send(&[masked(0x88, &1000_u16.to_be_bytes()), after].concat()).await;
    }
    server.until("hydrant_connections", 1).await;
    server.announce("a", "b", "c").await;
    assert_eq!(bystander.event().await.name(), "a.b.c");
}
