//! A connection as operators see it in `/api/v3/connections` and in events of Type `connections`.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::event::{self, Draft, Event};

/// The Type of events about connections; a principal always sees those of its own.
pub const CONNECTIONS: &str = "connections";

/// Go's zero `time.Time`, which means never.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The kind of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A websocket.
    Websocket,
    /// Server-Sent Events or NDJSON.
    Stream,
    /// A keep-alive HTTP connection.
    Api,
}

impl Kind {
    /// Returns its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::Stream => "stream",
            Self::Api => "api",
        }
    }
}

/// The state of a connection at one moment (`docs/protocol.md`, "Connections").
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Connection {
    /// The time at which it was authenticated.
    pub create_time: String,
    /// The time at which its credential expires; year 1 if it does not.
    pub expires_at: String,
    /// The authenticated principal.
    pub principal: String,
    /// The principal's account, which distinguishes users of the endpoint and of issuers from hydrant's own.
    #[serde(skip)]
    pub account: String,
    /// The client's address and port.
    pub remote_addr: SocketAddr,
    /// The kind of connection.
    pub r#type: Kind,
    /// The number of registrations.
    pub registrations: usize,
    /// The number of queued frames.
    pub queued_events: usize,
    /// The number of queued bytes.
    pub queued_bytes: usize,
    /// The number of delivered events.
    pub delivered_events: u64,
    /// The number of events dropped because the client was a slow consumer.
    pub dropped_events: u64,
    /// The time that the first queued event has waited, in milliseconds.
    pub queued_age_milliseconds: u64,
    /// The encoding of events; `None` for HTTP connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<&'static str>,
    /// The policy for a slow consumer; `None` for HTTP connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overflow: Option<&'static str>,
}

/// The object of an event about a connection.
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
    /// Creates the state of a new connection of this principal and account.
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

    /// Returns compact JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are always written")
    }

    /// Returns the event that reports it. `omitted_events` about this principal's connections were left out before.
    pub(super) fn event(&self, action: &str, omitted_events: u64, now: Timestamp) -> Event {
        let body = ConnectionObject { connection: self, omitted_events };
        let object = serde_json::to_string(&body).expect("strings and numbers are always written");
        let mut draft = Draft::new(CONNECTIONS, action, &self.principal);
        draft.principal = self.principal.as_str().into();
        draft.store = event::store(&self.account);
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
