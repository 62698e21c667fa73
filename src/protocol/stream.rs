//! Heartbeats and the end of a connection, in the form that fits the connection.
//!
//! A websocket has frames for both. A Server-Sent Events stream has a comment and an event named `close`. NDJSON has
//! an empty line and a line of Type `hydrant`. Both streams end after the close.

use std::borrow::Cow;

use serde_json::json;

use super::Close;
use super::gap::HYDRANT;
use crate::websocket::frame::{self, Encoding};

/// Returns what keeps a connection alive and shows the client that the server is alive.
pub fn heartbeat(encoding: Encoding) -> &'static [u8] {
    match encoding {
        Encoding::Plain | Encoding::Deflate => frame::PING,
        Encoding::EventStream => b":\n\n",
        Encoding::Lines => b"\n",
    }
}

/// Returns the last message to a client: the code and reason with which its connection ends.
pub fn last(encoding: Encoding, close: Close) -> Box<[u8]> {
    let (code, reason): (u16, Cow<'_, str>) = (close.code(), close.reason());
    let object = json!({"Code": code, "Reason": reason});
    match encoding {
        Encoding::Plain | Encoding::Deflate => frame::close(code, &reason),
        Encoding::EventStream => format!("event: close\ndata: {object}\n\n").into_bytes().into(),
        Encoding::Lines => {
            let line = json!({"Type": HYDRANT, "Action": "close", "Key": code.to_string(), "Object": object});
            format!("{line}\n").into_bytes().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_says_why_it_ends() {
        let last = |encoding| String::from_utf8(last(encoding, Close::Draining).into_vec()).unwrap();
        let object = r#"{"Code":1001,"Reason":"server is shutting down"}"#;
        assert_eq!(last(Encoding::EventStream), format!("event: close\ndata: {object}\n\n"));
        let line: serde_json::Value = serde_json::from_str(&last(Encoding::Lines)).unwrap();
        assert_eq!(
            (&line["Type"], &line["Key"], &line["Object"]["Code"]),
            (&json!("hydrant"), &json!("1001"), &json!(1001))
        );
    }
}
