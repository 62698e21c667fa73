//! The client's side of the NATS protocol: `CONNECT`, `PUB`, and reading `MSG`.

use std::io::Write as _;

use anyhow::{Context as _, Result, bail, ensure};

use super::Incoming;

/// Maximum length of a message in bytes; a longer one is a sign of a broken stream.
const MESSAGE_MAX: usize = 64 << 20;

/// Maximum length of a line in bytes; a longer one is a sign of a broken stream. An `INFO` line has some hundred bytes.
const LINE_MAX: usize = 64 << 10;

/// Returns the CONNECT without acknowledgements and headers.
pub(super) fn connect(name: &str) -> Vec<u8> {
    let options = r#""verbose":false,"pedantic":false,"tls_required":false,"headers":false,"protocol":1,"echo":true"#;
    format!("CONNECT {{{options},\"lang\":\"rust\",\"version\":\"1\",\"name\":\"{name}\"}}\r\n").into_bytes()
}

pub(super) fn publish(subject: &str, text: &str, out: &mut Vec<u8>) {
    write!(out, "PUB {subject} {}\r\n{text}\r\n", text.len()).expect("memory takes everything");
}

pub(super) fn split(bytes: &[u8], on: &mut dyn FnMut(Incoming<'_>) -> Result<()>) -> Result<usize> {
    let mut at = 0;
    while let Some(line) = line(&bytes[at..])? {
        let after = at + line.len() + 2;
        match line {
            [b'M', b'S', b'G', b' ', rest @ ..] => {
                let length = length(rest)?;
                let Some(message) = bytes.get(after..after + length + 2) else { break };
                ensure!(message.ends_with(b"\r\n"), "a NATS message does not end with CRLF");
                on(Incoming::Event(&message[..length]))?;
                at = after + length + 2;
                continue;
            }
            b"PONG" => on(Incoming::Answered)?,
            b"PING" => on(Incoming::Question)?,
            b"+OK" => {}
            info if info.starts_with(b"INFO ") => {}
            other => bail!("NATS says {:?}", String::from_utf8_lossy(other)),
        }
        at = after;
    }
    Ok(at)
}

/// Returns the first line without its line break; `None` if it is incomplete.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>> {
    let Some(end) = bytes.iter().take(LINE_MAX).position(|&byte| byte == b'\n') else {
        ensure!(bytes.len() < LINE_MAX, "a line of NATS is too long");
        return Ok(None);
    };
    let line = bytes[..end].strip_suffix(b"\r").context("a line of NATS ends without CR")?;
    Ok(Some(line))
}

/// Returns the number of bytes in the message after `subject sid [reply] length`.
fn length(head: &[u8]) -> Result<usize> {
    let head = std::str::from_utf8(head).context("a NATS head is not text")?;
    let fields = head.split_ascii_whitespace();
    let length: usize =
        fields.clone().next_back().and_then(|last| last.parse().ok()).context("a NATS head has no length")?;
    ensure!((3..=4).contains(&fields.count()) && length <= MESSAGE_MAX, "a NATS message is too long: {head:?}");
    Ok(length)
}
