//! Takes a connection out of HTTP together with its response: the head is decided here, and the new owner of the socket
//! writes it and the body.
//!
//! hyper releases a socket only after a 101 response. An event stream is an ordinary response (200, its body ends with
//! the connection), but a shard must write it, as it writes to a websocket. So the handler requests the socket. When
//! hyper starts to write the response, the socket goes to the requester, and what hyper writes is discarded.
//!
//! Contract: at most one handover per connection. The socket is only handed over if no earlier response is unsent, and
//! only for a response with status 200; hyper writes any other. Afterwards HTTP sees a connection that its client has
//! closed.

use std::fmt;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::{Response, StatusCode};
use jiff::fmt::rfc2822::DateTimePrinter;
use parking_lot::Mutex;

use crate::clock;
use crate::tls::Session;

/// A socket with its TLS session, if it has one.
pub(super) type Parts = (TcpStream, Option<Box<Session>>);

/// The callback that receives the socket and the head of the response.
type Take = Box<dyn FnOnce(Parts, Box<[u8]>) + Send>;

#[derive(Default)]
enum State {
    #[default]
    Nothing,
    Asked(Take),
    Ready(Take, Box<[u8]>),
}

/// Takes the socket out of hyper once it starts to write the response of a stream.
#[derive(Default)]
pub(super) struct Handover {
    /// Checked on every write.
    is_ready: AtomicBool,
    state: Mutex<State>,
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover").field("is_ready", &self.is_ready).finish_non_exhaustive()
    }
}

impl Handover {
    /// Requests the socket with the response to the current request.
    pub(super) fn ask(&self, take: impl FnOnce(Parts, Box<[u8]>) + Send + 'static) {
        *self.state.lock() = State::Asked(Box::new(take));
    }

    /// Decides by the response to the request. Returns whether the socket is handed over with it.
    pub(super) fn decide<B>(&self, answer: &Response<B>) -> bool {
        let mut state = self.state.lock();
        let State::Asked(take) = std::mem::take(&mut *state) else { return false };
        if answer.status() != StatusCode::OK {
            return false;
        }
        *state = State::Ready(take, head(answer));
        self.is_ready.store(true, Ordering::Release);
        true
    }

    /// Returns the callback that receives the socket now, with the head of the response.
    pub(super) fn take(&self) -> Option<(Take, Box<[u8]>)> {
        if !self.is_ready.swap(false, Ordering::AcqRel) {
            return None;
        }
        match std::mem::take(&mut *self.state.lock()) {
            State::Ready(take, head) => Some((take, head)),
            State::Nothing | State::Asked(_) => None,
        }
    }
}

/// Builds the head of a response whose body ends with the connection.
fn head<B>(answer: &Response<B>) -> Box<[u8]> {
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    let mut header = |name: &[u8], value: &[u8]| head.extend([name, b": ", value, b"\r\n"].concat());
    for (name, value) in answer.headers() {
        header(name.as_str().as_bytes(), value.as_bytes());
    }
    if let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&clock::now()) {
        header(b"date", date.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head.into()
}

#[cfg(test)]
mod tests {
    use hyper::header::{CONTENT_TYPE, HeaderValue};

    use super::*;

    fn answer(status: StatusCode) -> Response<()> {
        let mut answer = Response::new(());
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        answer
    }

    #[test]
    fn the_socket_goes_with_a_good_answer_and_only_once() {
        let handover = Handover::default();
        handover.decide(&answer(StatusCode::OK));
        assert!(handover.take().is_none(), "nobody has asked");
        handover.ask(|_, _| {});
        assert!(handover.take().is_none(), "there is no answer yet");
        handover.decide(&answer(StatusCode::FORBIDDEN));
        handover.decide(&answer(StatusCode::OK));
        assert!(handover.take().is_none(), "it was for another request");
        handover.ask(|_, _| {});
        handover.decide(&answer(StatusCode::OK));
        let (_, head) = handover.take().unwrap();
        let head = String::from_utf8(head.into_vec()).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ndate: "), "{head}");
        assert!(head.ends_with(" GMT\r\n\r\n"), "{head}");
        assert!(handover.take().is_none());
    }
}
