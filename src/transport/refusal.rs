//! Answers for clients whose request cannot be processed: there is no place for it, it is not TLS, or hyper could not
//! parse its head.
//!
//! hyper answers a head that it cannot parse with a bare status. The socket writes the text from here instead, so that
//! every error has a DRP Error as its body.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a client may take to read it.
const TIMEOUT: Duration = Duration::from_secs(1);

/// An answer to whatever was asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refusal {
    /// There is no place for another connection.
    Full,
    /// It speaks HTTP where TLS is spoken.
    NotTls,
    /// The head of a request is no head of HTTP/1.1.
    Malformed,
    /// The target of a request is too long.
    LongTarget,
    /// The head of a request has too many headers or bytes.
    LargeHead,
}

/// Headers of one request.
pub(super) const MAX_HEADERS: usize = 128;

/// Bytes of the head of one request.
pub(super) const MAX_HEAD: usize = 32 << 10;

impl Refusal {
    /// What stands for hyper's own answer with this head, if it is one.
    pub(super) fn instead_of(head: &[u8]) -> Option<Self> {
        match head.strip_prefix(b"HTTP/1.1 ")?.get(..3)? {
            b"400" => Some(Self::Malformed),
            b"414" => Some(Self::LongTarget),
            b"431" => Some(Self::LargeHead),
            _ => None,
        }
    }

    /// As it goes over the wire.
    pub(super) fn text(self) -> String {
        let large = format!("the head of the request has more than {MAX_HEADERS} headers or {MAX_HEAD} bytes");
        let (status, retry, message) = match self {
            Self::Full => ("503 Service Unavailable", "Retry-After: 1\r\n", "too many connections; try again"),
            Self::NotTls => {
                ("400 Bad Request", "", "this port speaks TLS, and plain HTTP came; use https:// or wss://")
            }
            Self::Malformed => (
                "400 Bad Request",
                "",
                "the head of the request is not one of HTTP/1.1: a method, a target, a version or a header breaks its \
                 grammar",
            ),
            Self::LongTarget => ("414 URI Too Long", "", "the target of the request is too long"),
            Self::LargeHead => ("431 Request Header Fields Too Large", "", large.as_str()),
        };
        let code = &status[..3];
        // A DRP Error; there is nothing in the texts that would have to be escaped.
        let body = format!(r#"{{"Model":"","Key":"","Type":"CONNECT","Messages":["{message}"],"Code":{code}}}"#);
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{retry}Connection: \
             close\r\n\r\n{body}"
        )
    }

    /// Says it and ends the connection. What the client sends is read for a moment, because an end with unread bytes
    /// would take the answer away from it.
    pub(super) async fn say(self, mut stream: TcpStream) {
        let told = async {
            stream.write_all(self.text().as_bytes()).await?;
            stream.shutdown().await?;
            let mut scratch = [0; 1024];
            while stream.read(&mut scratch).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        // Whoever does not listen is not told.
        let _ = timeout(TIMEOUT, told).await;
    }
}
