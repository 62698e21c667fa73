//! `POST /api/v3/events`: one event, an array of events, or one per line (NDJSON).
//!
//! Contract: all or nothing. [`Posting`] parses the body; an error names the element or the line. Once the answer is
//! 204, the events are sequenced: everybody whose registration was answered before gets them. If the inboxes are full,
//! the answer is 429 with `Retry-After`, and no event was accepted.

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};

use super::{Api, ApiError, ApiLimits, answer};
use crate::auth::Identity;
use crate::clock;
use crate::event;
use crate::event::posting::{EntryError, Form, Posting, PostingError};
use crate::metrics::{Limit, Source};
use crate::spans::Span;
use crate::transport::listener::Answer;

/// Bodies larger than this, in bytes, are parsed on a blocking thread, so that other requests do not wait.
const LARGE: usize = 256 << 10;

impl Api {
    pub(super) async fn post_events(
        &self,
        request: Request<Incoming>,
        identity: &Identity,
    ) -> Result<Answer, ApiError> {
        let span = self.broker.spans().request("POST", "/api/v3/events", request.headers());
        let answer = self.accept_events(request, identity, &span).await;
        answer.inspect_err(|error| span.failed(&error.status()))
    }

    async fn accept_events(
        &self,
        request: Request<Incoming>,
        identity: &Identity,
        span: &Span,
    ) -> Result<Answer, ApiError> {
        self.require(identity, "events", "post", "*")?;
        let form = form(request.headers())?;
        let may_impersonate = self.permits(identity, "events", "impersonate", "*")?;
        let whole = self.bodies.read(request, self.limits.body_bytes).await?;
        let body = &whole.bytes;
        let principal = identity.principal().as_str();
        let ApiLimits { event_bytes, post_events: events, .. } = self.limits;
        let posting = Posting { principal, may_impersonate, event_bytes, events, now: clock::now };
        let events = if body.len() > LARGE {
            tokio::task::block_in_place(|| posting.read(body, form))?
        } else {
            posting.read(body, form)?
        };
        let share = self.authority.access(identity)?.limits().posted_events_per_second();
        self.posts.take(principal, share, events.len() as u64, self.broker.now_us()).map_err(|spent| {
            self.broker.metrics().limited(Limit::PostedEvents, 1);
            event::discard(events.len());
            ApiError::from(spent)
        })?;
        span.within(|| self.broker.publish(events, Source::Post))?;
        Ok(answer::no_content())
    }
}

fn form(headers: &HeaderMap) -> Result<Form, ApiError> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let lower = given.to_ascii_lowercase();
    if lower.contains("application/x-ndjson") {
        Ok(Form::Lines)
    } else if lower.contains("application/json") {
        Ok(Form::Json)
    } else {
        let given: String = given.chars().take(128).collect();
        Err(ApiError::Bad(format!(
            "Invalid content type: {given:?}, expected application/json or application/x-ndjson"
        )))
    }
}

impl From<PostingError> for ApiError {
    fn from(error: PostingError) -> Self {
        match error.error {
            EntryError::TooLarge { .. } | EntryError::TooMany { .. } => Self::TooLarge(error.to_string()),
            EntryError::Json(_) | EntryError::Event(_) => Self::Bad(error.to_string()),
        }
    }
}
