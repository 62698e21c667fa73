//! One websocket: registrations out, events in.
//!
//! Two tasks own the socket, one a direction. Reading has a task of its own because fastwebsockets loses data when a read is
//! given up halfway, so it must never stand in a `select!`; it hands messages over in a channel that is bounded by number and
//! bytes, and a consumer that is slow makes it stop reading, which the server notices by its own bounds. Writing has one so that
//! a sign of life is given whatever the consumer does: while nothing is read no ping is answered, so a pong goes out with
//! each of our own pings, which keeps servers content that count pongs only (RFC 6455, section 5.5.3, allows it).
//!
//! The server answers every command once and in order (`docs/protocol.md`, section 2), so answers need no names: the
//! oldest command that is not answered yet is the one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket, WebSocketError, handshake};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, Empty, Join, ReadHalf, Sink, WriteHalf, empty, join, sink, split};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::endpoint::Target;
use super::error::{ClientError, printable};
use super::http::{Http, broken, refusal};
use crate::json;

/// Messages that wait for the consumer. What waits longer is better kept, and counted, at the server.
const WAITING: usize = 1024;
/// Bytes of them; one message always fits.
const WAITING_BYTES: u32 = 1 << 20;
/// So much is read from the socket at once.
const READ_BYTES: usize = 64 << 10;
/// Frames to the server that wait to be written.
const OUTGOING: usize = 64;
/// The peer's answer to our close is waited for so long.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);
/// What RFC 6455 appends to the key.
const ACCEPT_SALT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

type Socket = TokioIo<Upgraded>;
type Reader = WebSocket<Join<BufReader<ReadHalf<Socket>>, Sink>>;
type Writer = WebSocket<Join<Empty, WriteHalf<Socket>>>;

/// Bounds of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Longest message that is taken, in bytes.
    pub message_bytes: usize,
    /// A sign of life is given after so long without one.
    pub ping: Duration,
    /// A server that is silent for so long is gone, though the connection did not say so.
    pub silence: Duration,
}

impl Default for Bounds {
    /// Well within a server's 60 seconds; three pings without an answer are an end.
    fn default() -> Self {
        Self { message_bytes: 64 << 20, ping: Duration::from_secs(25), silence: Duration::from_secs(80) }
    }
}

/// What a session receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// An event, as the server wrote it.
    Event(String),
    /// The server took this registration; events that it matches follow.
    Registered(String),
}

enum Outgoing {
    Command(String),
    Pong(Vec<u8>),
    Close,
}

/// An open websocket. Dropping it cuts the connection; [`Session::close`] ends it in good order.
#[derive(Debug)]
pub struct Session {
    incoming: mpsc::Receiver<Result<Message, ClientError>>,
    outgoing: mpsc::Sender<Outgoing>,
    unanswered: VecDeque<String>,
    heard: Arc<Heard>,
    headers: HeaderMap,
    reader: JoinHandle<()>,
}

/// A text with its share of [`WAITING_BYTES`], which is free again when the message is taken.
#[derive(Debug)]
struct Message {
    text: String,
    _room: OwnedSemaphorePermit,
}

/// When the server was last heard of.
#[derive(Debug)]
struct Heard {
    opened: Instant,
    /// Microseconds since then.
    last: AtomicU64,
}

impl Heard {
    fn now(&self) {
        let micros = u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(micros, Ordering::Relaxed);
    }
}

impl Session {
    /// Connects and upgrades.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] with the server's message if the credentials are not good.
    pub async fn open(target: &Target, bounds: Bounds) -> Result<Self, ClientError> {
        let mut answer = upgrade(target).await?;
        let headers = std::mem::take(answer.headers_mut());
        let socket = hyper::upgrade::on(answer).await.map_err(|e| broken(target, &e))?;
        let (read, write) = split(TokioIo::new(socket));
        let (incoming_tx, incoming) = mpsc::channel(WAITING);
        let (outgoing, outgoing_rx) = mpsc::channel(OUTGOING);
        let heard = Arc::new(Heard { opened: Instant::now(), last: AtomicU64::new(0) });
        let writer = WebSocket::after_handshake(join(empty(), write), Role::Client);
        tokio::spawn(write_all(writer, outgoing_rx, bounds.ping));
        let reading = Reading {
            socket: reader(read, bounds.message_bytes),
            target: target.clone(),
            bounds,
            heard: Arc::clone(&heard),
            room: Arc::new(Semaphore::new(WAITING_BYTES as usize)),
            parts: None,
        };
        let reader = tokio::spawn(reading.run(incoming_tx, outgoing.clone()));
        Ok(Self { incoming, outgoing, unanswered: VecDeque::new(), heard, headers, reader })
    }

    /// A header of the answer to the upgrade.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long ago the server was last heard of: a frame of any kind. While received events are not taken nothing is heard.
    pub fn silent_for(&self) -> Duration {
        let last = Duration::from_micros(self.heard.last.load(Ordering::Relaxed));
        self.heard.opened.elapsed().saturating_sub(last)
    }

