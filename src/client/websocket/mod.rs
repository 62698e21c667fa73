//! One websocket to a server: registrations out, events in.
//!
//! Two tasks own the socket, one for each direction. The reader is a task of its own so that a read is never cancelled
//! halfway. It passes messages on over a channel bounded in number and bytes; if the consumer is slow it stops
//! reading, which the server notices by its own bounds. The writer is a task of its own so that the connection stays
//! alive whatever the consumer does: while nothing is read, no ping is answered, so every ping we send is accompanied
//! by an unsolicited pong, which satisfies servers that count only pongs (RFC 6455, section 5.5.3, allows it).
//!
//! The server answers every command once and in order (`docs/protocol.md`, section 2), so an answer belongs to the
//! oldest unanswered command. It must also name that command: at a DRP endpoint anybody who may post events can post
//! some that look like answers. Those are passed on like other events.

mod frames;
mod reading;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket, handshake};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite, Empty, Join, WriteHalf, empty, join, split};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::endpoint::Target;
use super::error::ClientError;
use super::http::{Http, broken, refusal};
use super::received::{Received, answers, complaint, field, fits_query, query, registered};
use reading::{Content, Heard, Message, NORMAL, Reading};

use crate::tasks;

/// Messages that may be queued for the consumer. Longer queues belong to the server, which counts them.
const WAITING: usize = 1024;
/// Frames to the server that may be queued for writing.
const OUTGOING: usize = 64;
/// Time limit for the peer's answer to a close.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);
/// By this header a server says how many registrations of the query it answers.
const REGISTERED: &str = "X-Hydrant-Registered";
/// The text that RFC 6455 appends to the key.
const ACCEPT_SALT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

type Socket = TokioIo<Upgraded>;
type Writer = WebSocket<Join<Empty, WriteHalf<Socket>>>;

/// The limits of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Longest message that is accepted, in bytes. A longer one is skipped ([`Received::Skipped`]).
    pub message_bytes: usize,
    /// Interval after which an idle connection is kept alive by a ping.
    pub ping: Duration,
    /// A server that sends nothing for this long, or accepts no frame, is considered gone, even if the connection looks
    /// open.
    pub silence: Duration,
}

impl Default for Bounds {
    /// Pings well within a server's 60 seconds; three pings without an answer end the session.
    fn default() -> Self {
        Self { message_bytes: 64 << 20, ping: Duration::from_secs(25), silence: Duration::from_secs(80) }
    }
}

enum Outgoing {
    Command(String),
    Pong(Vec<u8>),
    Close(u16),
}

/// An open websocket. Dropping it aborts the connection; [`Session::close`] closes it properly.
#[derive(Debug)]
pub struct Session {
    incoming: mpsc::Receiver<Result<Message, ClientError>>,
    outgoing: mpsc::Sender<Outgoing>,
    unanswered: VecDeque<String>,
    heard: Arc<Heard>,
    headers: HeaderMap,
    reader: JoinHandle<()>,
}

impl Session {
    /// Connects and upgrades.
    ///
    /// # Errors
    /// Returns a [`ClientError`]; [`ClientError::Refused`] with the server's message if the credentials are invalid.
    pub async fn open(target: &Target, bounds: Bounds) -> Result<Self, ClientError> {
        Self::open_for(target, bounds, None, &[]).await
    }

    /// Connects, upgrades and registers, and requests the history since a position: a time or `EPOCH:SEQUENCE`. The
    /// registrations are part of the handshake, so that no event arrives before all of them are answered. If the server
    /// does not support this, or if they are too long for a query, they are sent as commands.
    ///
    /// # Errors
    /// Fails like [`Session::open`].
    pub async fn open_for(
        target: &Target,
        bounds: Bounds,
        since: Option<&str>,
        specs: &[String],
    ) -> Result<Self, ClientError> {
        let mut answer = upgrade(target, &handshake_query(since, specs)).await?;
        let headers = std::mem::take(answer.headers_mut());
        let socket = hyper::upgrade::on(answer).await.map_err(|e| broken(target, &e))?;
        let (read, write) = split(TokioIo::new(socket));
        let (incoming_tx, incoming) = mpsc::channel(WAITING);
        let (outgoing, outgoing_rx) = mpsc::channel(OUTGOING);
        let heard = Arc::new(Heard::new());
        let writer = WebSocket::after_handshake(join(empty(), write), Role::Client);
        tasks::spawn(write_all(writer, outgoing_rx, bounds));
        let reading = Reading::new(read, target.clone(), bounds, Arc::clone(&heard));
        let reader = tasks::spawn(reading.run(incoming_tx, outgoing.clone()));
        let mut session = Self { incoming, outgoing, unanswered: VecDeque::new(), heard, headers, reader };
        session.register_all(specs).await;
        Ok(session)
    }

