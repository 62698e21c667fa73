//! Responses for clients whose request cannot be processed: there is no slot for the connection, it does not use TLS,
//! or hyper could not parse the head of the request.
//!
//! hyper answers a head that it cannot parse with a bare status. The socket writes the text from here instead, so that
//! every error has a DRP Error as its body.

use std::borrow::Cow;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::request_line::RequestLine;

/// Time for a client to read the response.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A response to any request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refusal {
    /// There is no slot for another connection.
    Full,
    /// The client speaks plain HTTP on a TLS port.
    NotTls,
    /// The head of a request is not valid HTTP/1.1.
    Malformed,
    /// The target of a request is too long.
    LongTarget,
    /// The head of a request has too many headers or bytes.
    LargeHead,
}

/// Maximum number of headers of one request.
pub const MAX_HEADERS: usize = 128;

/// Maximum bytes of the head of one request.
pub const MAX_HEAD: usize = 32 << 10;

/// Says what is too large about the head of a request.
pub fn large_head() -> String {
    format!("the request has more than {MAX_HEADERS} headers or {MAX_HEAD} bytes before its body")
}

impl Refusal {
    /// Returns the refusal that replaces hyper's own response with this head, if it is one.
    pub(super) fn instead_of(head: &[u8]) -> Option<Self> {
        match head.strip_prefix(b"HTTP/1.1 ")?.get(..3)? {
            b"400" => Some(Self::Malformed),
            b"414" => Some(Self::LongTarget),
            b"431" => Some(Self::LargeHead),
            _ => None,
        }
    }

    /// Returns the response to a request with this first line, as sent on the wire.
    pub(super) fn text(self, line: RequestLine) -> String {
        let (status, retry) = match self {
            Self::Full => ("503 Service Unavailable", "Retry-After: 1\r\n"),
            Self::NotTls | Self::Malformed => ("400 Bad Request", ""),
            Self::LongTarget => ("414 URI Too Long", ""),
            Self::LargeHead => ("431 Request Header Fields Too Large", ""),
        };
        let (code, kind, message) = (&status[..3], line.method.unwrap_or("CONNECT"), self.message(line));
        // A DRP Error; the texts contain nothing that would have to be escaped.
        let body = format!(r#"{{"Model":"","Key":"","Type":"{kind}","Messages":["{message}"],"Code":{code}}}"#);
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{retry}Connection: \
             close\r\n\r\n{body}"
        )
    }

    fn message(self, line: RequestLine) -> Cow<'static, str> {
        match (self, line.unencoded) {
            (Self::Full, _) => "too many connections; try again".into(),
            (Self::NotTls, _) => "this port requires TLS, but the request is plain HTTP; use https:// or wss://".into(),
            (Self::Malformed, Some((character, encoded))) => format!(
                "not a valid HTTP/1.1 request: its target contains {character}, which must be percent-encoded as \
                 {encoded}"
            )
            .into(),
            (Self::Malformed, None) => {
                "not a valid HTTP/1.1 request: its method, target, version or a header is malformed".into()
            }
            (Self::LongTarget, _) => "the target of the request is too long".into(),
            (Self::LargeHead, _) => large_head().into(),
        }
    }

    /// Sends the response and ends the connection. Reads for a moment what the client still sends, because closing with
    /// unread bytes could discard the response.
    pub(super) async fn say(self, mut stream: TcpStream) {
        let told = async {
            stream.write_all(self.text(RequestLine::default()).as_bytes()).await?;
            stream.shutdown().await?;
            let mut scratch = [0; 1024];
            while stream.read(&mut scratch).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        // A client that does not read misses the response.
        let _ = timeout(TIMEOUT, told).await;
    }
}
