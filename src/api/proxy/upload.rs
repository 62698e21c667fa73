//! Forwards a client's body to the endpoint.
//!
//! Contract: only the current frame is in memory. A client that waits for `100 Continue` may proceed when the endpoint
//! says so, or when it has said nothing for a second, as old servers do (RFC 9110, section 10.1.1); if the endpoint
//! answers at once, the body is never requested. A client that sends nothing for `idle` although the endpoint would
//! accept it is given up, because it occupies a place at the endpoint. The [`Activity`] records whose turn it is; by
//! it an endpoint that does not read on is given up likewise.
//!
//! An endpoint may answer before it has read the whole body, and wait for the rest before it closes. Once that answer
//! has been sent, the rest is abandoned ([`Gate`]), which ends both connections. Until the body is dropped it holds the
//! request's slot: otherwise clients that finish no body could open any number of connections to the endpoint.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Request, StatusCode};
use prometheus::IntCounter;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::endpoint::http;
use crate::endpoint::http::{Activity, BodyError, Slot, StalledError, TooLongError, Turn};
use crate::transport::reading::Reading;

/// How long to wait for an endpoint that does not support `100 Continue`.
const TIMEOUT: Duration = Duration::from_secs(1);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The maximum length of a request's body in bytes; one of the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct BodyLimit(pub(in crate::api) usize);

/// The endpoint's reaction to a request whose body is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Continue,
    Answer,
}

/// Lets a body through. When it is dropped, what is left of the body is abandoned.
#[derive(Debug)]
pub(super) struct Gate {
    /// The endpoint's reaction, if the body is held back.
    said: Option<Arc<watch::Sender<Said>>>,
    _end: oneshot::Sender<Infallible>,
}

impl Gate {
    /// Records that the endpoint has answered, so a body that is still held back is not needed.
    pub(super) fn answered(&self) {
        let Some(said) = &self.said else { return };
        said.send_if_modified(|said| {
            let waits = *said == Said::Nothing;
            if waits {
                *said = Said::Answer;
            }
            waits
        });
    }
}

type Opening = Pin<Box<dyn Future<Output = bool> + Send>>;

/// The request body that is forwarded to the endpoint, one frame at a time.
pub(super) struct Upload {
    body: Incoming,
    /// Resolves when the body is abandoned.
    ended: oneshot::Receiver<Infallible>,
    _slot: Arc<Slot>,
    activity: Activity,
    /// Resolves to whether the body may be sent; `None` once it is.
    opening: Option<Opening>,
    idle: Duration,
    /// The timer for the next part.
    idle_timer: Pin<Box<Sleep>>,
    /// Whether the endpoint is waiting for the next part; the timer runs from then.
    awaited: bool,
    bytes: IntCounter,
    read: Option<Reading>,
    limit: Option<BodyLimit>,
    /// Number of bytes that may still arrive.
    left: usize,
}

impl Upload {
    /// Creates the body of a request that holds `slot`, and its gate. `activity` records its progress, `idle` is the
    /// time limit for each part, and `bytes` counts what is forwarded.
    pub(super) fn new(
        body: Incoming,
        slot: Arc<Slot>,
        activity: Activity,
        idle: Duration,
        bytes: IntCounter,
    ) -> (Self, Gate) {
        let (end, ended) = oneshot::channel();
        let idle_timer = Box::pin(sleep(idle));
        let (opening, read, limit, left) = (None, None, None, usize::MAX);
        let upload = Self {
            body,
            ended,
            _slot: slot,
            activity,
            opening,
            idle,
            idle_timer,
            awaited: false,
            bytes,
            read,
            limit,
            left,
        };
        (upload, Gate { said: None, _end: end })
    }

    /// Sets the maximum length, beyond which the body is abandoned.
    pub(super) fn within(mut self, limit: Option<BodyLimit>) -> Self {
        (self.limit, self.left) = (limit, limit.map_or(usize::MAX, |BodyLimit(bytes)| bytes));
        self
    }

    /// Counts a part against the limit.
    fn count(&mut self, part: &Frame<Bytes>) -> Result<(), TooLongError> {
        let length = part.data_ref().map_or(0, Bytes::len);
        let Some(BodyLimit(allowed)) = self.limit else { return Ok(()) };
        self.left = self.left.checked_sub(length).ok_or(TooLongError { allowed })?;
        Ok(())
    }

    /// Notifies `read` when the whole body has arrived.
    pub(super) fn noting(mut self, read: Option<Reading>) -> Self {
        self.read = read;
        self
    }

    /// Ready when the next part has been awaited for too long.
    fn stalled(&mut self, cx: &mut Context<'_>) -> Poll<StalledError> {
        if !self.awaited {
            self.awaited = true;
            self.activity.pass(Turn::Client);
            self.idle_timer.as_mut().reset(Instant::now() + self.idle);
        }
        self.idle_timer.as_mut().poll(cx).map(|()| StalledError { after: self.idle })
    }