    async fn register_all(&mut self, specs: &[String]) {
        if self.header(REGISTERED).is_some_and(|count| count.parse() == Ok(specs.len())) {
            return self.unanswered.extend(specs.iter().cloned());
        }
        for spec in specs {
            self.register(spec).await;
        }
    }

    /// Returns a header of the answer to the upgrade.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the number of binary messages so far: they are not events, and are skipped.
    pub fn binaries(&self) -> u64 {
        self.heard.binaries()
    }

    /// Returns the time since the last frame of any kind arrived. While received events are not consumed, no frames are
    /// read.
    pub fn silent_for(&self) -> Duration {
        self.heard.ago()
    }

    /// Sends a registration. Its answer is returned by [`Session::receive`].
    pub async fn register(&mut self, spec: &str) {
        self.unanswered.push_back(spec.to_owned());
        // If the writer is gone, so is the connection, and the next receive reports why.
        let _ = self.outgoing.send(Outgoing::Command(format!("register {spec}"))).await;
    }

    /// Returns the next event or answer.
    ///
    /// # Errors
    /// Returns [`ClientError::Registration`] if a registration was refused, and [`ClientError::Closed`] or
    /// [`ClientError::Broken`] at the end. After an error, the connection has ended.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn receive(&mut self) -> Result<Received, ClientError> {
        let message = self.incoming.recv().await;
        self.sort(message.unwrap_or_else(|| Err(gone()))?)
    }

    /// Returns a message that has already arrived, if there is one, so that several can be written together.
    ///
    /// # Errors
    /// Fails like [`Session::receive`].
    pub fn receive_ready(&mut self) -> Result<Option<Received>, ClientError> {
        let Ok(message) = self.incoming.try_recv() else { return Ok(None) };
        self.sort(message?).map(Some)
    }

    /// Distinguishes events from answers.
    fn sort(&mut self, message: Message) -> Result<Received, ClientError> {
        let text = match message.content {
            Content::Text(text) => text,
            Content::Skipped(bytes) => return Ok(Received::Skipped { bytes }),
        };
        if field(&text, "Type").as_deref() != Some("websocket") {
            return Ok(Received::Event(text));
        }
        let Some(spec) = self.unanswered.pop_front_if(|spec| answers(&text, spec)) else {
            return Ok(Received::Event(text));
        };
        if field(&text, "Action").as_deref() != Some("error") {
            return Ok(Received::Registered(registered(spec, &text)));
        }
        Err(ClientError::Registration { spec, message: complaint(&text) })
    }

    /// Closes with code 1000 and waits briefly for the server's answer.
    pub async fn close(mut self) {
        let agreed = async {
            let _ = self.outgoing.send(Outgoing::Close(NORMAL)).await;
            while let Some(Ok(_)) = self.incoming.recv().await {}
        };
        let _ = timeout(CLOSE_LIMIT, agreed).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn gone() -> ClientError {
    ClientError::Closed { code: 1006, reason: "the connection has ended".to_owned() }
}

/// Returns the query of the handshake; it has the registrations only if all of them fit.
fn handshake_query(since: Option<&str>, specs: &[String]) -> String {
    let whole = query(since, specs);
    if fits_query(&whole) { whole } else { query(since, &[]) }
}

async fn upgrade(target: &Target, query: &str) -> Result<Response<Incoming>, ClientError> {
    let mut http = Http::open(target).await?;
    let path = if query.is_empty() { "/api/v3/ws".to_owned() } else { format!("/api/v3/ws?{query}") };
    let mut request = http.request(Method::GET, &path, Bytes::new());
    let key = handshake::generate_key();
    ask_for_upgrade(request.headers_mut(), &key);
    let answer = http.send(request).await?;
    if answer.status().as_u16() >= 300 {
        return Err(ClientError::Refused(refusal(answer).await));
    }
    let reason = if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        check(answer.headers(), &key)
    } else {
        Err("it did not switch protocols")
    };
    let endpoint = target.endpoint.to_string();
    reason.map(|()| answer).map_err(|reason| ClientError::NotWebsocket { endpoint, reason })
}

