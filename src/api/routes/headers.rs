//! The headers of answers. Pure data of the table.

use super::declare::Header;

const TEXT: &str = r#"{"type":"string"}"#;

const POSITION: Header = Header {
    name: "X-Hydrant-Sequence",
    text: "The position of the next event, for `since` at a later time.",
    schema: TEXT,
    required: true,
};

/// Of the answer to a websocket handshake.
pub(super) const HANDSHAKE: &[Header] = &[POSITION];

/// Of a stream.
pub(super) const STREAM: &[Header] = &[
    POSITION,
    Header {
        name: "X-Hydrant-Ping",
        text: "Seconds of silence after which the server gives a sign of life.",
        schema: TEXT,
        required: true,
    },
];

/// Of lists that may contain connections of the endpoint.
pub(super) const CONNECTIONS: &[Header] = &[Header {
    name: "X-Hydrant-Incomplete",
    text: "`endpoint`: the endpoint has not returned its connections, so they are missing.",
    schema: r#"{"enum":["endpoint"]}"#,
    required: false,
}];

/// Of the list of registrations.
pub(super) const REGISTRATIONS: &[Header] = &[Header {
    name: "X-Hydrant-Incomplete",
    text: "`warnings`: the names in registrations were not compared with those of events, so warnings may be missing.",
    schema: r#"{"enum":["warnings"]}"#,
    required: false,
}];
