//! Label values as fixed enums, so that no client can create series.

/// Where an event came from; the value of the label `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `POST /api/v3/events`
    Post,
    /// The simulated fleet of `--demo`
    Demo,
    /// Connections that came and went
    Connections,
    /// A DRP endpoint
    Upstream,
    /// Other nodes, over NATS
    Nats,
}

impl Source {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::Demo => "demo",
            Self::Connections => "connections",
            Self::Upstream => "upstream",
            Self::Nats => "nats",
        }
    }

    /// Whether other nodes may take the same events in themselves.
    pub fn is_shared(self) -> bool {
        self == Self::Upstream
    }

    /// Whether other nodes get them from this one.
    pub fn leaves_the_node(self) -> bool {
        matches!(self, Self::Post | Self::Demo | Self::Upstream)
    }
}

/// What became of a command; the value of the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Registered, or registered already.
    Registered,
    /// Deregistered.
    Deregistered,
    /// Answered with an error.
    Refused,
}

/// Why a connection did not become a websocket; the value of the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// TLS did not come about.
    Tls,
    /// No or unusable credentials.
    Unauthenticated,
    /// Wrong credentials.
    Forbidden,
    /// Not a websocket handshake.
    BadRequest,
    /// Too many tries or connections.
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

/// What became of a changed certificate; the value of the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// It is in force.
    Taken,
    /// It cannot be used.
    Refused,
}

/// What somebody wanted more of than it may have; the value of the label `limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Websockets of one principal.
    Connections,
    /// Registrations on one connection.
    Registrations,
    /// Events posted by one principal in a second.
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
