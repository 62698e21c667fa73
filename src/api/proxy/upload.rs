//! Forwards a client's body to the endpoint.
//!
//! Contract: only the current frame is in memory. A client that waits for `100 Continue` may proceed when the endpoint
//! says so, or when it has said nothing for a second, as old servers do (RFC 9110, section 10.1.1); if the endpoint
//! answers at once, the body is never requested. A client that sends nothing for `idle` although the endpoint would
//! accept it is given up, because it occupies a place at the endpoint. The [`Activity`] records whose turn it is; by
//! it an endpoint that does not read on is given up likewise.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Request, StatusCode};
use prometheus::IntCounter;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::endpoint::http;
use crate::endpoint::http::{Activity, BodyError, StalledError, TooLongError, Turn};
use crate::transport::reading::Reading;

/// How long an endpoint that does not know `100 Continue` is waited for.
const TIMEOUT: Duration = Duration::from_secs(1);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long the body of a request may be, in bytes: stands among its extensions.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct BodyLimit(pub(in crate::api) usize);

/// What the endpoint has said about a body that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Continue,
    Answer,
}

/// Keeps a body back. Without it, or when it is dropped, a body that still waits is given up.
#[derive(Debug)]
pub(super) struct Gate(Arc<watch::Sender<Said>>);

impl Gate {
    /// The endpoint has answered: what waits still need not come any more.
    pub(super) fn answered(&self) {
        self.0.send_if_modified(|said| {
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
    activity: Activity,
    /// Whether the body may go; nothing when it does.
    opening: Option<Opening>,
    idle: Duration,
    /// The end of the wait for the next part.
    idle_timer: Pin<Box<Sleep>>,
    /// Whether the endpoint waits for the next part; the wait is counted from then.
    awaited: bool,
    bytes: IntCounter,
    read: Option<Reading>,
    limit: Option<BodyLimit>,
    /// Bytes that may still come.
    left: usize,
}

impl Upload {
    /// The body of a request that is on its way already, with what tells of its movements, how long a part may take,
    /// and what counts its bytes.
    pub(super) fn new(body: Incoming, activity: Activity, idle: Duration, bytes: IntCounter) -> Self {
        let idle_timer = Box::pin(sleep(idle));
        let (opening, read, limit, left) = (None, None, None, usize::MAX);
        Self { body, activity, opening, idle, idle_timer, awaited: false, bytes, read, limit, left }
    }

    /// Gives up a body that is longer.
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

    /// Tells `read` when all of it has come.
    pub(super) fn noting(mut self, read: Option<Reading>) -> Self {
        self.read = read;
        self
    }

    /// Ready when the next part has been waited for too long.
    fn stalled(&mut self, cx: &mut Context<'_>) -> Poll<StalledError> {
        if !self.awaited {
            self.awaited = true;
            self.activity.pass(Turn::Client);
            self.idle_timer.as_mut().reset(Instant::now() + self.idle);
        }
        self.idle_timer.as_mut().poll(cx).map(|()| StalledError { after: self.idle })
    }

    /// A part goes to the endpoint, or there is none any more.
    fn moved(&self, part: Option<&Frame<Bytes>>) {
        self.bytes.inc_by(part.and_then(Frame::data_ref).map_or(0, Bytes::len) as u64);
        self.activity.touch();
        let is_last = part.is_none() || self.body.is_end_stream();
        if let Some(read) = self.read.as_ref().filter(|_| is_last) {
            read.finish();
        }
        self.activity.pass(if is_last { Turn::Answer } else { Turn::Endpoint });
    }

    /// Waits for `100 Continue` in the answer to `request`.
    pub(super) fn wait<B>(&mut self, request: &mut Request<B>) -> Gate {
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
        Gate(sender)
    }
}

/// Whether the body may go, once that is known.
async fn opens(mut told: watch::Receiver<Said>) -> bool {
    let said = match timeout(TIMEOUT, told.wait_for(|said| *said != Said::Nothing)).await {
        Err(_) => return true,
        Ok(said) => said.map_or(Said::Answer, |said| *said),
    };
    if said == Said::Answer {
        // An error now would break the connection under the answer; so wait until that is through.
        drop(told.wait_for(|_| false).await);
    }
    said == Said::Continue
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(opening) = &mut self.opening {
            let may_go = ready!(opening.as_mut().poll(cx));
            self.opening = None;
            if !may_go {
                return Poll::Ready(Some(Err("the endpoint does not want the body".into())));
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
                tracing::debug!(%error, "a client's body cannot be read");
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
