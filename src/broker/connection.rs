//! A connection as operators see it in `/api/v3/connections` and in events of Type `connections`.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::event::{Draft, Event};

/// The Type of events about connections; a principal always sees those of its own.
pub const CONNECTIONS: &str = "connections";

/// What Go's zero `time.Time` looks like: never.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What kind of connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A websocket.
    Websocket,
    /// Server-Sent Events or NDJSON.
    Stream,
    /// A kept-alive HTTP connection.
    Api,
}

/// One connection at one moment (`docs/protocol.md`, "Connections").
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Connection {
    /// When it was authenticated.
    pub create_time: String,
    /// When its credential expires; year 1 if it does not.
    pub expires_at: String,
    /// Who it is.
    pub principal: String,
    /// The same, so that users of the endpoint and of hydrant are told apart.
    #[serde(skip)]
    pub account: String,
    /// Where it comes from: address and port.
    pub remote_addr: SocketAddr,
    /// What it is.
    pub r#type: Kind,
    /// Registrations.
    pub registrations: usize,
    /// Frames that wait for it.
    pub queued_events: usize,
    /// Bytes that wait for it.
    pub queued_bytes: usize,
    /// Events that were delivered to it.
    pub delivered_events: u64,
    /// Events that it did not get because it did not follow.
    pub dropped_events: u64,
    /// For how long the first event that waits for it has been waiting.
    pub queued_age_milliseconds: u64,
    /// How events are written down for it; not for HTTP connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<&'static str>,
    /// What happens if it does not follow; not for HTTP connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overflow: Option<&'static str>,
}

/// A connection as its event tells of it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConnectionObject<'c> {
    #[serde(flatten)]
    connection: &'c Connection,
    #[serde(skip_serializing_if = "is_none")]
    omitted_events: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_none(omitted_events: &u64) -> bool {
    *omitted_events == 0
}

impl Connection {
    /// A connection that has just come, of this principal and account.
    pub fn new(
        kind: Kind,
        (principal, account): (&str, &str),
        peer: SocketAddr,
        created: Timestamp,
        expires: Option<Timestamp>,
    ) -> Self {
        Self {
            create_time: created.to_string(),
            expires_at: expires.map_or_else(|| NEVER.to_owned(), |time| time.to_string()),
            principal: principal.to_owned(),
            account: account.to_owned(),
            remote_addr: peer,
            r#type: kind,
            registrations: 0,
            queued_events: 0,
            queued_bytes: 0,
            delivered_events: 0,
            dropped_events: 0,
            queued_age_milliseconds: 0,
            encoding: None,
            overflow: None,
        }
    }

    /// Compact JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are always written")
    }

    /// The event that tells of it. So many about connections of this principal were left out before it.
    pub(super) fn event(&self, action: &str, omitted_events: u64, now: Timestamp) -> Event {
        let body = ConnectionObject { connection: self, omitted_events };
        let object = serde_json::to_string(&body).expect("strings and numbers are always written");
        let mut draft = Draft::new(CONNECTIONS, action, &self.principal);
        draft.principal = self.principal.as_str().into();
        draft.of_endpoint = self.account != self.principal;
        draft.object = &object;
        draft.seal(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_drps_names() {
        let peer = "[::1]:5000".parse().unwrap();
        let connection = Connection::new(Kind::Websocket, ("user:a.b", "user:a.b"), peer, Timestamp::UNIX_EPOCH, None);
        let event = connection.event("create", 0, Timestamp::UNIX_EPOCH);
        assert_eq!((event.kind(), event.action(), event.key()), ("connections", "create", "user:a.b"));
        let expected = concat!(
            r#"{"CreateTime":"1970-01-01T00:00:00Z","ExpiresAt":"0001-01-01T00:00:00Z","Principal":"user:a.b","#,
            r#""RemoteAddr":"[::1]:5000","Type":"websocket","Registrations":0,"QueuedEvents":0,"QueuedBytes":0,"#,
            r#""DeliveredEvents":0,"DroppedEvents":0,"QueuedAgeMilliseconds":0}"#
        );
        assert_eq!(event.object(), expected);
        let event = connection.event("create", 7, Timestamp::UNIX_EPOCH);
        assert!(event.object().ends_with(r#","OmittedEvents":7}"#), "{}", event.object());
    }
}
