//! What a client receives of a server, and what it asks for in the query: the same by websocket and by stream. Pure.

use super::error::printable;
use crate::json;

/// Registrations stand in the query if it stays shorter than this; proxies commonly take 8 KiB.
const QUERY_BYTES: usize = 6 << 10;

/// What is received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// An event, as the server wrote it.
    Event(String),
    /// The server took a registration; events that it matches follow.
    Registered(Registered),
    /// An event that was longer than the client takes was left out.
    Skipped {
        /// How long it was.
        bytes: u64,
    },
}

/// A registration that the server took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The registration.
    pub spec: String,
    /// What the server finds odd about it.
    pub warnings: Vec<String>,
}

/// The answer to a registration that was taken.
pub(super) fn registered(spec: String, answer: &str) -> Registered {
    Registered { spec, warnings: texts(answer, "Warnings") }
}

/// A text field of an event.
pub(super) fn field(text: &str, name: &str) -> Option<String> {
    let member = json::members(text).find(|member| member.name() == name)?;
    json::as_string(member.value).map(std::borrow::Cow::into_owned)
}

/// The messages of an answer with Action `error`.
pub(super) fn complaint(text: &str) -> String {
    let texts = texts(text, "Messages");
    if texts.is_empty() { "no reason given".to_owned() } else { texts.join("; ") }
}

/// The texts of a list in the Object of an answer.
fn texts(answer: &str, name: &str) -> Vec<String> {
    let member = |text, name| json::members(text).find(|member| member.name() == name);
    let list = member(answer, "Object").and_then(|object| member(object.value, name));
    list.map(|list| json::elements(list.value).map(|text| printable(&json::unquote(text))).collect())
        .unwrap_or_default()
}

/// The query that asks for the past and registers.
pub(super) fn query(since: Option<&str>, specs: &[String]) -> String {
    let specs = specs.iter().map(|spec| ("register", spec.as_str()));
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(since.map(|since| ("since", since)).into_iter().chain(specs))
        .finish()
}

/// Whether a query is short enough for what lies between here and the server.
pub(super) fn fits_query(query: &str) -> bool {
    query.len() <= QUERY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_registrations_keep_the_servers_words() {
        let answer = r#"{"Type":"websocket","Action":"error","Object":{"Messages":["bad filter at 3","see\u0007"]}}"#;
        assert_eq!(complaint(answer), "bad filter at 3; see\u{fffd}");
        assert_eq!(complaint("{}"), "no reason given");
        let odd = r#"{"Type":"websocket","Action":"register","Object":{"Warnings":["a","b"]}}"#;
        assert_eq!(texts(odd, "Warnings"), ["a", "b"]);
        assert!(texts(r#"{"Object":null}"#, "Warnings").is_empty());
    }
}
