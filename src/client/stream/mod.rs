//! The client of an event stream, Server-Sent Events (`docs/protocol.md`, section 9): one request whose answer does
//! not end.
//!
//! Unlike a websocket it carries the position of each event, so a client that reconnects with the last one to the same
//! run of a server gets exactly what it missed. Registrations are in the URL; there are no commands afterwards.
//!
//! Contract: like a [`Session`](super::Session): events and answers come in order, events that are too long are
//! skipped and reported, and a server that sends nothing for too long is considered gone. Nothing is read ahead of
//! [`EventStream::receive`] except what the kernel and hyper buffer, so the server notices a slow consumer.

mod sse;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::time::timeout;

use self::sse::{Message, Parser};
use super::endpoint::Target;
use super::error::{ClientError, printable};
use super::http::{Http, broken, refusal};
use super::received::{Received, complaint, field, query, registered};

const PATH: &str = "/api/v3/events";
const KIND: &str = "text/event-stream";
const LAST_EVENT_ID: &str = "Last-Event-ID";
/// Seconds between two signs of life of the server.
const PING: &str = "X-Hydrant-Ping";
/// Longest silence of a server that does not say how often it pings.
const SILENCE: Duration = Duration::from_mins(3);

/// The position at which a stream begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct StreamFrom<'a> {
    /// A time or a position, for the first connection.
    pub since: Option<&'a str>,
    /// The id of the last received event ([`EventStream::last_id`]). Takes precedence over `since`.
    pub last_id: Option<&'a str>,
}

/// An answer that delivers events until it ends.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    headers: HeaderMap,
    target: Target,
    parser: Parser,
    unanswered: VecDeque<String>,
    last_id: Option<String>,
}

impl EventStream {
    /// Requests a stream with these registrations. Events longer than `message_bytes` are skipped.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] with the server's message if it refuses, as for a registration that
    /// cannot be read, [`ClientError::NotStream`] if it answers with something else.
    pub async fn open(
        target: &Target,
        message_bytes: usize,
        from: StreamFrom<'_>,
        specs: &[String],
    ) -> Result<Self, ClientError> {
        let mut http = Http::open(target).await?;
        let path = format!("{PATH}?{}", query(from.since, specs));
        let mut request = http.request(Method::GET, &path, Bytes::new());
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(KIND));
        if let Some(id) = from.last_id.and_then(|id| HeaderValue::from_str(id).ok()) {
            request.headers_mut().insert(LAST_EVENT_ID, id);
        }
        let answer = http.send(request).await?;
        if !answer.status().is_success() {
            return Err(ClientError::Refused(refusal(answer).await));
        }
        let (head, body) = answer.into_parts();
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with(KIND) {
            let endpoint = target.endpoint.to_string();
            return Err(ClientError::NotStream { endpoint, kind: printable(kind).into_owned() });
        }
        let last_id = from.last_id.map(str::to_owned);
        let unanswered = specs.iter().cloned().collect();
        let (headers, parser) = (head.headers, Parser::new(message_bytes));
        Ok(Self { body, headers, target: target.clone(), parser, unanswered, last_id })
    }

    /// Returns whether these registrations are short enough for a URL.
    pub fn takes(specs: &[String]) -> bool {
        super::received::fits_query(&query(None, specs))
    }

    /// Returns a header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the id of the last received event, from which to resume.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// Returns the next event or answer.
    ///
    /// # Errors
    /// As [`Session::receive`](super::Session::receive).
    ///
    /// # Cancel safety
    /// A cancelled call loses nothing.
    pub async fn receive(&mut self) -> Result<Received, ClientError> {
        loop {
            if let Some(received) = self.receive_ready()? {
                return Ok(received);
            }
            let after = longest_silence(self.header(PING));
            let silent = |_| ClientError::Silent { endpoint: self.target.endpoint.to_string(), after };
            match timeout(after, self.body.frame()).await.map_err(silent)? {
                Some(Ok(frame)) => self.parser.push(frame.data_ref().map_or(&[][..], |bytes| bytes)),
                Some(Err(error)) => return Err(broken(&self.target, &error)),
                None => return Err(self.broken("the stream ended without a reason")),
            }
        }
    }

    /// Returns what has already arrived, so that it can be written together.
    ///
    /// # Errors
    /// As [`EventStream::receive`].
    pub fn receive_ready(&mut self) -> Result<Option<Received>, ClientError> {
        while let Some(message) = self.parser.next() {
            if let Some(received) = self.sort(message)? {
                return Ok(Some(received));
            }
        }
        Ok(None)
    }

    /// Tells events from answers and the end; other names are passed over.
    fn sort(&mut self, message: Message) -> Result<Option<Received>, ClientError> {
        if message.id.is_some() {
            self.last_id = message.id;
        }
        match (message.event.as_str(), message.skipped) {
            ("", Some(bytes)) => Ok(Some(Received::Skipped { bytes })),
            ("", None) => Ok(Some(Received::Event(message.data))),
            ("answer", _) => self.answer(&message.data),
            ("close", _) => Err(closed(&message.data)),
            _ => Ok(None),
        }
    }

    fn answer(&mut self, text: &str) -> Result<Option<Received>, ClientError> {
        let Some(spec) = self.unanswered.pop_front() else { return Ok(None) };
        if field(text, "Action").as_deref() == Some("error") {
            return Err(ClientError::Registration { spec, message: complaint(text) });
        }
        Ok(Some(Received::Registered(registered(spec, text))))
    }

    fn broken(&self, reason: &str) -> ClientError {
        ClientError::Broken { endpoint: self.target.endpoint.to_string(), reason: reason.to_owned() }
    }
}

/// Returns how long a server that pings every so many seconds may be silent: it may miss three pings.
fn longest_silence(ping: Option<&str>) -> Duration {
    let seconds = ping.and_then(|ping| ping.parse::<u32>().ok()).filter(|seconds| *seconds > 0);
    seconds.map_or(SILENCE, |seconds| Duration::from_secs(4 * u64::from(seconds)))
}

/// Converts the last message of a stream into the reason of its end.
fn closed(text: &str) -> ClientError {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let code = value["Code"].as_u64().and_then(|code| code.try_into().ok()).unwrap_or(1005);
    ClientError::Closed { code, reason: printable(value["Reason"].as_str().unwrap_or_default()).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_be_silent_for_some_of_its_pings() {
        let seconds = [Some("25"), Some("3600"), Some("1"), Some("0"), Some("soon"), None];
        assert_eq!(seconds.map(|ping| longest_silence(ping).as_secs()), [100, 14_400, 4, 180, 180, 180]);
    }

    #[test]
    fn the_last_message_says_why_it_ended() {
        let shown = |text| closed(text).to_string();
        assert_eq!(
            shown(r#"{"Code":1013,"Reason":"slow\u001b"}"#),
            "the server closed the connection: 1013 (slow\u{fffd})"
        );
        assert_eq!(shown("x"), "the server closed the connection: 1005");
        assert!(closed(r#"{"Code":1008}"#).is_final() && !closed(r#"{"Code":1001}"#).is_final());
    }
}
