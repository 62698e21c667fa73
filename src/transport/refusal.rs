//! What somebody is told to whom no HTTP is spoken: in words, and without waiting for a request.

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
}

impl Refusal {
    /// As it goes over the wire.
    fn text(self) -> String {
        let (status, code, retry, message) = match self {
            Self::Full => ("503 Service Unavailable", 503, "Retry-After: 1\r\n", "too many connections; try again"),
            Self::NotTls => {
                ("400 Bad Request", 400, "", "this port speaks TLS, and plain HTTP came; use https:// or wss://")
            }
        };
        // A DRP Error; there is nothing in the texts that would have to be escaped.
        let body = format!(r#"{{"Model":"","Key":"","Type":"CONNECT","Messages":["{message}"],"Code":{code}}}"#);
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{retry}Connection: close\r\n\r\n{body}"
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
