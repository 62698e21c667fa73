//! The client's side of MQTT 3.1.1: CONNECT, SUBSCRIBE and PUBLISH with `QoS` 0, PINGREQ.

use anyhow::{Context as _, Result, bail, ensure};

use super::Incoming;

/// PINGREQ: answered with PINGRESP.
pub(super) const PING: [u8; 2] = [0xC0, 0];

/// Maximum remaining length: four digits of seven bits.
const REMAINING_MAX: usize = 0x0FFF_FFFF;

/// Returns the CONNECT of a clean session without keep-alive: the load test is not about timeouts. The client sends no
/// name, so that the server assigns one: of two clients with the same name, the earlier is disconnected.
pub(super) fn connect() -> Vec<u8> {
    const CLEAN_SESSION: u8 = 2;
    let mut body = Vec::new();
    text("MQTT", &mut body);
    body.extend_from_slice(&[4, CLEAN_SESSION, 0, 0]);
    text("", &mut body);
    packet(0x10, &body)
}

/// Returns the SUBSCRIBE for `spec`, which has dots and `*`; topics have slashes and `+`.
pub(super) fn subscribe(spec: &str, number: u16) -> Vec<u8> {
    let mut body = number.max(1).to_be_bytes().to_vec();
    text(&spec.replace('.', "/").replace('*', "+"), &mut body);
    body.push(0);
    packet(0x82, &body)
}

pub(super) fn publish(topic: &str, payload: &str, out: &mut Vec<u8>) {
    out.push(0x30);
    remaining(2 + topic.len() + payload.len(), out);
    text(topic, out);
    out.extend_from_slice(payload.as_bytes());
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    remaining(body.len(), &mut out);
    out.extend_from_slice(body);
    out
}

fn text(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("topics and names are shorter than 64 KiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn remaining(mut length: usize, out: &mut Vec<u8>) {
    assert!(length <= REMAINING_MAX, "payloads are at most 16 MiB");
    loop {
        let low = u8::try_from(length & 0x7F).expect("seven bits");
        length >>= 7;
        if length == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

pub(super) fn split(bytes: &[u8], on: &mut dyn FnMut(Incoming<'_>) -> Result<()>) -> Result<usize> {
    let mut at = 0;
    while let Some((kind, body, len)) = first(&bytes[at..])? {
        match (kind >> 4, body) {
            // CONNACK and SUBACK contain a code.
            (2, [_, 0]) => {}
            (9, [_, _, code]) if *code < 0x80 => on(Incoming::Answered)?,
            (2 | 9, [.., code]) => bail!("MQTT refused with code {code}"),
            (13, []) => on(Incoming::Answered)?,
            (3, [high, low, rest @ ..]) => {
                let topic = usize::from(u16::from_be_bytes([*high, *low]));
                on(Incoming::Event(rest.get(topic..).context("a topic is longer than its packet")?))?;
            }
            _ => bail!("an MQTT packet that starts with {kind:#04x} is unexpected"),
        }
        at += len;
    }
    Ok(at)
}

/// Returns the first packet: its first byte, its body, and its total length; `None` if it is incomplete.
fn first(bytes: &[u8]) -> Result<Option<(u8, &[u8], usize)>> {
    let Some((&kind, rest)) = bytes.split_first() else { return Ok(None) };
    let mut length = 0;
    for (at, &byte) in rest.iter().enumerate() {
        ensure!(at < 4, "the length of an MQTT packet is malformed");
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            let head = at + 2;
            return Ok(bytes.get(head..head + length).map(|body| (kind, body, head + length)));
        }
    }
    Ok(None)
}
