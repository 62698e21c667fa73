//! Messages that a client receives, and the query it sends: the same for a websocket and a stream. Pure.

use super::error::printable;
use crate::json;
use crate::websocket::frame;

/// Longest query, in bytes, that registrations are put into; proxies commonly accept 8 KiB.
const QUERY_BYTES: usize = 6 << 10;

/// Maximum number of bytes of a refused message that a server repeats.
const ECHO: usize = 256;

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

/// Returns whether a text of Type `websocket` answers the registration of `spec`. Its Key is the SPEC, or the refused
/// message, which may be cut.
pub(super) fn answers(text: &str, spec: &str) -> bool {
    let key = field(text, "Key").unwrap_or_default();
    let message = format!("register {spec}");
    match field(text, "Action").as_deref() {
        Some("register") => key.trim() == spec.trim(),
        Some("error") => [spec, &message, frame::cut(&message, ECHO)].iter().any(|sent| key.trim() == sent.trim()),
        _ => false,
    }
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
    fn an_answer_names_what_it_answers() {
        let answer = |action: &str, key: &str| format!(r#"{{"Type":"websocket","Action":"{action}","Key":"{key}"}}"#);
        let long = &*format!("{}.*.*", "a".repeat(300));
        let cut = &*format!("register {}", "a".repeat(256 - "register ".len()));
        for (action, key, spec) in [
            ("register", "a.*.*", "a.*.*"),
            ("register", "a.*.*", " a.*.* "),
            ("error", "register a.*.*", "a.*.*"),
            ("error", "a.*.*", "a.*.*"),
            ("error", cut, long),
            ("register", long, long),
        ] {
            assert!(answers(&answer(action, key), spec), "{action} {key}");
        }
        let others =
            [("register", "b.*.*"), ("deregister", "a.*.*"), ("error", ""), ("error", "register"), ("", "a.*.*")];
        for (action, key) in others {
            assert!(!answers(&answer(action, key), "a.*.*"), "{action} {key}");
        }
        assert!(!answers(&answer("error", &cut[..255]), long));
        assert!(!answers("{}", "a.*.*"));
    }

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
