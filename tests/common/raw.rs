//! A websocket client that breaks rules: frames are written byte by byte.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::program::Program;
use super::socket::{self, Socket};
use super::{Hydrant, patiently};

/// A connection on which anything can be sent.
pub struct Raw(pub Socket);

impl Hydrant {
    /// A connection on which nothing has been said.
    pub async fn dial(&self) -> Raw {
        Raw(socket::connect(self.address(), self.tls).await)
    }

    /// A websocket of the first user.
    pub async fn raw(&self) -> Raw {
        let handshake = self.handshake_text().await;
        Raw::upgraded(self.dial().await, &handshake).await.0
    }

    /// A websocket of the first user that makes these offers, one header each, and what was agreed on.
    pub async fn raw_offering(&self, offers: &[&str]) -> (Raw, Option<String>) {
        let lines: Vec<String> = offers.iter().map(|offer| format!("Sec-WebSocket-Extensions: {offer}\r\n")).collect();
        let handshake = handshake(self.address(), self.token().await, &lines.concat());
        let (raw, answer) = Raw::upgraded(self.dial().await, &handshake).await;
        let agreed = agreed(&answer);
        (raw, agreed)
    }

    /// A websocket of the first user that has agreed to permessage-deflate.
    pub async fn raw_deflate(&self) -> Raw {
        let (raw, agreed) = self.raw_offering(&["permessage-deflate; client_max_window_bits"]).await;
        agreed.expect("permessage-deflate is agreed on");
        raw
    }

    /// A request for a websocket.
    pub async fn handshake_text(&self) -> String {
        handshake(self.address(), self.token().await, "")
    }
}

impl Program {
    /// A websocket of a token's user, without compression.
    pub async fn raw(&self, token: &str) -> Raw {
        self.raw_with(token, "").await.0
    }

    /// A websocket of a token's user that has agreed to permessage-deflate.
    pub async fn raw_deflate(&self, token: &str) -> Raw {
        let (raw, answer) = self.raw_with(token, "Sec-WebSocket-Extensions: permessage-deflate\r\n").await;
        agreed(&answer).expect("permessage-deflate is agreed on");
        raw
    }

    async fn raw_with(&self, token: &str, headers: &str) -> (Raw, String) {
        let raw = Raw(socket::connect(self.api, self.tls).await);
        Raw::upgraded(raw, &handshake(self.api, token, headers)).await
    }
}

/// A request for a websocket, with more header lines.
fn handshake(address: SocketAddr, token: &str, headers: &str) -> String {
    format!(
        "GET /api/v3/ws?token={token} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         {headers}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// The extension that the head of an answer agrees to.
fn agreed(answer: &str) -> Option<String> {
    let agreed = answer.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("sec-websocket-extensions").then(|| value.to_owned())
    });
    let agreed: Vec<String> = agreed.collect();
    assert!(agreed.len() <= 1, "{answer}");
    agreed.into_iter().next()
}

impl Raw {
    /// Asks for a websocket, which must be granted; the head of the answer too.
    async fn upgraded(mut self, handshake: &str) -> (Self, String) {
        self.send(handshake.as_bytes()).await;
        let answer = self.head().await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        (self, answer)
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        patiently("a write", self.0.write_all(bytes)).await.unwrap();
        patiently("a write", self.0.flush()).await.unwrap();
    }

    /// The head of an answer.
    pub async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(patiently("a head", self.0.read_u8()).await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// Whether a request with these credentials is answered by a 200; not if the connection is cut meanwhile.
    pub async fn is_served(&mut self, authorization: &str) -> bool {
        let request = format!("GET /api/v3/info HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n\r\n");
        let mut status = [0; 12];
        patiently("a write", self.0.write_all(request.as_bytes())).await.is_ok()
            && self.0.flush().await.is_ok()
            && patiently("an answer", self.0.read_exact(&mut status)).await.is_ok()
            && status == *b"HTTP/1.1 200"
    }

    /// The next frame: its first byte and its payload. A server masks nothing.
    pub async fn frame(&mut self) -> (u8, Vec<u8>) {
        patiently("a frame", async {
            let first = self.0.read_u8().await.unwrap();
            let length = match self.0.read_u8().await.unwrap() {
                126 => u64::from(self.0.read_u16().await.unwrap()),
                127 => self.0.read_u64().await.unwrap(),
                short => u64::from(short),
            };
            assert!(length < 1 << 30, "masked or absurdly long");
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.unwrap();
            (first, payload)
        })
        .await
    }

    /// The next frame must be a text; it.
    pub async fn text(&mut self) -> String {
        let (first, payload) = self.frame().await;
        assert_eq!(first, 0x81, "{payload:?}");
        String::from_utf8(payload).unwrap()
    }

    /// The next frame must be a text, deflated or not; whether it was, and the text.
    pub async fn maybe_deflated(&mut self) -> (bool, String) {
        let (first, payload) = self.frame().await;
        assert!(matches!(first, 0x81 | 0xC1), "{first:02x}");
        let text = if first == 0xC1 { inflated(&payload) } else { payload };
        (first == 0xC1, String::from_utf8(text).unwrap())
    }

    /// The next frame must be a close: its code and reason. Nothing comes after it but the end.
    pub async fn closed(&mut self) -> (u16, String) {
        let (first, payload) = self.frame().await;
        assert_eq!(first, 0x88, "{payload:?}");
        let (code, reason) = payload.split_at(2);
        self.end().await;
        (u16::from_be_bytes(code.try_into().unwrap()), String::from_utf8(reason.to_vec()).unwrap())
    }

    /// The server must say nothing more and end the connection.
    pub async fn end(&mut self) {
        let mut rest = Vec::new();
        patiently("the end", self.0.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty(), "{} bytes after the end", rest.len());
    }
}

/// The payload of a deflated message, inflated by the rules of RFC 7692, section 7.2.2.
pub fn inflated(payload: &[u8]) -> Vec<u8> {
    let whole = [payload, &[0, 0, 0xFF, 0xFF]].concat();
    let mut out = vec![0; 32 << 20];
    let mut inflate = flate2::Decompress::new(false);
    inflate.decompress(&whole, &mut out, flate2::FlushDecompress::Sync).unwrap();
    assert_eq!(inflate.total_in(), whole.len() as u64);
    out.truncate(usize::try_from(inflate.total_out()).unwrap());
    out
}

/// The payload of a deflated message.
pub fn deflated(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 1024);
    let mut deflate = flate2::Compress::new(flate2::Compression::best(), false);
    deflate.compress_vec(text, &mut out, flate2::FlushCompress::Sync).unwrap();
    assert_eq!(deflate.total_in(), text.len() as u64);
    out.strip_suffix(&[0, 0, 0xFF, 0xFF]).unwrap().to_vec()
}

/// A frame as a client sends it: masked.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    if let Ok(short @ 0..=125) = u8::try_from(payload.len()) {
        frame.push(0x80 | short);
    } else if let Ok(medium) = u16::try_from(payload.len()) {
        frame.push(0xFE);
        frame.extend_from_slice(&medium.to_be_bytes());
    } else {
        frame.push(0xFF);
        frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    }
    let mask = [0x12, 0x34, 0x56, 0x78];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
