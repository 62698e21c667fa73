//! `POST /api/v3/events`: one event, an array of events, or one per line (NDJSON).
//!
//! Contract: all or nothing. [`Posting`] parses the body; an error names the element or the line. Once the answer is
//! 204, the events are sequenced: everybody whose registration was answered before gets them. If the inboxes are full,
//! the answer is 429 with `Retry-After`, and no event was accepted. The caller must have its rights when the request
//! begins and when the last byte of the body has arrived ([`Authority::revision`]).

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};

use super::{Api, ApiError, ApiLimits, answer};
use crate::auth::{Authority, Identity};
use crate::clock;
use crate::event::posting::{EntryError, Form, Posting, PostingError};
use crate::event::{self, Event};
use crate::metrics::{Limit, Source};
use crate::spans::Span;
use crate::transport::listener::Answer;

/// Bodies larger than this, in bytes, are parsed on a blocking thread, so that other requests do not wait.
const LARGE: usize = 256 << 10;

/// Bodies up to this length, in bytes, wake the shards together with others that are ready at the same time. Larger
/// bodies wake them at once, before they are parsed and when they are queued, so no event waits for them.
const SMALL: usize = 4 << 10;

/// What a caller may post.
#[derive(Debug, Clone, Copy)]
struct Rights {
    may_impersonate: bool,
    /// The limit of the caller's roles on its events per second.
    per_second: Option<u64>,
    /// The revision for which these rights are valid.
    revision: u64,
}

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
        let rights = self.rights_to_post(identity)?;
        let form = form(request.headers())?;
        let whole = self.read_body(request, self.limits.body_bytes).await?;
        // A body may take a while.
        let rights = if rights.revision == self.authority.revision() { rights } else { self.rights_to_post(identity)? };
        let events = self.parse_events(&whole.bytes, form, identity, rights)?;
        let (account, count) = (identity.principal().account(), events.len() as u64);
        self.posts.take(account, rights.per_second, count, self.broker.now_us()).map_err(|spent| {
            self.broker.metrics().limited(Limit::PostedEvents, 1);
            event::discard(events.len());
            ApiError::from(spent)
        })?;
        let queued = span.within(|| self.broker.queue(events, Source::Post));
        let queued = queued.inspect_err(|_| self.posts.give_back(account, rights.per_second, count))?;
        if whole.bytes.len() <= SMALL {
            // Requests that are ready to be read publish first, and their events share one turn of the shards.
            tokio::task::yield_now().await;
        }
        drop(queued);
        Ok(answer::no_content())
    }

    /// Returns what the caller may post now.
    fn rights_to_post(&self, identity: &Identity) -> Result<Rights, ApiError> {
        // Read first: a change in the meantime makes these rights those of an earlier revision.
        let revision = self.authority.revision();
        let access = self.authority.access(identity)?;
        let may = |action| Authority::grants(identity, &access, "events", action, "*");
        if !may("post") {
            return Err(ApiError::Forbidden { scope: "events", action: "post", specific: "*".to_owned() });
        }
        let per_second = access.limits().posted_events_per_second();
        Ok(Rights { may_impersonate: may("impersonate"), per_second, revision })
    }

    fn parse_events(
        &self,
        body: &[u8],
        form: Form,
        identity: &Identity,
        rights: Rights,
    ) -> Result<Vec<Event>, ApiError> {
        let (principal, may_impersonate) = (identity.principal().as_str(), rights.may_impersonate);
        let ApiLimits { event_bytes, post_events: events, .. } = self.limits;
        let posting = Posting { principal, may_impersonate, event_bytes, events, now: clock::now };
        let read = || posting.read(body, form);
        if body.len() > SMALL {
            self.broker.wake_shards();
        }
        let events = if body.len() > LARGE { self.at_length(read) } else { read() };
        Ok(events?)
    }
}

fn form(headers: &HeaderMap) -> Result<Form, ApiError> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let names =
        |media: &str| given.as_bytes().windows(media.len()).any(|part| part.eq_ignore_ascii_case(media.as_bytes()));
    if names("application/x-ndjson") || names("application/ndjson") {
        Ok(Form::Lines)
    } else if names("application/json") {
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
