//! `POST /api/v3/events`: one event, an array of events, or one a line (NDJSON).
//!
//! Contract: all or nothing. The text is validated once by simd-json; an error names the element or the line. After 204 the
//! events are sequenced: everybody whose registration was answered before gets them. When the inboxes are full the answer is
//! 429 with `Retry-After`, and nothing was taken.

use std::borrow::Cow;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};

use super::{Api, ApiError, answer};
use crate::auth::Identity;
use crate::clock;
use crate::event::{Draft, Event};
use crate::json::{self, Validator};
use crate::metrics::{Limit, Source};
use crate::transport::listener::Answer;

/// Bodies larger than this are read on a thread that may block, so that others' requests do not wait.
const LARGE: usize = 256 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Lines,
}

/// What the caller decides about its events.
struct Posting<'a> {
    principal: &'a str,
    may_impersonate: bool,
    event_bytes: usize,
}

impl Api {
    pub(super) async fn post_events(
        &self,
        request: Request<Incoming>,
        identity: &Identity,
    ) -> Result<Answer, ApiError> {
        self.require(identity, "events", "post", "*")?;
        let form = form(request.headers())?;
        let may_impersonate = self.permits(identity, "events", "impersonate", "*")?;
        let whole = self.bodies.read(request, self.limits.body_bytes).await?;
        let body = &whole.bytes;
        let principal = identity.principal().as_str();
        let posting = Posting { principal, may_impersonate, event_bytes: self.limits.event_bytes };
        let events = if body.len() > LARGE {
            tokio::task::block_in_place(|| posting.read(body, form))?
        } else {
            posting.read(body, form)?
        };
        let share = self.authority.access(identity)?.limits().posted_events_per_second();
        self.posts.take(principal, share, events.len() as u64, self.broker.now_us()).map_err(|spent| {
            self.broker.metrics().limited(Limit::PostedEvents, 1);
            ApiError::from(spent)
        })?;
        self.broker.publish(events, Source::Post)?;
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

impl Posting<'_> {
    fn read(&self, body: &[u8], form: Form) -> Result<Vec<Event>, ApiError> {
        match form {
            Form::Json => self.read_json(body),
            Form::Lines => self.read_lines(body),
        }
    }

    fn read_json(&self, body: &[u8]) -> Result<Vec<Event>, ApiError> {
        let text = Validator::default().validate(body).map_err(|error| ApiError::Bad(error.to_string()))?.trim();
        if !text.starts_with('[') {
            return Ok(vec![self.event(text).map_err(|error| error.at(None))?]);
        }
        let elements = json::elements(text).enumerate();
        elements.map(|(at, text)| self.event(text).map_err(|error| error.at(Some(format!("element {at}"))))).collect()
    }

    fn read_lines(&self, body: &[u8]) -> Result<Vec<Event>, ApiError> {
        let mut validator = Validator::default();
        let mut events = Vec::new();
        for (at, line) in body.split(|&byte| byte == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let place = || Some(format!("line {}", at + 1));
            let text = validator.validate(line).map_err(|error| Fault::Bad(error.to_string()).at(place()))?;
            events.push(self.event(text.trim()).map_err(|error| error.at(place()))?);
        }
        Ok(events)
    }

    fn event(&self, text: &str) -> Result<Event, Fault> {
        if text.len() > self.event_bytes {
            return Err(Fault::TooLarge(format!("an event of {} bytes, {} are allowed", text.len(), self.event_bytes)));
        }
        let mut draft = Draft::read(text).map_err(|error| Fault::Bad(error.to_string()))?;
        if draft.principal.is_empty() || !self.may_impersonate {
            draft.principal = Cow::Borrowed(self.principal);
        }
        Ok(draft.seal(clock::now()))
    }
}

/// What is wrong with one event, before it is known which one it is.
enum Fault {
    Bad(String),
    TooLarge(String),
}

impl Fault {
    fn at(self, place: Option<String>) -> ApiError {
        let prefix = place.map_or_else(String::new, |place| format!("{place}: "));
        match self {
            Self::Bad(reason) => ApiError::Bad(format!("{prefix}{reason}")),
            Self::TooLarge(reason) => ApiError::TooLarge(format!("{prefix}{reason}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSTING: Posting<'_> = Posting { principal: "user:a", may_impersonate: false, event_bytes: 1000 };

    fn read(form: Form, body: &str) -> Result<Vec<String>, String> {
        let events = POSTING.read(body.as_bytes(), form).map_err(|error| error.to_string())?;
        Ok(events.iter().map(|event| event.key().to_owned()).collect())
    }

    const GOOD: &str = r#"{"Type":"a","Action":"b","Key":"k"}"#;

    #[test]
    fn one_event_arrays_and_lines_are_read() {
        assert_eq!(read(Form::Json, GOOD), Ok(vec!["k".to_owned()]));
        assert_eq!(read(Form::Json, &format!(" [ {GOOD} , {GOOD} ] ")).unwrap().len(), 2);
        assert_eq!(read(Form::Json, "[]"), Ok(vec![]));
        assert_eq!(read(Form::Lines, &format!("{GOOD}\r\n\n  {GOOD}\n")).unwrap().len(), 2);
    }

    #[test]
    fn errors_name_the_place() {
        for (form, body, expected) in [
            (Form::Json, r#"{"Type":}"#.to_owned(), "not valid JSON at byte"),
            (Form::Json, format!(r#"[{GOOD},{{"Type":"a"}}]"#), "element 1: Action is missing or empty"),
            (Form::Json, "[1]".to_owned(), "element 0: an event is a JSON object"),
            (Form::Lines, format!("{GOOD}\n\n{{\"Type\":\n"), "line 3: not valid JSON"),
            (Form::Lines, format!("{GOOD}\n[{GOOD}]"), "line 2: an event is a JSON object"),
            (Form::Lines, format!(r#"{{"Type":"{}"}}"#, "x".repeat(2000)), "line 1: an event of 2011 bytes"),
        ] {
            let error = read(form, &body).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn the_principal_is_the_callers_unless_it_may_impersonate() {
        let body = br#"{"Type":"a","Action":"b","Principal":"user:other"}"#;
        let principal = |posting: &Posting<'_>| {
            let events = posting.read(body, Form::Json).ok().unwrap();
            events[0].json().contains(r#""Principal":"user:other""#)
        };
        assert!(!principal(&POSTING));
        assert!(principal(&Posting { may_impersonate: true, ..POSTING }));
    }
}
