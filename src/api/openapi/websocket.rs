//! AsyncAPI 3.0: the messages on the websocket. Its address and parameters are those of the router's row.

use serde_json::{Map, Value, json};

use super::read;
use crate::api::routes::{ParameterIn, Route, Row, TABLE};

/// The messages of the websocket: name, sender, schema, and description.
const MESSAGES: [(&str, Side, &str, &str); 7] = [
    ("command", Side::Client, "Command", "Adds or removes a registration."),
    ("answer", Side::Server, "Answer", "The answer to a command; every message gets exactly one, in order."),
    ("refusal", Side::Server, "Refusal", "The answer to a command that was refused."),
    ("event", Side::Server, "Event", "An event that a registration of this connection matches."),
    ("gapQueue", Side::Server, "QueueGap", "Events for this connection were dropped (policy drop-oldest)."),
    ("gapReplay", Side::Server, "ReplayGap", "Events requested by `since` are no longer retained."),
    (
        "gap",
        Side::Server,
        "Gap",
        "Events of an endpoint or of other nodes are missing; sent only to clients that registered for it.",
    ),
];

/// The sender of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

const ABOUT: &str = "Digital Rebar Provision's websocket protocol: text messages in both directions. Credentials are \
    the same as for the REST API (`Authorization`, or `token` in the query). The server closes with the codes of \
    docs/protocol.md, section 8.";

/// Returns the document with these schemas.
pub(super) fn document(schemas: &Value) -> Value {
    let row = TABLE.iter().find(|row| row.route == Route::Websocket).expect("the router has it");
    let names = |side: Side| {
        let said = MESSAGES.iter().filter(move |(_, other, ..)| *other == side);
        said.map(|(name, ..)| json!({"$ref": format!("#/channels/websocket/messages/{name}")})).collect::<Vec<_>>()
    };
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "hydrant",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {"websocket": channel(row)},
        "operations": {
            "command": {
                "action": "receive",
                "channel": {"$ref": "#/channels/websocket"},
                "messages": names(Side::Client),
                "reply": {
                    "channel": {"$ref": "#/channels/websocket"},
                    "messages": [
                        {"$ref": "#/channels/websocket/messages/answer"},
                        {"$ref": "#/channels/websocket/messages/refusal"},
                    ],
                },
            },
            "watch": {
                "action": "send",
                "channel": {"$ref": "#/channels/websocket"},
                "messages": names(Side::Server),
            },
        },
        "components": {"messages": messages(), "schemas": schemas},
    })
}

fn channel(row: &Row) -> Value {
    let named = |(name, ..): &(&str, Side, &str, &str)| {
        ((*name).to_owned(), json!({"$ref": format!("#/components/messages/{name}")}))
    };
    json!({
        "address": format!("/api/v3{}", row.path),
        "summary": row.summary,
        "description": row.text,
        "messages": MESSAGES.iter().map(named).collect::<Map<_, _>>(),
        "bindings": {"ws": {"method": "GET", "query": query(row), "bindingVersion": "0.1.0"}},
    })
}

/// Returns the schema of the handshake's query parameters.
fn query(row: &Row) -> Value {
    let each = row.parameters.iter().map(|one| {
        let mut schema = read(one.schema);
        if one.place == ParameterIn::Repeated {
            schema = json!({"type": "array", "items": schema});
        }
        schema["description"] = one.text.into();
        (one.name.to_owned(), schema)
    });
    json!({"type": "object", "properties": each.collect::<Map<_, _>>()})
}

fn messages() -> Value {
    let each = MESSAGES.iter().map(|(name, side, schema, text)| {
        let mut message = json!({
            "name": name,
            "summary": text,
            "payload": {"$ref": format!("#/components/schemas/{schema}")},
        });
        if *side == Side::Client {
            message["contentType"] = "text/plain".into();
        }
        ((*name).to_owned(), message)
    });
    each.collect::<Map<_, _>>().into()
}
