//! The declaration of a route. Pure data, read by the router and by the documents.

/// The method of a route's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Verb {
    /// `GET`, and `HEAD`, which is answered like `GET`.
    Get,
    /// `POST`.
    Post,
    /// `DELETE`.
    Delete,
    /// Any method: the route itself refuses all but `GET`.
    Any,
}

/// The handler of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Route {
    /// The OpenAPI document.
    OpenApi,
    /// The AsyncAPI document.
    AsyncApi,
    /// The websocket.
    Websocket,
    /// A stream of Server-Sent Events or NDJSON.
    Stream,
    /// Posted events.
    Events,
    /// The description of the server.
    Info,
    /// A token for a user, requested in the query.
    UserToken,
    /// A token for a user, requested in the body.
    PostUserToken,
    /// A token for a machine.
    MachineToken,
    /// All connections.
    Connections,
    /// One connection.
    Connection,
    /// The deletion of a connection.
    DeleteConnection,
    /// The connections of agents of this model.
    RunnerConnections(&'static str),
    /// The state of the broker.
    Status,
    /// The activity of registrations.
    Registrations,
    /// Why an event does or does not reach a client.
    Explain,
    /// Whether a text is a valid registration, and which events it would have matched.
    Check,
    /// The caller's own identity and rights.
    Me,
}

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Access {
    /// Anyone, without credentials.
    Anybody,
    /// Any authenticated caller.
    Known,
    /// Callers with this claim.
    Claim(&'static str),
}

/// Where a parameter is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum ParameterIn {
    /// In the query.
    Query,
    /// In the query, any number of times.
    Repeated,
    /// In the headers.
    Header,
}

/// A parameter other than the one in the path.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Parameter {
    pub(in crate::api) name: &'static str,
    pub(in crate::api) place: ParameterIn,
    /// Whether it must be present.
    pub(in crate::api) required: bool,
    /// Its description.
    pub(in crate::api) text: &'static str,
    /// Its JSON schema; for a repeated parameter, that of each value.
    pub(in crate::api) schema: &'static str,
    /// A valid value.
    pub(in crate::api) example: &'static str,
}

/// A body of one media type.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Content {
    pub(in crate::api) media: &'static str,
    /// The name of its schema in `schemas.json`.
    pub(in crate::api) schema: &'static str,
}

/// A header of an answer.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Header {
    pub(in crate::api) name: &'static str,
    /// Its meaning.
    pub(in crate::api) text: &'static str,
    /// Its JSON schema.
    pub(in crate::api) schema: &'static str,
    /// Whether every such answer has it.
    pub(in crate::api) required: bool,
}

/// An answer with a status below 400.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Success {
    pub(in crate::api) status: u16,
    /// When it is sent.
    pub(in crate::api) text: &'static str,
    pub(in crate::api) content: &'static [Content],
    pub(in crate::api) headers: &'static [Header],
}

/// An answer with a status from 400 on, whose body is a DRP Error, and when it is sent.
pub(in crate::api) type Failure = (u16, &'static str);

/// The parameter in a path.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct InPath {
    pub(in crate::api) text: &'static str,
    pub(in crate::api) schema: &'static str,
    pub(in crate::api) example: &'static str,
}

/// A route. Only routes with a row are served below `/api/v3/`.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Row {
    pub(in crate::api) verb: Verb,
    /// The path after `/api/v3`; `{name}` matches any one segment.
    pub(in crate::api) path: &'static str,
    pub(in crate::api) route: Route,
    /// The name of the operation in the OpenAPI document.
    pub(in crate::api) name: &'static str,
    /// A summary of a few words.
    pub(in crate::api) summary: &'static str,
    /// Further details.
    pub(in crate::api) text: &'static str,
    pub(in crate::api) access: Access,
    pub(in crate::api) in_path: Option<InPath>,
    pub(in crate::api) parameters: &'static [Parameter],
    /// The media types of the request's body; empty if no body is read.
    pub(in crate::api) body: &'static [Content],
    pub(in crate::api) answers: &'static [Success],
    /// Failures besides those of all routes of this kind ([`Row::failures`]).
    pub(in crate::api) failures: &'static [Failure],
}

/// Failures of every request.
const ALWAYS: [Failure; 4] = [
    (400, "not a valid HTTP/1.1 request, not exactly one valid `Host`, or as described for this route"),
    (414, "the target is too long"),
    (431, "the request has more than 128 headers or 32 KiB before its body"),
    (501, "a `Transfer-Encoding` other than `chunked`"),
];

/// Failures of requests that need credentials.
const KNOWN: [Failure; 4] = [
    (401, "credentials are missing or malformed"),
    (403, "wrong credentials, an expired token, a foreign origin, or a claim is missing"),
    (429, "too many failed logins from this network, or a quota is used up"),
    (503, "overloaded, or shutting down"),
];

/// Failures of requests with a body.
const WITH_BODY: [Failure; 3] =
    [(408, "the body stalled"), (413, "the body is too long"), (415, "an unsupported `Content-Encoding`")];

impl Row {
    /// Returns every status from 400 on that this route may return, each once; the row's own text takes precedence.
    pub(in crate::api) fn failures(&self) -> Vec<Failure> {
        let known: &[Failure] = if self.access == Access::Anybody { &[] } else { &KNOWN };
        let with_body: &[Failure] = if self.body.is_empty() { &[] } else { &WITH_BODY };
        let mut all: Vec<Failure> =
            self.failures.iter().chain(&ALWAYS).chain(known).chain(with_body).copied().collect();
        // The sort is stable, so the row's own failure stays first.
        all.sort_by_key(|(status, _)| *status);
        all.dedup_by_key(|(status, _)| *status);
        all
    }
}
