//! Label values as fixed enums, so that no client can create series.

/// The source of an event; the value of the label `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `POST /api/v3/events`.
    Post,
    /// The simulated fleet of `--demo`.
    Demo,
    /// Opened and closed connections.
    Connections,
    /// A DRP endpoint.
    Upstream,
    /// Other nodes, over NATS.
    Nats,
}

impl Source {
    /// The number of sources.
    pub(super) const COUNT: usize = 5;

    /// Returns the value of the label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::Demo => "demo",
            Self::Connections => "connections",
            Self::Upstream => "upstream",
            Self::Nats => "nats",
        }
    }

    /// Returns whether other nodes may receive the same events themselves.
    pub fn is_shared(self) -> bool {
        self == Self::Upstream
    }

    /// Returns whether this node sends these events to other nodes.
    pub fn leaves_the_node(self) -> bool {
        matches!(self, Self::Post | Self::Demo | Self::Upstream)
    }
}

/// The result of a command; the value of the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Registered, or already registered.
    Registered,
    /// Deregistered.
    Deregistered,
    /// Answered with an error.
    Refused,
}

/// The reason why a connection did not become a websocket; the value of the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The TLS handshake failed.
    Tls,
    /// Missing or unusable credentials.
    Unauthenticated,
    /// Wrong credentials.
    Forbidden,
    /// Not a websocket handshake.
    BadRequest,
    /// Too many attempts or connections.
    Limited,
}

impl Rejection {
    pub(super) const ALL: [(Self, &'static str); 5] = [
        (Self::Tls, "tls"),
        (Self::Unauthenticated, "unauthenticated"),
        (Self::Forbidden, "forbidden"),
        (Self::BadRequest, "bad_request"),
        (Self::Limited, "limited"),
    ];

    pub(super) fn label(self) -> &'static str {
        Self::ALL.iter().find(|(reason, _)| *reason == self).map_or("other", |(_, label)| label)
    }
}

/// The result of a changed certificate; the value of the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// The certificate is in force.
    Taken,
    /// The certificate cannot be used.
    Refused,
}

/// The limit that a principal has reached; the value of the label `limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Websockets per principal.
    Connections,
    /// Registrations per connection.
    Registrations,
    /// Posted events per second and principal.
    PostedEvents,
}

impl Limit {
    pub(super) const ALL: [Self; 3] = [Self::Connections, Self::Registrations, Self::PostedEvents];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Registrations => "registrations",
            Self::PostedEvents => "posted_events",
        }
    }
}