    /// Sends a registration. Its answer comes with [`Session::receive`].
    pub async fn register(&mut self, spec: &str) {
        self.unanswered.push_back(spec.to_owned());
        // If the writer is gone, so is the connection, and the next receive tells why.
        let _ = self.outgoing.send(Outgoing::Command(format!("register {spec}"))).await;
    }

    /// The next event or answer.
    ///
    /// # Errors
    /// [`ClientError::Registration`] if a registration was refused, [`ClientError::Closed`] or
    /// [`ClientError::Broken`] at the end. After an error there is nothing more to receive.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is given up.
    pub async fn receive(&mut self) -> Result<Received, ClientError> {
        loop {
            let message = self.incoming.recv().await;
            if let Some(received) = self.sort(message.unwrap_or_else(|| Err(gone()))?)? {
                return Ok(received);
            }
        }
    }

    /// What is already there, so that it can be written out together.
    ///
    /// # Errors
    /// As [`Session::receive`].
    pub fn receive_ready(&mut self) -> Result<Option<Received>, ClientError> {
        while let Ok(message) = self.incoming.try_recv() {
            if let Some(received) = self.sort(message?)? {
                return Ok(Some(received));
            }
        }
        Ok(None)
    }

    /// Tells events from answers; answers to nothing are dropped.
    fn sort(&mut self, message: Message) -> Result<Option<Received>, ClientError> {
        let text = message.text;
        if field(&text, "Type").as_deref() != Some("websocket") {
            return Ok(Some(Received::Event(text)));
        }
        let Some(spec) = self.unanswered.pop_front() else { return Ok(None) };
        if field(&text, "Action").as_deref() != Some("error") {
            return Ok(Some(Received::Registered(spec)));
        }
        Err(ClientError::Registration { spec, message: complaint(&text) })
    }

