//! A small server that speaks enough of the protocol to be measured, and that can be told to do something wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{SinkExt as _, StreamExt as _};
use hydrant::event::{Draft, Event};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::broadcast;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// What the server does wrong, each only to the first client, or to the publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Event 5 never comes.
    Lose,
    /// Event 5 comes twice.
    Repeat,
    /// Event 6 comes before event 5.
    Swap,
    /// A byte of event 5 is another one.
    Harm,
    /// An event comes that was not asked for.
    Stray,
    /// The connection ends at event 5.
    Close,
    /// Registrations are errors.
    Refuse,
    /// Every other POST is told to come again.
    Busy,
    /// Events are not allowed.
    Forbid,
}

/// The server; it ends when this is dropped.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    _runtime: Runtime,
}

#[derive(Clone)]
struct State {
    events: broadcast::Sender<Arc<Event>>,
    fault: Fault,
}

impl Fake {
    pub(crate) fn start(fault: Fault) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { events: broadcast::channel(8_192).0, fault };
        runtime.spawn(async move {
            let websockets = Arc::new(AtomicUsize::new(0));
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, state.clone(), Arc::clone(&websockets)));
            }
        });
        Self { address, _runtime: runtime }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Only the first websocket gets what is wrong.
async fn serve(socket: TcpStream, state: State, websockets: Arc<AtomicUsize>) {
    let mut start = [0; 14];
    let is_websocket = socket.peek(&mut start).await.is_ok() && start.starts_with(b"GET /api/v3/ws");
    if is_websocket {
        let is_first = websockets.fetch_add(1, Ordering::SeqCst) == 0;
        let fault = if is_first { state.fault } else { Fault::None };
        websocket(socket, State { fault, ..state }).await;
    } else {
        http(socket, state).await;
    }
}

async fn websocket(socket: TcpStream, state: State) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let mut socket = tokio_tungstenite::accept_async(socket).await.ok()?;
    let mut events = state.events.subscribe();
    let mut specs = Vec::new();
    let (mut held, mut number, mut has_strayed) = (None, 0, state.fault != Fault::Stray);
    loop {
        tokio::select! {
            message = socket.next() => {
                let Message::Text(command) = message?.ok()? else { return None };
                let spec = command.strip_prefix("register ")?.to_owned();
                socket.send(Message::text(answer(&spec, state.fault))).await.ok()?;
                specs.push(spec);
            }
            event = events.recv() => match event {
                Ok(event) if specs.iter().any(|spec| is_match(spec, &event)) => {
                    let fault = [state.fault, Fault::None][usize::from(number != 5)];
                    deliver(&mut socket, &event, fault, &mut held).await?;
                    number += 1;
                }
                Ok(event) if !has_strayed && !specs.is_empty() => {
                    has_strayed = true;
                    socket.send(Message::text(event.json())).await.ok()?;
                }
                Ok(_) => {}
                Err(_) => {
                    let frame = CloseFrame { code: CloseCode::Again, reason: "slow consumer".into() };
                    socket.close(Some(frame)).await.ok()?;
                    while socket.next().await?.is_ok() {}
                }
            }
        }
    }
}

fn answer(spec: &str, fault: Fault) -> String {
    let verb = if fault == Fault::Refuse { "error" } else { "register" };
    let start = format!(r#"{{"Time":"2026-01-01T00:00:00Z","Type":"websocket","Action":"{verb}","Key":"{spec}""#);
    format!(r#"{start},"Principal":"","Object":null,"Original":null}}"#)
}

/// Registrations without lists and filters.
fn is_match(spec: &str, event: &Event) -> bool {
    let parts: Vec<&str> = spec.splitn(3, '.').collect();
    let [kind, action, key] = parts[..] else { return false };
    let is = |pattern: &str, text: &str| pattern == "*" || pattern == text;
    let subject = if kind == "machine_jobs" {
        is(action, event.action()).then(|| event.machine()).flatten()
    } else {
        (is(kind, event.kind()) && is(action, event.action())).then(|| event.key())
    };
    subject.is_some_and(|subject| is(key, subject))
}

async fn deliver(
    socket: &mut WebSocketStream<TcpStream>,
    event: &Event,
    fault: Fault,
    held: &mut Option<String>,
) -> Option<()> {
    let mut text = event.json().to_owned();
    match fault {
        Fault::Lose => return Some(()),
        Fault::Repeat => socket.send(Message::text(text.clone())).await.ok()?,
        Fault::Swap => {
            *held = Some(text);
            return Some(());
        }
        Fault::Harm => text = text.replacen(r#""Object":{""#, r#""Object":{"x"#, 1),
        Fault::Close => return None,
        _ => {}
    }
    socket.send(Message::text(text)).await.ok()?;
    if let Some(late) = held.take() {
        socket.send(Message::text(late)).await.ok()?;
    }
    Some(())
}

async fn http(mut socket: TcpStream, state: State) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let mut bytes = Vec::new();
    let mut posts = 0_u32;
    loop {
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            (socket.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes.drain(..end);
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.trim().parse().ok());
        let length: usize = length.unwrap_or(0);
        while bytes.len() < length {
            (socket.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
        }
        let body: Vec<u8> = bytes.drain(..length).collect();
        posts += 1;
        let reply = match state.fault {
            _ if !head.starts_with("POST /api/v3/events") => "404 Not Found\r\nContent-Length: 0\r\n\r\n",
            Fault::Busy if posts % 2 == 1 => "429 Too Many Requests\r\nContent-Length: 0\r\nRetry-After: 0\r\n\r\n",
            Fault::Forbid => "403 Forbidden\r\nContent-Length: 9\r\n\r\nnot today",
            _ => {
                for line in std::str::from_utf8(&body).ok()?.lines() {
                    let event = Draft::read(line).ok()?.seal(hydrant::clock::now());
                    // Without a subscriber an event is for nobody.
                    let _ = state.events.send(Arc::new(event));
                }
                "204 No Content\r\nContent-Type: application/json\r\n\r\n"
            }
        };
        socket.write_all(format!("HTTP/1.1 {reply}").as_bytes()).await.ok()?;
    }
}
