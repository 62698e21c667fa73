//! A door that sends every message back, made of the parts that hydrant serves websockets with: the listener, the
//! handshake, the frame validator, the decoder, the inflater and deflater, and an outbox. Only tests have it: what a
//! shard does with messages is left out, and nothing else.

use std::collections::VecDeque;
use std::future::ready;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Either;
use hydrant::fanout::outbox::gather::Gathered;
use hydrant::fanout::outbox::{ConnId, Fanout, Frame};
use hydrant::metrics::Metrics;
use hydrant::overflow::Overflow;
use hydrant::protocol::Close;
use hydrant::stats::OutboxLimits;
use hydrant::transport::caller::Caller;
use hydrant::transport::listener::{Answering, Handler, ListenLimits, Listener};
use hydrant::transport::socket::Socket;
use hydrant::transport::upgrade;
use hydrant::websocket::decode::{DecodeError, Message, decode};
use hydrant::websocket::deflate::{Deflater, Inflater};
use hydrant::websocket::frame::{self, Encoding, HEADER_ROOM, text_header};
use hydrant::websocket::validator::{FrameError, FrameValidator};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// Bytes of a message. Autobahn sends up to 16 MiB.
const LIMIT: usize = 32 << 20;

/// Bytes of one write.
const WRITE_BYTES: usize = 256 << 10;

/// How long a client may take to answer a close.
const CLOSE: Duration = Duration::from_secs(5);

/// Binary messages differ from texts by one bit of the first byte.
const TEXT_TO_BINARY: u8 = 0x03;

/// Serves until the test ends, at this address.
pub(crate) fn open() -> SocketAddr {
    let second = Duration::from_secs(1);
    let limits = ListenLimits {
        handshake: 5 * second,
        header: 5 * second,
        stalled: 30 * second,
        pending: 1000,
        waiting: 0,
        descriptors: 4096,
        send_buffer: 0,
    };
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), limits, Arc::new(Metrics::new())).unwrap();
    let address = listener.address().unwrap();
    tokio::spawn(async move {
        let (_open, stop) = watch::channel(false);
        listener.serve(Arc::new(Echo), stop).await;
    });
    address
}

struct Echo;

impl Handler for Echo {
    fn handle<'a>(&'a self, mut request: Request<Incoming>, caller: &'a Caller) -> Answering<'a> {
        caller.trust();
        let talk = |socket: Socket, early: Bytes, encoding| async move {
            Box::pin(Talk::new(encoding).run(socket, &early)).await;
        };
        let answer = upgrade::check(&request).and_then(|()| upgrade::accept(&mut request, true, talk));
        let answer = answer.unwrap_or_else(|error| {
            let mut answer = Response::new(Either::Left(Bytes::from(error.to_string()).into()));
            *answer.status_mut() = StatusCode::BAD_REQUEST;
            answer
        });
        Box::pin(ready(answer))
    }
}

/// One websocket.
struct Talk {
    validator: FrameValidator,
    inflater: Inflater,
    deflater: Deflater,
    encoding: Encoding,
    outboxes: Fanout,
    conn: ConnId,
}

impl Talk {
    fn new(encoding: Encoding) -> Self {
        let mut outboxes = Fanout::new(OutboxLimits { bytes: 4 * LIMIT, events: 65_536 });
        let conn = outboxes.open(Overflow::Disconnect);
        Self {
            validator: FrameValidator::new(encoding),
            inflater: Inflater::default(),
            deflater: Deflater::new(1),
            encoding,
            outboxes,
            conn,
        }
    }

    async fn run(mut self, mut socket: Socket, early: &[u8]) {
        self.hear(early);
        let mut scratch = vec![0; 65_536];
        // Whoever goes without a close is gone.
        while self.write(&mut socket).await.is_some() && !self.outboxes.is_closing(self.conn) {
            match socket.read(&mut scratch).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => self.hear(&scratch[..bytes]),
            }
        }
        let _ = socket.shutdown().await;
        let _ =
            tokio::time::timeout(CLOSE, async { while socket.read(&mut scratch).await.is_ok_and(|n| n > 0) {} }).await;
    }

    fn hear(&mut self, bytes: &[u8]) {
        let mut heard = VecDeque::new();
        let inflater = &mut self.inflater;
        let result = self.validator.feed(bytes, LIMIT, |unit| {
            let message = decode(unit, LIMIT, inflater);
            heard.push_back(match message {
                Ok(Message::Long(message)) => message.decode(inflater),
                message => message,
            });
            ControlFlow::Continue(())
        });
        heard.into_iter().for_each(|message| self.on_message(message));
        match result {
            Ok(_) => {}
            Err(FrameError::TooBig) => self.close(Close::TooBig),
            Err(_) => self.close(Close::Protocol),
        }
    }

    fn on_message(&mut self, message: Result<Message, DecodeError>) {
        match message {
            Ok(Message::Text(text)) => self.send(text.as_bytes(), 0),
            Ok(Message::Binary(payload)) => self.send(&payload, TEXT_TO_BINARY),
            Ok(Message::Ping(payload)) => self.outboxes.offer(self.conn, Frame::Control(frame::pong(&payload))),
            Ok(Message::Pong) => {}
            Ok(Message::Close(code)) => self.close(Close::Normal(code.unwrap_or(1000))),
            Ok(Message::Long(_)) => unreachable!("decoded when it was heard"),
            Err(DecodeError::BadUtf8) => self.close(Close::BadUtf8),
            Err(DecodeError::Corrupt) => self.close(Close::BadDeflate),
            Err(DecodeError::TooBig) => self.close(Close::TooBig),
            Err(DecodeError::Malformed) => self.close(Close::Protocol),
        }
    }

    fn send(&mut self, payload: &[u8], kind: u8) {
        let deflated = (self.encoding == Encoding::Deflate).then(|| self.deflater.frame(payload)).flatten();
        let mut frame = deflated.unwrap_or_else(|| {
            let mut header = [0; HEADER_ROOM];
            let length = text_header(payload.len(), Encoding::Plain, &mut header);
            [&header[..length], payload].concat().into()
        });
        frame[0] ^= kind;
        self.outboxes.send(self.conn, Frame::Control(frame));
    }

    fn close(&mut self, close: Close) {
        let frame = frame::close(close.code(), &close.reason());
        self.outboxes.finish(self.conn, Frame::Control(frame), None);
    }

    /// Writes all that waits; nothing if the client does not take it.
    async fn write(&mut self, socket: &mut Socket) -> Option<()> {
        loop {
            let mut gathered = Gathered::new();
            self.outboxes.gather(self.conn, WRITE_BYTES, &mut gathered);
            if gathered.is_empty() {
                return Some(());
            }
            let written = socket.write_vectored(&gathered).await.ok().filter(|written| *written > 0)?;
            drop(gathered);
            self.outboxes.advance(self.conn, written, 0);
            self.outboxes.end_round(0);
        }
    }
}
