//! The table of all routes: who may call each, its parameters and its answers.

use super::declare::{Access, Content, Failure, InPath, Parameter, ParameterIn, Route, Row, Success, Verb};
use super::headers::{CONNECTIONS, HANDSHAKE, REGISTRATIONS, STREAM};

const JSON: &str = "application/json";

const TEXT: &str = r#"{"type":"string"}"#;

/// The defaults of a row.
const PLAIN: Row = Row {
    verb: Verb::Get,
    path: "",
    route: Route::Info,
    name: "",
    summary: "",
    text: "",
    access: Access::Known,
    in_path: None,
    parameters: &[],
    body: &[],
    answers: &[],
    failures: &[],
};

/// An answer 200 with a single schema.
macro_rules! ok {
    ($text:literal, $schema:literal) => {
        ok!($text, $schema, &[])
    };
    ($text:literal, $schema:literal, $headers:expr) => {
        &[Success { status: 200, text: $text, content: &[Content { media: JSON, schema: $schema }], headers: $headers }]
    };
}

const fn query(name: &'static str, text: &'static str, schema: &'static str, example: &'static str) -> Parameter {
    Parameter { name, place: ParameterIn::Query, required: false, text, schema, example }
}

const LIMIT: Parameter = query("limit", "Maximum number of entries.", r#"{"type":"integer","minimum":0}"#, "100");

const SINCE: Parameter = query(
    "since",
    "Where the replay of past events begins: a time (RFC 3339) or EPOCH:SEQUENCE.",
    TEXT,
    "2026-01-02T03:04:05Z",
);

const OVERFLOW: Parameter = query(
    "overflow",
    "What happens when the client reads more slowly than events arrive. The caller's roles limit the choice.",
    r#"{"enum":["disconnect","drop-oldest","conflate"]}"#,
    "conflate",
);

const WARNINGS: Parameter =
    query("warnings", "`0` switches off warnings about suspicious registrations.", r#"{"enum":["0","1"]}"#, "0");

const fn register(required: bool) -> Parameter {
    Parameter {
        name: "register",
        place: ParameterIn::Repeated,
        required,
        text: "A registration, TYPE.ACTION.KEY with an optional filter; each is answered before the first event.",
        schema: TEXT,
        example: "machines.*.*",
    }
}

/// The parameters of token requests.
const WISHES: [Parameter; 5] = [
    query("ttl", "How long the token is valid: seconds, or `30m`, `12h`, `7d`.", TEXT, "30m"),
    query("roles", "Restricts the token to these of the subject's roles; comma-separated.", TEXT, "superuser"),
    query("scope", "Restricts the token to this scope.", TEXT, "machines"),
    query("action", "Restricts the token to this action.", TEXT, "get"),
    query("specific", "Restricts the token to this object.", TEXT, "*"),
];

const ADDRESS: Option<InPath> = Some(InPath {
    text: "Address and port of the client, as in the list of connections.",
    schema: TEXT,
    example: "192.0.2.1:51234",
});

const UUID: Option<InPath> =
    Some(InPath { text: "The object's UUID.", schema: TEXT, example: "3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e" });

const MACHINE: Option<InPath> = Some(InPath {
    text: "The machine's UUID.",
    schema: r#"{"type":"string","format":"uuid"}"#,
    example: "3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e",
});

const USER: Option<InPath> = Some(InPath { text: "The user's name.", schema: TEXT, example: "rocketskates" });

/// Failures of routes for which the endpoint is queried too.
const AWAY: [Failure; 4] = [
    (404, "there is no such object, or the caller may not see it"),
    (408, "the request stalled on its way to the endpoint"),
    (502, "the endpoint cannot be reached, or its connection broke"),
    (504, "the endpoint does not answer"),
];

const ISSUING: [Failure; 6] = [
    (400, "an invalid restriction or an invalid or too long `ttl`"),
    AWAY[0],
    AWAY[1],
    AWAY[2],
    AWAY[3],
    (500, "cannot get random numbers from the system"),
];

const TOKEN: &[Success] = ok!("The token, and the server it is for.", "Issued");

/// Returns the row that lists the connections of the agents of a model.
const fn runners(path: &'static str, model: &'static str, name: &'static str, access: &'static str) -> Row {
    Row {
        path,
        route: Route::RunnerConnections(model),
        name,
        summary: "The connections of an agent",
        text: "The connections whose principal is `runner:UUID`.",
        access: Access::Claim(access),
        in_path: UUID,
        answers: ok!("The connections.", "Connections", CONNECTIONS),
        failures: &AWAY,
        ..PLAIN
    }
}

/// All routes. The first row that matches a request is used.
pub(in crate::api) const TABLE: [Row; 20] = [
    Row {
        path: "/hydrant/openapi.json",
        route: Route::OpenApi,
        name: "openapi",
        summary: "This description",
        text: "It is the same for all callers and reveals only the version of this server, so it needs no credentials.",
        access: Access::Anybody,
        answers: ok!("OpenAPI 3.1.", "Document"),
        ..PLAIN
    },
    Row {
        path: "/hydrant/asyncapi.json",
        route: Route::AsyncApi,
        name: "asyncapi",
        summary: "The description of the websocket",
        text: "It is the same for all callers and reveals only the version of this server, so it needs no credentials.",
        access: Access::Anybody,
        answers: ok!("AsyncAPI 3.0.", "Document"),
        ..PLAIN
    },
    Row {
        verb: Verb::Any,
        path: "/ws",
        route: Route::Websocket,
        name: "websocket",
        summary: "Open a websocket",
        text: "RFC 6455, version 13. `/hydrant/asyncapi.json` describes the messages. Another method, or a request \
            without an upgrade, gets 400.",
        parameters: &[register(false), SINCE, OVERFLOW, WARNINGS],
        answers: &[Success {
            status: 101,
            text: "The connection is now a websocket.",
            content: &[],
            headers: HANDSHAKE,
        }],
        failures: &[(400, "not a websocket handshake, or an invalid parameter; the message says which")],
        ..PLAIN
    },
    Row {
        path: "/events",
        route: Route::Stream,
        name: "stream",
        summary: "Watch events as Server-Sent Events or NDJSON",
        text: "The events that a websocket with these registrations would receive, as an HTTP response without an end. \
            In front of an endpoint, a request that accepts neither media type is forwarded to the endpoint.",
        parameters: &[
            register(true),
            SINCE,
            OVERFLOW,
            WARNINGS,
            Parameter {
                name: "Last-Event-ID",
                place: ParameterIn::Header,
                required: false,
                text: "The id of the last message received; takes precedence over `since`.",
                schema: TEXT,
                example: "18c5a3f2b1d00e47:12345",
            },
        ],
        answers: &[Success {
            status: 200,
            text: "The stream; it ends when the connection closes.",
            content: &[
                Content { media: "text/event-stream", schema: "EventStream" },
                Content { media: "application/x-ndjson", schema: "Lines" },
            ],
            headers: STREAM,
        }],
        failures: &[
            (400, "no registration, an invalid one (the message has the position), or another invalid parameter"),
            (406, "the client accepts neither media type"),
        ],
        ..PLAIN
    },
    Row {
        verb: Verb::Post,
        path: "/events",
        route: Route::Events,
        name: "post",
        summary: "Post events",
        text: "One event, an array of events, or one event per line. All are accepted or none: after 204 the events \
            have their position in the order. `Content-Encoding` may be `gzip` or `deflate`.",
        access: Access::Claim("events/post/*"),
        body: &[Content { media: JSON, schema: "Posted" }, Content { media: "application/x-ndjson", schema: "Lines" }],
        answers: &[Success { status: 204, text: "The events were sequenced.", content: &[], headers: &[] }],
        failures: &[
            (400, "an invalid event; the message names the element or the line, and the byte"),
            (429, "the inboxes are full, or the principal's quota is used up; no event was accepted"),
            (502, AWAY[2].1),
            (504, AWAY[3].1),
        ],
        ..PLAIN
    },
    Row {
        path: "/info",
        route: Route::Info,
        name: "info",
        summary: "Information about this server",
        text: "In front of an endpoint, the endpoint's information with hydrant's features and stats appended. Every \
            user has the claim info/get.",
        answers: ok!("The server.", "Info"),
        failures: &[AWAY[1], AWAY[2], AWAY[3]],
        ..PLAIN
    },
    Row {
        path: "/users/{name}/token",
        route: Route::UserToken,
        name: "userToken",
        summary: "A token for a user",
        text: "Every user may get tokens for itself. Parameters restrict the rights of the token and never extend \
            them.",
        access: Access::Claim("users/token/{name}"),
        in_path: USER,
        parameters: &WISHES,
        answers: TOKEN,
        failures: &ISSUING,
        ..PLAIN
    },
    Row {
        verb: Verb::Post,
        path: "/users/{name}/token",
        route: Route::PostUserToken,
        name: "postUserToken",
        summary: "A token for a user, with the parameters in the body",
        access: Access::Claim("users/token/{name}"),
        in_path: USER,
        body: &[Content { media: JSON, schema: "TokenWish" }],
        answers: TOKEN,
        failures: &ISSUING,
        ..PLAIN
    },
    Row {
        path: "/machines/{uuid}/token",
        route: Route::MachineToken,
        name: "machineToken",
        summary: "A token for the agent of a machine",
        text: "Its principal is `runner:UUID`.",
        access: Access::Claim("machines/token/{uuid}"),
        in_path: MACHINE,
        parameters: &WISHES,
        answers: TOKEN,
        failures: &ISSUING,
        ..PLAIN
    },
    Row {
        path: "/connections",
        route: Route::Connections,
        name: "connections",
        summary: "List connections",
        text: "Without the claim, the list is empty. The filters take a value, `Eq(value)`, `Ne(value)` or \
            `In(value,...)`. `Spec` takes the text of a registration and lists only hydrant's own websockets and \
            streams, and of these only those for which the caller also has connections/get. In front of an \
            endpoint, lists without `Spec` also contain its connections, each with the field `Endpoint`; if the \
            endpoint has not returned them, the answer has the header `X-Hydrant-Incomplete`.",
        access: Access::Claim("connections/list/*"),
        parameters: &[
            query("Type", "Filter: the kind of connection.", TEXT, "websocket"),
            query("Principal", "Filter: the principal of the connection.", TEXT, "user:rocketskates"),
            query("RemoteAddr", "Filter: address and port of the client.", TEXT, "192.0.2.1:51234"),
            query("Spec", "Only connections with exactly this registration.", TEXT, "machines.*.*"),
            query("sort", "`queued`: most queued bytes first. Other values are ignored.", TEXT, "queued"),
            LIMIT,
        ],
        answers: ok!("The connections.", "Connections", CONNECTIONS),
        failures: &[(400, "a filter with another operator, or an invalid limit")],
        ..PLAIN
    },
    Row {
        path: "/connections/{address}",
        route: Route::Connection,
        name: "connection",
        summary: "Get a connection",
        text: "A websocket or a stream with its registrations. Without the claim, the answer is 404.",
        access: Access::Claim("connections/get/{address}"),
        in_path: ADDRESS,
        answers: ok!("The connection.", "Connection"),
        failures: &AWAY,
        ..PLAIN
    },
    Row {
        verb: Verb::Delete,
        path: "/connections/{address}",
        route: Route::DeleteConnection,
        name: "deleteConnection",
        summary: "Close a websocket or a stream",
        text: "With 1001.",
        access: Access::Claim("connections/delete/{address}"),
        in_path: ADDRESS,
        answers: ok!("The connection that was closed.", "Connection"),
        failures: &AWAY,
        ..PLAIN
    },
    runners("/machines/{uuid}/connections", "machines", "machineConnections", "machines/get/{uuid}"),
    runners("/clusters/{uuid}/connections", "clusters", "clusterConnections", "clusters/get/{uuid}"),
    runners(
        "/resource_brokers/{uuid}/connections",
        "resource_brokers",
        "resourceBrokerConnections",
        "resource_brokers/get/{uuid}",
    ),
    Row {
        path: "/hydrant/status",
        route: Route::Status,
        name: "status",
        summary: "State of the broker",
        text: "The most important figures of `/metrics`, rates of the last seconds, shards, links. Not available to \
            users of a tenant.",
        access: Access::Claim("connections/list/*"),
        answers: ok!("The current figures.", "Status"),
        ..PLAIN
    },
    Row {
        path: "/hydrant/registrations",
        route: Route::Registrations,
        name: "registrations",
        summary: "The most active registrations",
        text: "At most 100 of each shard; not available to users of a tenant. With `connection`, the registrations of \
            one connection, which requires the claim connections/get.",
        access: Access::Claim("connections/list/*"),
        parameters: &[
            query("connection", "Address and port of a connection.", TEXT, "192.0.2.1:51234"),
            query("sort", "The figure to sort by, largest first.", r#"{"enum":["hits","deliveries","work"]}"#, "hits"),
            LIMIT,
        ],
        answers: ok!("The registrations.", "Registrations", REGISTRATIONS),
        failures: &[(400, "an unknown order, or an invalid limit"), AWAY[0]],
        ..PLAIN
    },
    Row {
        verb: Verb::Post,
        path: "/hydrant/explain",
        route: Route::Explain,
        name: "explain",
        summary: "Explain why an event does or does not reach a client",
        text: "Events, users and connections that the caller may not see are answered with 404.",
        body: &[Content { media: JSON, schema: "Question" }],
        answers: ok!("The explanation.", "Explanation"),
        failures: &[
            (400, "invalid parameters, an invalid event or registration, or too much work for one request"),
            AWAY[0],
        ],
        ..PLAIN
    },
    Row {
        verb: Verb::Post,
        path: "/hydrant/check",
        route: Route::Check,
        name: "check",
        summary: "Check a registration for mistakes",
        text: "Also counts how many of the last 1,000 events visible to the caller it would have matched.",
        body: &[Content { media: JSON, schema: "SpecToCheck" }],
        answers: ok!("What was found.", "Checked"),
        failures: &[(400, "an invalid registration; the messages have the position")],
        ..PLAIN
    },
    Row {
        path: "/hydrant/me",
        route: Route::Me,
        name: "me",
        summary: "Identify the caller",
        answers: ok!("Principal and claims.", "Me"),
        ..PLAIN
    },
];