    /// Records that a part is sent to the endpoint, or that there are no more.
    fn moved(&self, part: Option<&Frame<Bytes>>) {
        self.bytes.inc_by(part.and_then(Frame::data_ref).map_or(0, Bytes::len) as u64);
        self.activity.touch();
        let is_last = part.is_none() || self.body.is_end_stream();
        if let Some(read) = self.read.as_ref().filter(|_| is_last) {
            read.finish();
        }
        self.activity.pass(if is_last { Turn::Answer } else { Turn::Endpoint });
    }

    /// Lets `gate` hold the body back until `100 Continue` arrives in answer to `request`.
    pub(super) fn wait<B>(&mut self, request: &mut Request<B>, gate: &mut Gate) {
        let (sender, told) = watch::channel(Said::Nothing);
        let sender = Arc::new(sender);
        let weak = Arc::downgrade(&sender);
        hyper::ext::on_informational(request, move |answer| {
            if answer.status() == StatusCode::CONTINUE
                && let Some(sender) = Weak::upgrade(&weak)
            {
                sender.send_replace(Said::Continue);
            }
        });
        self.opening = Some(Box::pin(opens(told)));
        gate.said = Some(sender);
    }
}

/// Resolves to whether the body may be sent.
async fn opens(mut told: watch::Receiver<Said>) -> bool {
    let said = match timeout(TIMEOUT, told.wait_for(|said| *said != Said::Nothing)).await {
        Err(_) => return true,
        Ok(said) => said.map_or(Said::Answer, |said| *said),
    };
    if said == Said::Answer {
        // An error now would close the connection while the answer arrives, so wait until that is complete.
        drop(told.wait_for(|_| false).await);
    }
    said == Said::Continue
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if Pin::new(&mut self.ended).poll(cx).is_ready() {
            return Poll::Ready(Some(Err("the answer is complete".into())));
        }
        if let Some(opening) = &mut self.opening {
            let may_go = ready!(opening.as_mut().poll(cx));
            self.opening = None;
            if !may_go {
                return Poll::Ready(Some(Err("the endpoint does not accept the body".into())));
            }
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.read.iter().for_each(|read| read.set_waits(polled.is_pending()));
        let Poll::Ready(frame) = polled else {
            return self.stalled(cx).map(|stalled| Some(Err(stalled.into())));
        };
        self.awaited = false;
        let frame = match frame.transpose() {
            Ok(frame) => frame,
            Err(error) => {
                tracing::debug!(%error, "cannot read the body of a client's request");
                return Poll::Ready(Some(Err(BodyError.into())));
            }
        };
        if let Some(Err(error)) = frame.as_ref().map(|frame| self.count(frame)) {
            return Poll::Ready(Some(Err(error.into())));
        }
        self.moved(frame.as_ref());
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl From<Upload> for http::Body {
    fn from(upload: Upload) -> Self {
        Self::new(upload)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Empty};
    use hyper::Response;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use parking_lot::Mutex;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::super::vouch::tests::nowhere;
    use super::*;
    use crate::endpoint::http::Asker;

    const IDLE: Duration = Duration::from_secs(30);

    /// Begins a request with a body of this length. Returns the client's end, and the body.
    async fn begin(length: usize) -> (DuplexStream, Incoming) {
        let (mut client, server) = duplex(1 << 10);
        let (found, body) = oneshot::channel();
        let found = Mutex::new(Some(found));
        let service = service_fn(move |request: Request<Incoming>| {
            let found = found.lock().take().expect("there is one request");
            found.send(request.into_body()).expect("it is waited for");
            std::future::pending::<Result<Response<Empty<Bytes>>, Infallible>>()
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(server), service));
        let head = format!("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        (client, body.await.unwrap())
    }

    /// The endpoint's time to read a part begins when it gets it.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_its_time_does_not_use_up_that_of_the_endpoint() {
        let (mut client, body) = begin(12).await;
        let (activity, bytes) = (Activity::default(), IntCounter::new("up", "bytes").unwrap());
        let slot = Arc::new(nowhere().slot(Asker::Hydrant).await.unwrap());
        let (mut upload, _gate) = Upload::new(body, slot, activity.clone(), IDLE, bytes.clone());
        for part in ["part", "next"] {
            assert!(timeout(IDLE / 10 * 8, upload.frame()).await.is_err(), "it waits for {part}");
            assert!(timeout(IDLE / 10, activity.overdue(IDLE, IDLE)).await.is_err(), "the client's turn");
            client.write_all(part.as_bytes()).await.unwrap();
            assert_eq!(upload.frame().await.unwrap().unwrap().into_data().unwrap(), part);
            let overdue = activity.overdue(IDLE, IDLE);
            assert!(timeout(IDLE / 10 * 9, overdue).await.is_err(), "it has just got {part}");
        }
        assert_eq!(activity.overdue(IDLE, IDLE).await, Turn::Endpoint);
        assert_eq!(bytes.get(), 8);
    }
}
