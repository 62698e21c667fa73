//! What a NATS server sends, in any pieces, the names of subjects, and the numbers of nodes, made up or not: nothing
//! panics, names read back, and a living node is never silenced.

#![no_main]

use std::time::Instant;

use bytes::BytesMut;
use hydrant::cluster::nats::{headers, op};
use hydrant::cluster::peers::{Peers, SequenceCheck};
use hydrant::cluster::subject;
use libfuzzer_sys::fuzz_target;

/// Where numbers end that are read.
const END: u64 = 1 << 62;

fn operations(bytes: &[u8]) {
    let (mut buffer, mut parser) = (BytesMut::new(), op::Parser::default());
    for piece in bytes.chunks(7) {
        buffer.extend_from_slice(piece);
        while let Ok(Some(op)) = parser.next(&mut buffer) {
            if let op::Op::Message(message) = op {
                let _ = (headers::first(&message.headers, "Hydrant-Node"), headers::status(&message.headers));
            }
        }
    }
}

/// Any text is one token of a subject, and reads back unless it is too long for one.
fn subjects(bytes: &[u8]) {
    let _ = subject::kind("hydrant", bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let token = subject::escape(text);
    assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte)), "{token}");
    assert!((1..=subject::LONGEST).contains(&token.len()), "{token}");
    let stands_for_itself = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let length: usize = text.bytes().map(|byte| if stands_for_itself(byte) { 1 } else { 3 }).sum();
    let read = (length <= subject::LONGEST).then_some(text);
    assert_eq!(subject::unescape(&token).as_deref(), read);
    let whole = subject::event("hydrant", text, "update", text);
    assert_eq!(subject::kind("hydrant", whole.as_bytes()).as_deref(), read);
    let _ = subject::unescape(text);
}

/// A node counts on; eight bytes that are not all zero are a number ahead of it that somebody else made up.
fn numbers(bytes: &[u8]) {
    let (mut peers, now, mut next) = (Peers::default(), Instant::now(), 1);
    peers.event(7, 0, 0, now);
    for word in bytes.chunks_exact(8) {
        match u64::from_le_bytes(word.try_into().expect("eight bytes")) {
            0 => {
                assert_ne!(peers.event(7, next, next, now), SequenceCheck::Repeated);
                next += 1;
            }
            made_up => {
                peers.event(7, (next + 1).saturating_add(made_up).min(END - 1), u64::MAX, now);
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    operations(bytes);
    subjects(bytes);
    numbers(bytes);
});
