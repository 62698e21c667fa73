//! What a route is declared with. Pure data: the router and the documents read the same.

/// What a request has to be for a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Verb {
    /// `GET`, and `HEAD`, which is answered where `GET` is.
    Get,
    /// `POST`.
    Post,
    /// `DELETE`.
    Delete,
    /// Any method: the route itself refuses what is not a `GET`.
    Any,
}

/// Who answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Route {
    /// The description of these routes.
    OpenApi,
    /// The description of the websocket.
    AsyncApi,
    /// The websocket.
    Websocket,
    /// Server-Sent Events or NDJSON.
    Stream,
    /// Posts of events.
    Events,
    /// What the server is.
    Info,
    /// A user's token, asked for by query.
    UserToken,
    /// The same, asked for by a body.
    PostUserToken,
    /// A machine's token.
    MachineToken,
    /// All connections.
    Connections,
    /// One connection.
    Connection,
    /// The end of one.
    DeleteConnection,
    /// The connections of an agent, whose model this is.
    RunnerConnections(&'static str),
    /// How the broker is.
    Status,
    /// What registrations do.
    Registrations,
    /// Why an event does or does not reach somebody.
    Explain,
    /// Whether a text can be a registration, and what it would have matched.
    Check,
    /// Who the caller is.
    Me,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Access {
    /// Anybody, without credentials.
    Anybody,
    /// Whoever has credentials.
    Known,
    /// Whoever has this claim.
    Claim(&'static str),
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Place {
    /// In the query.
    Query,
    /// In the query, any number of times.
    Repeated,
    /// Among the headers.
    Header,
}

/// A parameter besides the one in the path.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Parameter {
    pub(in crate::api) name: &'static str,
    pub(in crate::api) place: Place,
    /// Whether it has to be there.
    pub(in crate::api) required: bool,
    /// What it means.
    pub(in crate::api) text: &'static str,
    /// Its JSON schema, or one of each value of a repeated one.
    pub(in crate::api) schema: &'static str,
    /// A value that can be sent as it is.
    pub(in crate::api) example: &'static str,
}

/// A body of this media type.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Content {
    pub(in crate::api) media: &'static str,
    /// The name of its schema.
    pub(in crate::api) schema: &'static str,
}

/// An answer below 400.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Success {
    pub(in crate::api) status: u16,
    /// When it comes.
    pub(in crate::api) text: &'static str,
    pub(in crate::api) content: &'static [Content],
    /// Headers that it always has, and what they mean.
    pub(in crate::api) headers: &'static [(&'static str, &'static str)],
}

/// An answer from 400 on, whose body is a DRP Error, and when it comes.
pub(in crate::api) type Failure = (u16, &'static str);

/// The parameter in a path, if it has one.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct InPath {
    pub(in crate::api) text: &'static str,
    pub(in crate::api) schema: &'static str,
    pub(in crate::api) example: &'static str,
}

/// A route. Nothing is served below `/api/v3/` that has no row.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Row {
    pub(in crate::api) verb: Verb,
    /// Behind `/api/v3`; `{name}` stands for any one segment.
    pub(in crate::api) path: &'static str,
    pub(in crate::api) route: Route,
    /// What programs call it.
    pub(in crate::api) name: &'static str,
    /// In a few words.
    pub(in crate::api) summary: &'static str,
    /// What else there is to know.
    pub(in crate::api) text: &'static str,
    pub(in crate::api) access: Access,
    pub(in crate::api) in_path: Option<InPath>,
    pub(in crate::api) parameters: &'static [Parameter],
    /// Forms of the request's body; nothing if none is read.
    pub(in crate::api) body: &'static [Content],
    pub(in crate::api) answers: &'static [Success],
    /// Refusals besides those of every route of this kind ([`Row::failures`]).
    pub(in crate::api) failures: &'static [Failure],
}

/// Every request.
const ALWAYS: [Failure; 4] = [
    (400, "not a request of HTTP/1.1, not exactly one valid `Host`, or what is said of this route"),
    (414, "the target is too long"),
    (431, "the head has more than 128 headers or 32 KiB"),
    (501, "a `Transfer-Encoding` other than `chunked`"),
];

/// Whoever has to show credentials.
const KNOWN: [Failure; 4] = [
    (401, "credentials are missing or cannot be read"),
    (403, "wrong credentials, an expired token, a foreign origin, or a claim is missing"),
    (429, "too many wrong passwords from there, or a share is used up"),
    (503, "too busy, or shutting down"),
];

/// Whoever sends a body.
const WITH_BODY: [Failure; 3] = [
    (408, "the body stood still"),
    (413, "the body is too long"),
    (415, "a `Content-Encoding` that is not known here"),
];

impl Row {
    /// Every status from 400 on that this route may have, each once; what the row says goes before what is said of all.
    pub(in crate::api) fn failures(&self) -> Vec<Failure> {
        let known: &[Failure] = if self.access == Access::Anybody { &[] } else { &KNOWN };
        let with_body: &[Failure] = if self.body.is_empty() { &[] } else { &WITH_BODY };
        let mut all: Vec<Failure> =
            self.failures.iter().chain(&ALWAYS).chain(known).chain(with_body).copied().collect();
        // Stable, so that the row's own stays the first.
        all.sort_by_key(|(status, _)| *status);
        all.dedup_by_key(|(status, _)| *status);
        all
    }
}