    /// Closes with code 1000 and waits a little for the server to agree.
    pub async fn close(mut self) {
        let agreed = async {
            let _ = self.outgoing.send(Outgoing::Close).await;
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
    ClientError::Closed { code: 1006, reason: "nothing more to receive".to_owned() }
}

/// A text field of an event.
fn field(text: &str, name: &str) -> Option<String> {
    let member = json::members(text).find(|member| member.name() == name)?;
    json::as_string(member.value).map(std::borrow::Cow::into_owned)
}

/// The messages of an answer with Action `error`.
fn complaint(text: &str) -> String {
    let member = |text, name| json::members(text).find(|member| member.name() == name);
    let messages = member(text, "Object").and_then(|object| member(object.value, "Messages"));
    let texts: Vec<String> = messages
        .map(|messages| json::elements(messages.value).map(|text| printable(&json::unquote(text))).collect())
        .unwrap_or_default();
    if texts.is_empty() { "no reason given".to_owned() } else { texts.join("; ") }
}

async fn upgrade(target: &Target) -> Result<Response<Incoming>, ClientError> {
    let mut http = Http::open(target).await?;
    let mut request = http.request(Method::GET, "/api/v3/ws", Bytes::new());
    let key = handshake::generate_key();
    let headers = request.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert("Sec-WebSocket-Version", HeaderValue::from_static("13"));
    headers.insert("Sec-WebSocket-Key", HeaderValue::from_str(&key).expect("base64"));
    let answer = http.send(request).await?;
    if answer.status().as_u16() >= 400 {
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

/// What RFC 6455, section 4.1, wants a client to check.
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

/// The reading side. It writes nothing by itself: pongs and closes are the writer's.
fn reader(read: ReadHalf<Socket>, message_bytes: usize) -> Reader {
    let read = BufReader::with_capacity(READ_BYTES, read);
    let mut socket = WebSocket::after_handshake(join(read, sink()), Role::Client);
    socket.set_auto_pong(false);
    socket.set_auto_close(false);
    // The bound is the first length that is refused.
    socket.set_max_message_size(message_bytes.saturating_add(1));
    socket
}

/// The task that reads.
struct Reading {
    socket: Reader,
    target: Target,
    bounds: Bounds,
    heard: Arc<Heard>,
    room: Arc<Semaphore>,
    /// The parts so far of a message that comes in parts. Joined here, because fastwebsockets' own joiner has no bound.
    parts: Option<Vec<u8>>,
}

impl Reading {
    async fn run(mut self, incoming: mpsc::Sender<Result<Message, ClientError>>, outgoing: mpsc::Sender<Outgoing>) {
        let end = loop {
            match self.next(&outgoing).await {
                Ok(None) => {}
                Ok(Some(text)) => {
                    let Some(message) = self.wait_for_room(text).await else { return };
                    if incoming.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
                Err(end) => break end,
            }
        };
        if let ClientError::Closed { .. } = end {
            let _ = outgoing.try_send(Outgoing::Close);
        }
        let _ = incoming.send(Err(end)).await;
    }

    async fn wait_for_room(&mut self, text: String) -> Option<Message> {
        let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX).min(WAITING_BYTES);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.ok()?;
        Some(Message { text, _room: room })
    }

    /// The next frame; the text of a message if it ends one.
    async fn next(&mut self, outgoing: &mpsc::Sender<Outgoing>) -> Result<Option<String>, ClientError> {
        let frame = self.frame().await?;
        self.heard.now();
        match frame.opcode {
            OpCode::Text if frame.fin && self.parts.is_none() => self.text(frame.payload.to_vec()).map(Some),
            OpCode::Text | OpCode::Continuation => self.join(&frame),
            OpCode::Close => Err(closed(&frame.payload)),
            OpCode::Ping => {
                // If the writer is that far behind, an older pong is still to be sent, and one will do.
                let _ = outgoing.try_send(Outgoing::Pong(frame.payload.to_vec()));
                Ok(None)
            }
            OpCode::Binary | OpCode::Pong => Ok(None),
        }
    }

    async fn frame(&mut self) -> Result<Frame<'static>, ClientError> {
        // Giving up a read halfway is harmless here: the connection is given up with it.
        match timeout(self.bounds.silence, self.socket.read_frame()).await {
            Ok(Ok(frame)) => Ok(frame),
            Ok(Err(WebSocketError::UnexpectedEOF)) => Err(self.broken("it ended without a close")),
            Ok(Err(WebSocketError::FrameTooLarge)) => Err(self.too_long()),
            Ok(Err(e)) => Err(broken(&self.target, &e)),
            Err(_) => {
                let endpoint = self.target.endpoint.to_string();
                Err(ClientError::Silent { endpoint, after: self.bounds.silence })
            }
        }
    }

    fn join(&mut self, frame: &Frame<'static>) -> Result<Option<String>, ClientError> {
        if (frame.opcode == OpCode::Text) != self.parts.is_none() {
            return Err(self.broken("the parts of a message are out of order"));
        }
        let mut parts = self.parts.take().unwrap_or_default();
        if parts.len() + frame.payload.len() > self.bounds.message_bytes {
            return Err(self.too_long());
        }
        parts.extend_from_slice(&frame.payload);
        if frame.fin {
            return self.text(parts).map(Some);
        }
        self.parts = Some(parts);
        Ok(None)
    }

    fn text(&self, bytes: Vec<u8>) -> Result<String, ClientError> {
        String::from_utf8(bytes).map_err(|e| broken(&self.target, &e))
    }

    fn too_long(&self) -> ClientError {
        self.broken(&format!("a message is longer than {} bytes", self.bounds.message_bytes))
    }

    fn broken(&self, reason: &str) -> ClientError {
        ClientError::Broken { endpoint: self.target.endpoint.to_string(), reason: reason.to_owned() }
    }
}

fn closed(payload: &[u8]) -> ClientError {
    const NONE_GIVEN: u16 = 1005;
    match payload {
        [high, low, reason @ ..] => ClientError::Closed {
            code: u16::from_be_bytes([*high, *low]),
            reason: printable(&String::from_utf8_lossy(reason)),
        },
        _ => ClientError::Closed { code: NONE_GIVEN, reason: String::new() },
    }
}

/// Writes until the close, a broken connection or the end of the session; the reader tells why.
async fn write_all(mut writer: Writer, mut outgoing: mpsc::Receiver<Outgoing>, ping: Duration) {
    loop {
        let frame = match timeout(ping, outgoing.recv()).await {
            Ok(Some(Outgoing::Command(text))) => Frame::text(Payload::Owned(text.into_bytes())),
            Ok(Some(Outgoing::Pong(payload))) => Frame::pong(Payload::Owned(payload)),
            Ok(Some(Outgoing::Close)) => Frame::close(1000, b""),
            Ok(None) => return,
            Err(_) => {
                if writer.write_frame(Frame::new(true, OpCode::Ping, None, Payload::Borrowed(b""))).await.is_err() {
                    return;
                }
                Frame::pong(Payload::Borrowed(b""))
            }
        };
        let last = frame.opcode == OpCode::Close;
        if send(&mut writer, frame).await.is_err() || last {
            return;
        }
    }
}

async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    writer: &mut WebSocket<S>,
    frame: Frame<'static>,
) -> Result<(), WebSocketError> {
    writer.write_frame(frame).await?;
    writer.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_are_read_with_and_without_a_reason() {
        let shown = |payload: &[u8]| closed(payload).to_string();
        assert_eq!(shown(b"\x03\xf5slow"), "the server closed the connection: 1013 (slow)");
        assert_eq!(shown(b"\x03\xe9"), "the server closed the connection: 1001");
        assert_eq!(shown(b""), "the server closed the connection: 1005");
        assert!(closed(b"\x03\xf0").is_final());
        assert!(!closed(b"\x03\xf5").is_final());
    }

    #[test]
    fn refused_registrations_keep_the_servers_words() {
        let answer = r#"{"Type":"websocket","Action":"error","Object":{"Messages":["bad filter at 3","see\u0007"]}}"#;
        assert_eq!(complaint(answer), "bad filter at 3; see\u{fffd}");
        assert_eq!(complaint("{}"), "no reason given");
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
