//! The table of all routes: who may call each, its parameters and its answers.

use super::declare::{Access, Content, Failure, InPath, Parameter, Place, Route, Row, Success, Verb};

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
        &[Success { status: 200, text: $text, content: &[Content { media: JSON, schema: $schema }], headers: &[] }]
    };
}

const fn query(name: &'static str, text: &'static str, schema: &'static str, example: &'static str) -> Parameter {
    Parameter { name, place: Place::Query, required: false, text, schema, example }
}

const LIMIT: Parameter = query("limit", "At most so many.", r#"{"type":"integer","minimum":0}"#, "100");

const SINCE: Parameter = query(
    "since",
    "From where on the past is wanted: a time (RFC 3339) or EPOCH:SEQUENCE.",
    TEXT,
    "2026-01-02T03:04:05Z",
);

const OVERFLOW: Parameter = query(
    "overflow",
    "What happens if the client does not read as fast as events come; only what the caller may ask for.",
    r#"{"enum":["disconnect","drop-oldest","conflate"]}"#,
    "conflate",
);

const WARNINGS: Parameter =
    query("warnings", "`0`: no warnings in the answers to suspicious registrations.", r#"{"enum":["0","1"]}"#, "0");

const fn register(required: bool) -> Parameter {
    Parameter {
        name: "register",
        place: Place::Repeated,
        required,
        text: "A registration, TYPE.ACTION.KEY with an optional filter; each is answered before the first event.",
        schema: TEXT,
        example: "machines.*.*",
    }
}

/// The parameters of token requests.
const WISHES: [Parameter; 5] = [
    query("ttl", "How long it lives: seconds, or `30m`, `12h`, `7d`.", TEXT, "30m"),
    query("roles", "Only these of the subject's roles, a comma list.", TEXT, "superuser"),
    query("scope", "Only this scope.", TEXT, "machines"),
    query("action", "Only this action.", TEXT, "get"),
    query("specific", "Only this object.", TEXT, "*"),
];

const ADDRESS: Option<InPath> = Some(InPath {
    text: "Address and port of the client, as the list has it.",
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
    (404, "there is no such object, or the caller may not know of it"),
    (408, "the request stood still on its way to the endpoint"),
    (502, "the endpoint cannot be reached, or its connection broke"),
    (504, "the endpoint does not answer"),
];

const ISSUING: [Failure; 6] = [
    (400, "a wish that is none, or too long a life"),
    AWAY[0],
    AWAY[1],
    AWAY[2],
    AWAY[3],
    (500, "the system gives no random numbers"),
];

const TOKEN: &[Success] = ok!("The token and what it is good for.", "Issued");

const HANDSHAKE: [(&str, &str); 1] =
    [("X-Hydrant-Sequence", "The position of the next event, for `since` at a later time.")];

/// Returns the row that lists the connections of the agents of a model.
const fn runners(path: &'static str, model: &'static str, name: &'static str, access: &'static str) -> Row {
    Row {
        path,
        route: Route::RunnerConnections(model),
        name,
        summary: "The connections of an agent",
        text: "Those whose principal is `runner:UUID`.",
        access: Access::Claim(access),
        in_path: UUID,
        answers: ok!("The connections.", "Connections"),
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
        text: "It is the same for everybody and says nothing of this server but its version, so it needs no credentials.",
        access: Access::Anybody,
        answers: ok!("OpenAPI 3.1.", "Document"),
        ..PLAIN
    },
    Row {
        path: "/hydrant/asyncapi.json",
        route: Route::AsyncApi,
        name: "asyncapi",
        summary: "The description of the websocket",
        text: "It is the same for everybody and says nothing of this server but its version, so it needs no credentials.",
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
        text: "RFC 6455, version 13. What is said on it is described by `/hydrant/asyncapi.json`. Another method, or a \
               request that asks for no upgrade, is 400.",
        parameters: &[register(false), SINCE, OVERFLOW, WARNINGS],
        answers: &[Success {
            status: 101,
            text: "The protocol is a websocket from here on.",
            content: &[],
            headers: &HANDSHAKE,
        }],
        failures: &[(400, "not a websocket handshake, or a parameter that cannot be read; the message says which")],
        ..PLAIN
    },
    Row {
        path: "/events",
        route: Route::Stream,
        name: "stream",
        summary: "Watch events as Server-Sent Events or NDJSON",
        text: "The stream of a websocket with these registrations, as an ordinary answer without an end. In front of an \
               endpoint a request that asks for neither form is the endpoint's.",
        parameters: &[
            register(true),
            SINCE,
            OVERFLOW,
            WARNINGS,
            Parameter {
                name: "Last-Event-ID",
                place: Place::Header,
                required: false,
                text: "The id of the last message; goes before `since`.",
                schema: TEXT,
                example: "18c5a3f2b1d00e47:12345",
            },
        ],
        answers: &[Success {
            status: 200,
            text: "The stream; it ends with the connection.",
            content: &[
                Content { media: "text/event-stream", schema: "EventStream" },
                Content { media: "application/x-ndjson", schema: "Lines" },
            ],
            headers: &HANDSHAKE,
        }],
        failures: &[
            (400, "no registration, one that cannot be read (with the place), or another parameter that cannot"),
            (406, "neither form is accepted"),
        ],
        ..PLAIN
    },
    Row {
        verb: Verb::Post,
        path: "/events",
        route: Route::Events,
        name: "post",
        summary: "Post events",
        text: "One event, an array of events, or one a line. All or nothing: after 204 the events have their place in \
               the order. `Content-Encoding` may be `gzip` or `deflate`.",
        access: Access::Claim("events/post/*"),
        body: &[Content { media: JSON, schema: "Posted" }, Content { media: "application/x-ndjson", schema: "Lines" }],
        answers: &[Success { status: 204, text: "The events were sequenced.", content: &[], headers: &[] }],
        failures: &[
            (400, "an event that cannot be taken; the message names the element or the line, and the byte"),
            (429, "the inboxes are full, or the principal's share is used up; nothing was taken"),
            (502, AWAY[2].1),
            (504, AWAY[3].1),
        ],
        ..PLAIN
    },
    Row {
        path: "/info",
        route: Route::Info,
        name: "info",
        summary: "What this server is",
        text: "In front of an endpoint, the endpoint's with hydrant's features and stats appended. Every user has the \
               claim info/get.",
        answers: ok!("The server.", "Info"),
        failures: &[AWAY[1], AWAY[2], AWAY[3]],
        ..PLAIN
    },
    Row {
        path: "/users/{name}/token",
        route: Route::UserToken,
        name: "userToken",
        summary: "A token for a user",
        text: "Every user may have tokens of its own. What is asked for narrows, and never widens, the rights.",
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
        summary: "A token for a user, asked for by a body",
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
        summary: "Who is connected",
        text: "Without the claim the list is empty. The filters take a value, `Eq(value)`, `Ne(value)` or \
               `In(value,...)`. In front of an endpoint its connections follow, each with the field `Endpoint`.",
        access: Access::Claim("connections/list/*"),
        parameters: &[
            query("Type", "Filter: the kind of connection.", TEXT, "websocket"),
            query("Principal", "Filter: whose it is.", TEXT, "user:rocketskates"),
            query("RemoteAddr", "Filter: address and port.", TEXT, "192.0.2.1:51234"),
            query("sort", "`queued`: most queued bytes first. Other orders are passed over.", TEXT, "queued"),
            LIMIT,
        ],
        answers: ok!("The connections.", "Connections"),
        failures: &[(400, "a filter with another operator, or a limit that is no number")],
        ..PLAIN
    },
    Row {
        path: "/connections/{address}",
        route: Route::Connection,
        name: "connection",
        summary: "One connection",
        text: "A websocket or a stream with its registrations. Without the claim it is 404.",
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
        summary: "How the broker is",
        text: "The figures of `/metrics` that people look at first, rates of the last seconds, shards, links. Not for users of \
               a tenant.",
        access: Access::Claim("connections/list/*"),
        answers: ok!("The figures of this moment.", "Status"),
        ..PLAIN
    },
    Row {
        path: "/hydrant/registrations",
        route: Route::Registrations,
        name: "registrations",
        summary: "What registrations do",
        text: "Those that have done most, up to 100 of each shard; not for users of a tenant. With `connection` those of \
               one connection, for which the claim is connections/get.",
        access: Access::Claim("connections/list/*"),
        parameters: &[
            query("connection", "Address and port of a connection.", TEXT, "192.0.2.1:51234"),
            query("sort", "By what.", r#"{"enum":["hits","deliveries","work"]}"#, "hits"),
            LIMIT,
        ],
        answers: ok!("The registrations.", "Registrations"),
        failures: &[(400, "another order, or a limit that is no number"), AWAY[0]],
        ..PLAIN
    },
    Row {
        verb: Verb::Post,
        path: "/hydrant/explain",
        route: Route::Explain,
        name: "explain",
        summary: "Why an event does or does not reach somebody",
        text: "Nobody learns of events, users or connections that he may not see: they are 404.",
        body: &[Content { media: JSON, schema: "Question" }],
        answers: ok!("The explanation.", "Explanation"),
        failures: &[(400, "not a question, an event or registration that is none, or too much at a time"), AWAY[0]],
        ..PLAIN
    },
    Row {
        verb: Verb::Post,
        path: "/hydrant/check",
        route: Route::Check,
        name: "check",
        summary: "What is odd about a registration",
        text: "And how many of the last 1,000 events that the caller may see it would have matched.",
        body: &[Content { media: JSON, schema: "SpecToCheck" }],
        answers: ok!("What was found.", "Checked"),
        failures: &[(400, "it cannot be a registration; the messages have the place")],
        ..PLAIN
    },
    Row {
        path: "/hydrant/me",
        route: Route::Me,
        name: "me",
        summary: "Who the caller is",
        answers: ok!("Principal and claims.", "Me"),
        ..PLAIN
    },
];
