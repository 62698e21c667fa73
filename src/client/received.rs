//! Messages that a client receives, and the query it sends: the same for a websocket and a stream. Pure.

use super::error::printable;
use crate::json;

/// Longest query, in bytes, that registrations are put into; proxies commonly accept 8 KiB.
const QUERY_BYTES: usize = 6 << 10;

/// A received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// An event, as the server wrote it.
    Event(String),
    /// The server accepted a registration; events that match it follow.
    Registered(Registered),
    /// An event longer than the client accepts was skipped.
    Skipped {
        /// Its length in bytes.
        bytes: u64,
    },
}

/// A registration that the server accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The registration.
    pub spec: String,
    /// The server's warnings about it.
    pub warnings: Vec<String>,
}

/// Builds the result of an accepted registration from the answer.
pub(super) fn registered(spec: String, answer: &str) -> Registered {
    Registered { spec, warnings: texts(answer, "Warnings") }
}

/// Returns a text field of an event.
pub(super) fn field(text: &str, name: &str) -> Option<String> {
    let member = json::members(text).find(|member| member.name() == name)?;
    json::as_string(member.value).map(std::borrow::Cow::into_owned)
}

/// Returns the messages of an answer with Action `error`.
pub(super) fn complaint(text: &str) -> String {
    let texts = texts(text, "Messages");
    if texts.is_empty() { "no reason given".to_owned() } else { texts.join("; ") }
}

/// Returns the texts of a list in the Object of an answer.
fn texts(answer: &str, name: &str) -> Vec<String> {
    let member = |text, name| json::members(text).find(|member| member.name() == name);
    let list = member(answer, "Object").and_then(|object| member(object.value, name));
    list.map(|list| json::elements(list.value).map(|text| printable(&json::unquote(text)).into_owned()).collect())
        .unwrap_or_default()
}

/// Returns the query that requests the history and registers.
pub(super) fn query(since: Option<&str>, specs: &[String]) -> String {
    let specs = specs.iter().map(|spec| ("register", spec.as_str()));
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(since.map(|since| ("since", since)).into_iter().chain(specs))
        .finish()
}

/// Returns whether proxies on the way to the server will accept a query of this length.
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