/// Sets the headers of a client's handshake (RFC 6455, section 4.1).
fn ask_for_upgrade(headers: &mut HeaderMap, key: &str) {
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert("Sec-WebSocket-Version", HeaderValue::from_static("13"));
    headers.insert("Sec-WebSocket-Key", HeaderValue::from_str(key).expect("base64"));
}

/// Checks the answer to the handshake as RFC 6455, section 4.1, requires.
fn check(headers: &HeaderMap, key: &str) -> Result<(), &'static str> {
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accept = STANDARD.encode(Sha1::digest(format!("{key}{ACCEPT_SALT}")));
    let upgrades = |token: &str| token.trim().eq_ignore_ascii_case("upgrade");
    if !value("Upgrade").eq_ignore_ascii_case("websocket") || !value("Connection").split(',').any(upgrades) {
        Err("it switched to another protocol")
    } else if value("Sec-WebSocket-Accept") != accept {
        Err("its Sec-WebSocket-Accept is wrong")
    } else if headers.contains_key("Sec-WebSocket-Extensions") || headers.contains_key("Sec-WebSocket-Protocol") {
        Err("it chose an extension or subprotocol that was not offered")
    } else {
        Ok(())
    }
}

/// Writes until the close, a broken connection or the end of the session; the reader reports why.
async fn write_all(mut writer: Writer, mut outgoing: mpsc::Receiver<Outgoing>, bounds: Bounds) {
    loop {
        let frame = match timeout(bounds.ping, outgoing.recv()).await {
            Ok(Some(Outgoing::Command(text))) => Frame::text(Payload::Owned(text.into_bytes())),
            Ok(Some(Outgoing::Pong(payload))) => Frame::pong(Payload::Owned(payload)),
            Ok(Some(Outgoing::Close(code))) => Frame::close(code, b""),
            Ok(None) => return,
            Err(_) => {
                let ping = Frame::new(true, OpCode::Ping, None, Payload::Borrowed(b""));
                if !send(&mut writer, ping, bounds.silence).await {
                    return;
                }
                Frame::pong(Payload::Borrowed(b""))
            }
        };
        let last = frame.opcode == OpCode::Close;
        if !send(&mut writer, frame, bounds.silence).await || last {
            return;
        }
    }
}

/// Returns whether the frame was sent. A server that does not accept it within `limit` gets nothing more; otherwise the
/// connection would outlive its session.
async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    writer: &mut WebSocket<S>,
    frame: Frame<'static>,
    limit: Duration,
) -> bool {
    let sent = async {
        writer.write_frame(frame).await?;
        writer.flush().await
    };
    matches!(timeout(limit, sent).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_stand_in_the_query_unless_they_are_too_long() {
        let specs = ["a.*.*".to_owned(), "b.*.*.N=In(1, 2)".to_owned()];
        assert_eq!(handshake_query(None, &[]), "");
        assert_eq!(
            handshake_query(Some("x:1"), &specs),
            "since=x%3A1&register=a.*.*&register=b.*.*.N%3DIn%281%2C+2%29"
        );
        assert_eq!(handshake_query(Some("x:1"), &vec!["machines.*.*".to_owned(); 1000]), "since=x%3A1");
    }

    #[test]
    fn the_handshake_is_checked() {
        // The example of RFC 6455, section 1.3.
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let headers = |rows: &[(&'static str, &'static str)]| -> HeaderMap {
            rows.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
        };
        let accept = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let good = [("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade"), accept];
        assert_eq!(check(&headers(&good), key), Ok(()));
        assert!(check(&headers(&good), "other").is_err());
        assert!(check(&headers(&good[..2]), key).is_err());
        assert!(check(&headers(&good[1..]), key).is_err());
        assert!(check(&headers(&[good[0], good[1], good[2], ("sec-websocket-extensions", "x")]), key).is_err());
    }
}
