//! A client of streams (Server-Sent Events, NDJSON) that reads an answer line by line; it knows HTTP no better than
//! that.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::socket::{self, Socket};
use super::{Hydrant, Seen, patiently};

/// What an event stream says at a time.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Message {
    pub event: String,
    pub id: String,
    pub data: String,
}

/// An answer whose body has begun.
pub struct Stream {
    reader: BufReader<Socket>,
    /// Its first line and its headers, in lower case.
    pub head: String,
}

/// The media type of Server-Sent Events.
pub const SSE: &str = "text/event-stream";

impl Hydrant {
    /// A stream of the first user; the query as it stands, and more header lines.
    pub async fn stream(&self, accept: &str, query: &str, headers: &str) -> Stream {
        let socket = socket::connect(self.address(), self.tls).await;
        self.stream_over(socket, accept, query, headers).await
    }

    /// The same for a client that does not take much unless it reads.
    pub async fn stream_narrow(&self, accept: &str, query: &str) -> Stream {
        let socket = socket::connect_narrow(self.address(), self.tls).await;
        self.stream_over(socket, accept, query, "").await
    }

    async fn stream_over(&self, mut socket: Socket, accept: &str, query: &str, headers: &str) -> Stream {
        let (address, token) = (self.address(), self.token().await);
        let request = format!(
            "GET /api/v3/events?{query} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Accept: {accept}\r\n{headers}\r\n"
        );
        patiently("a write", socket.write_all(request.as_bytes())).await.unwrap();
        Stream::begin(socket).await
    }
}

impl Stream {
    /// Reads the head of an answer.
    pub async fn begin(socket: Socket) -> Self {
        let mut stream = Self { reader: BufReader::new(socket), head: String::new() };
        while let Some(line) = stream.line().await.filter(|line| !line.is_empty()) {
            stream.head += &line.trim_end().to_ascii_lowercase();
            stream.head.push('\n');
            if line.trim_end().is_empty() {
                break;
            }
        }
        stream
    }

    pub fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// The rest, when the connection has ended.
    pub async fn rest(mut self) -> String {
        let mut rest = String::new();
        patiently("the end", self.reader.read_to_string(&mut rest)).await.unwrap();
        rest
    }

    /// The next line without its line break; nothing at the end.
    pub async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        patiently("a line", self.reader.read_line(&mut line)).await.unwrap();
        line.strip_suffix('\n').map(str::to_owned)
    }

    /// The next message of an event stream, comments left out; nothing at the end.
    pub async fn message(&mut self) -> Option<Message> {
        let mut message = Message::default();
        loop {
            let line = self.line().await?;
            match line.split_once(": ") {
                Some(("event", event)) => event.clone_into(&mut message.event),
                Some(("id", id)) => id.clone_into(&mut message.id),
                Some(("data", data)) => data.clone_into(&mut message.data),
                _ if line.is_empty() && !message.data.is_empty() => return Some(message),
                _ => assert!(line.is_empty() || line == ":", "{line}"),
            }
        }
    }

    /// The next message must be the answer to a registration.
    pub async fn answered(&mut self, spec: &str) {
        let message = self.message().await.unwrap();
        assert_eq!(message.event, "answer");
        assert_eq!(Seen::read(&message.data).name(), format!("websocket.register.{spec}"));
    }
}
