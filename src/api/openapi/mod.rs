//! Machine-readable descriptions of the API: OpenAPI 3.1 of the routes, AsyncAPI 3.0 of the websocket.
//!
//! Both are generated from the router's table ([`super::routes`]). The schemas of bodies are written by hand in
//! `schemas.json`, because deriving them would slow down every build. Tests verify answers against them:
//! `tests/common/document.rs` checks every answer that a test receives.
//!
//! Contract: the same for every caller; they contain nothing about this server but its version. Generated once.

mod paths;
mod websocket;

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::Value;

use super::answer;
use crate::transport::listener::Answer;

/// The OpenAPI 3.1 document of the routes.
pub static OPENAPI: LazyLock<Bytes> = LazyLock::new(|| text(&paths::document(&schemas())));

/// The AsyncAPI 3.0 document of the websocket.
pub static ASYNCAPI: LazyLock<Bytes> = LazyLock::new(|| text(&websocket::document(&schemas())));

/// Returns the schemas of bodies and messages, by name.
fn schemas() -> Value {
    read(include_str!("schemas.json"))
}

/// Parses JSON embedded in the sources.
fn read(json: &str) -> Value {
    serde_json::from_str(json).expect("a test reads all of it")
}

fn text(document: &Value) -> Bytes {
    document.to_string().into()
}

/// Returns the answer that contains one of the documents.
pub(super) fn answer(document: &LazyLock<Bytes>) -> Answer {
    answer::json(StatusCode::OK, (**document).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Collects the targets of all references.
    fn references<'v>(value: &'v Value, into: &mut Vec<&'v str>) {
        match value {
            Value::Object(members) => {
                into.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, into));
            }
            Value::Array(elements) => elements.iter().for_each(|element| references(element, into)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_no_schema_is_left_over() {
        let documents = [&*OPENAPI, &*ASYNCAPI].map(|text| serde_json::from_slice::<Value>(text).unwrap());
        let mut all = Vec::new();
        for document in &documents {
            let mut found = Vec::new();
            references(document, &mut found);
            for target in &found {
                let pointer = target.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{target}");
            }
            all.extend(found);
        }
        for name in schemas().as_object().unwrap().keys() {
            let target = format!("#/components/schemas/{name}");
            assert!(all.contains(&target.as_str()), "{name} is not used");
        }
    }
}
