//! A websocket client by tungstenite, which shares no code with the server's side.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::socket::{self, Socket};
use super::{Hydrant, Seen, patiently};

/// What a client shows.
#[derive(Debug, Clone)]
pub enum Show<'a> {
    /// Nothing.
    Nothing,
    /// The value of an `Authorization` header.
    Header(&'a str),
    /// A query, raw.
    Query(&'a str),
}

/// A connection that has become a websocket.
pub struct Client {
    pub stream: WebSocketStream<Socket>,
    /// The headers of the answer to the handshake.
    pub answered: hyper::header::HeaderMap,
}

impl Hydrant {
    /// A websocket of the first user.
    pub async fn connect(&self) -> Client {
        let token = self.token().await;
        self.connect_over(socket::connect(self.address(), self.tls).await, token).await
    }

    /// A websocket of the first user that does not take much unless it reads.
    pub async fn connect_narrow(&self) -> Client {
        let token = self.token().await;
        self.connect_over(socket::connect_narrow(self.address(), self.tls).await, token).await
    }

    /// A websocket of the first user with more in its query; a narrow one does not take much unless it reads.
    pub async fn connect_with(&self, query: &str, narrow: bool) -> Result<Client, Refusal> {
        let query = format!("token={}&{query}", self.token().await);
        let socket = if narrow {
            socket::connect_narrow(self.address(), self.tls).await
        } else {
            socket::connect(self.address(), self.tls).await
        };
        self.handshake(socket, &Show::Query(&query), &[]).await
    }

    /// The token is there before the socket: its password is hashed, which may take longer than a head may.
    async fn connect_over(&self, socket: Socket, token: &str) -> Client {
        let bearer = format!("Bearer {token}");
        self.handshake(socket, &Show::Header(&bearer), &[]).await.unwrap()
    }

    /// A websocket of the first user with these registrations.
    pub async fn watch(&self, specs: &[&str]) -> Client {
        let mut client = self.connect().await;
        for spec in specs {
            client.register(spec).await;
        }
        client
    }

    /// Tries to open a websocket; the status if it is refused, with `WWW-Authenticate` and the body.
    pub async fn try_connect(&self, show: &Show<'_>, headers: &[(&str, &str)]) -> Result<Client, Refusal> {
        self.handshake(socket::connect(self.address(), self.tls).await, show, headers).await
    }

    /// Tries to open a websocket on a socket that is connected already.
    pub async fn handshake(
        &self,
        socket: Socket,
        show: &Show<'_>,
        headers: &[(&str, &str)],
    ) -> Result<Client, Refusal> {
        let scheme = if self.tls { "wss" } else { "ws" };
        let query = if let Show::Query(query) = show { format!("?{query}") } else { String::new() };
        let mut request = format!("{scheme}://{}/api/v3/ws{query}", self.address()).into_client_request().unwrap();
        super::canary::guard_query(&query);
        if let Show::Header(value) = show {
            super::canary::guard_header(value);
            request.headers_mut().insert("authorization", value.parse().unwrap());
        }
        for (name, value) in headers {
            let name: hyper::header::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        match patiently("a websocket", client_async_with_config(request, socket, Some(config()))).await {
            Ok((stream, answer)) => Ok(Client { stream, answered: answer.headers().clone() }),
            Err(Error::Http(answer)) => {
                let (parts, body) = (*answer).into_parts();
                let body = String::from_utf8(body.unwrap_or_default()).unwrap();
                super::canary::check("a refusal", &format!("{:?} {body}", parts.headers));
                Err(Refusal { status: parts.status.as_u16(), headers: parts.headers, body })
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The library clears its whole buffer before it reads, 128 KiB if it is not told otherwise: with hundreds of clients
/// that is most of what a test does.
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(8 * 1024)
}

/// An answer that is not a websocket.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub headers: hyper::header::HeaderMap,
    pub body: String,
}

impl Client {
    /// Sends a text message.
    pub async fn say(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    pub async fn send(&mut self, message: Message) {
        patiently("a write", self.stream.send(message)).await.unwrap();
    }

    /// The next text message, as it is; pings and pongs are passed over.
    pub async fn text(&mut self) -> String {
        match self.next().await {
            Message::Text(text) => {
                super::canary::check("a message", text.as_str());
                super::document::check_message(text.as_str());
                text.as_str().to_owned()
            }
            other => panic!("not an event: {other:?}"),
        }
    }

    /// The next message of any kind but pings and pongs.
    pub async fn next(&mut self) -> Message {
        loop {
            match patiently("a message", self.stream.next()).await.expect("the connection is open").unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    /// The next event.
    pub async fn event(&mut self) -> Seen {
        let text = self.text().await;
        Seen::read(&text)
    }

    /// The next event must be this answer to a command.
    pub async fn answer(&mut self, action: &str, key: &str) -> Seen {
        let seen = self.event().await;
        assert_eq!(seen.name(), format!("websocket.{action}.{key}"), "{seen:?}");
        seen
    }

    /// Registers, and awaits the answer, which must be the next event.
    pub async fn register(&mut self, spec: &str) {
        self.say(&format!("register {spec}")).await;
        self.answer("register", spec).await;
    }

    /// Tries to register until it is not refused any more. A try that is refused changes nothing.
    pub async fn register_at_last(&mut self, spec: &str) {
        patiently("leave to register", async {
            loop {
                self.say(&format!("register {spec}")).await;
                if self.event().await.action == "register" {
                    return;
                }
            }
        })
        .await;
    }

    /// Deregisters likewise.
    pub async fn deregister(&mut self, spec: &str) {
        self.say(&format!("deregister {spec}")).await;
        self.answer("deregister", spec).await;
    }

    /// The events up to the one with this name, which is not among them.
    pub async fn until(&mut self, name: &str) -> Vec<Seen> {
        let mut all = Vec::new();
        loop {
            let seen = self.event().await;
            if seen.name() == name {
                return all;
            }
            all.push(seen);
        }
    }

    /// The names of the events up to one.
    pub async fn names_until(&mut self, name: &str) -> Vec<String> {
        self.until(name).await.iter().map(Seen::name).collect()
    }

    /// The server must close with this; what comes before is counted.
    pub async fn closed(&mut self) -> (u16, String, usize) {
        let mut before = 0;
        loop {
            match self.next().await {
                Message::Close(Some(frame)) => {
                    let code = CloseCode::into(frame.code);
                    return (code, frame.reason.as_str().to_owned(), before);
                }
                Message::Close(None) => panic!("a close without a code"),
                _ => before += 1,
            }
        }
    }
}
