//! Holds answers to the server's own description of them: every answer that a test gets from a hydrant without an
//! endpoint behind it, by `hydrant::api::openapi`, and messages of websockets by the schemas beside it.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::LazyLock;

use boon::{Compiler, SchemaIndex, Schemas};
use hydrant::api::openapi::{ASYNCAPI, OPENAPI};
use parking_lot::RwLock;
use serde_json::Value;

use super::http::Reply;

/// Where servers listen that answer all requests themselves.
static ALONE: RwLock<Option<HashSet<SocketAddr>>> = RwLock::new(None);

static DOCUMENT: LazyLock<Document> = LazyLock::new(Document::new);

/// As long as it lives, answers from an address are checked.
#[derive(Debug)]
pub struct Described(SocketAddr);

impl Described {
    /// Of a server with these settings.
    pub fn at(address: SocketAddr, toml: &str) -> Option<Self> {
        if toml.contains("upstream") {
            return None;
        }
        ALONE.write().get_or_insert_default().insert(address);
        Some(Self(address))
    }
}

impl Drop for Described {
    fn drop(&mut self) {
        if let Some(alone) = ALONE.write().as_mut() {
            alone.remove(&self.0);
        }
    }
}

struct Document {
    openapi: Value,
    schemas: Schemas,
    /// By their location.
    indices: HashMap<String, SchemaIndex>,
}

impl Document {
    fn new() -> Self {
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        compiler.enable_format_assertions();
        let mut indices = HashMap::new();
        let [openapi, _] = [("openapi", &*OPENAPI), ("asyncapi", &*ASYNCAPI)].map(|(name, text)| {
            let document: Value = serde_json::from_slice(text).unwrap();
            compiler.add_resource(&format!("http://hydrant/{name}.json"), document.clone()).unwrap();
            for schema in document["components"]["schemas"].as_object().unwrap().keys() {
                let location = format!("http://hydrant/{name}.json#/components/schemas/{schema}");
                indices.insert(location.clone(), compiler.compile(&location, &mut schemas).unwrap());
            }
            document
        });
        Self { openapi, schemas, indices }
    }

    /// The operations of a path, if it is one of the document's.
    fn operations(&self, path: &str) -> Option<&Value> {
        let path = path.split('?').next()?.strip_prefix("/api/v3")?;
        let fits = |template: &str| {
            let mut segments = path.split('/');
            let same =
                template.split('/').all(|name| segments.next().is_some_and(|s| name.starts_with('{') || name == s));
            same && segments.next().is_none()
        };
        self.openapi["paths"].as_object()?.iter().find(|(template, _)| fits(template)).map(|(_, found)| found)
    }

    fn validate(&self, location: &str, value: &Value) -> Result<(), String> {
        let index = self.indices[location];
        self.schemas.validate(value, index).map_err(|error| format!("{error:#}"))
    }
}

/// Checks an answer, if it is one of a server that is checked.
pub fn check(from: SocketAddr, method: &str, path: &str, reply: &Reply) {
    if ALONE.read().as_ref().is_some_and(|alone| alone.contains(&from)) {
        check_answer(method, path, reply);
    }
}

fn check_answer(method: &str, path: &str, reply: &Reply) {
    let Some(operations) = DOCUMENT.operations(path) else { return };
    let name = if method == "HEAD" { "get".to_owned() } else { method.to_ascii_lowercase() };
    let Some(operation) = operations.get(&name) else { return };
    let status = reply.status.as_u16();
    let what = format!("{method} {path}: {status}");
    let mut answer = &operation["responses"][status.to_string()];
    assert!(!answer.is_null(), "{what} is not among the answers of the document: {}", reply.body);
    if let Some(target) = answer["$ref"].as_str() {
        answer = DOCUMENT.openapi.pointer(&target[1..]).unwrap();
    }
    for (name, header) in answer["headers"].as_object().into_iter().flatten() {
        let value = reply.header(name);
        assert!(!value.is_empty() || header["required"] == false, "{what} lacks {name}");
        let known = header["schema"]["enum"].as_array().filter(|_| !value.is_empty());
        assert!(known.is_none_or(|known| known.iter().any(|one| one == value)), "{what}: {name}: {value}");
    }
    let Some(contents) = answer["content"].as_object() else {
        return assert_eq!(reply.body, "", "{what} has a body");
    };
    let media = reply.header("content-type");
    let content = contents.get(media).unwrap_or_else(|| panic!("{what} is {media}"));
    if media == "application/json" && method != "HEAD" {
        let schema = content["schema"]["$ref"].as_str().unwrap();
        let value = match serde_json::from_str(&reply.body) {
            Ok(value) => value,
            // Deeper than this parser goes; the schema of such an answer is recursive and seen in others.
            Err(error) if error.to_string().contains("recursion limit") => return,
            Err(error) => panic!("{what}: {error} in {}", reply.body),
        };
        if let Err(error) = DOCUMENT.validate(&format!("http://hydrant/openapi.json{schema}"), &value) {
            panic!("{what} is not as the document has it: {error} in {}", reply.body);
        }
    }
}

/// Checks an answer to a command, or a notice of the broker. What a producer's events have is told by [`super::Seen`].
pub fn check_message(text: &str) {
    // Of most events this is enough to know that they are none of these.
    if !["websocket", "hydrant"].iter().any(|kind| text.contains(&format!(r#","Type":"{kind}","#))) {
        return;
    }
    let event: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    let schema = match ["Type", "Action", "Key"].map(|name| event[name].as_str().unwrap_or_default()) {
        ["websocket", "error", _] => "Refusal",
        ["websocket", _, _] => "Answer",
        ["hydrant", _, "queue"] => "QueueGap",
        ["hydrant", _, "replay"] => "ReplayGap",
        ["hydrant", _, _] => "Gap",
        _ => return,
    };
    if let Err(error) = message(schema, text) {
        panic!("{text} is not as the document has it: {error}");
    }
}

/// What is wrong with a message of a websocket, by the schema of this name.
pub fn message(schema: &str, text: &str) -> Result<(), String> {
    let value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    DOCUMENT.validate(&format!("http://hydrant/asyncapi.json#/components/schemas/{schema}"), &value)
}
