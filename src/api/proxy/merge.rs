//! Adds hydrant's own part to an answer of the endpoint.
//!
//! Pure, and done on the text: fields keep their order and spelling, numbers their digits, and unknown parts pass
//! unchanged.

use crate::json::{self, Validator};

/// What hydrant adds to `/info`: array elements, each as JSON.
#[derive(Debug, Clone)]
pub(in crate::api) struct Extras {
    /// Features in addition to the endpoint's.
    pub(in crate::api) features: Vec<String>,
    /// Hydrant's own counters.
    pub(in crate::api) stats: Vec<String>,
}

/// Adds `extras` to `features` and `stats` of the endpoint's `/info`; returns `None` if that is not an object.
pub(in crate::api) fn info(theirs: &[u8], extras: &Extras) -> Option<String> {
    let theirs = Validator::default().validate(theirs).ok()?.trim();
    if !theirs.starts_with('{') {
        return None;
    }
    let ours = [("features", &extras.features), ("stats", &extras.stats)];
    let mut fields: Vec<String> = Vec::new();
    let mut met = [false; 2];
    for member in json::members(theirs) {
        let at = ours.iter().position(|(name, _)| *name == member.name());
        let value = at.map_or_else(|| member.value.to_owned(), |at| union(member.value, ours[at].1));
        at.into_iter().for_each(|at| met[at] = true);
        fields.push(format!("{}:{value}", member.name));
    }
    for ((name, elements), _) in ours.iter().zip(met).filter(|(_, met)| !met) {
        fields.push(format!("\"{name}\":{}", union("[]", elements)));
    }
    Some(format!("{{{}}}", fields.join(",")))
}

/// Appends the elements that the array lacks.
fn union(array: &str, more: &[String]) -> String {
    let mut all: Vec<&str> = json::elements(array).collect();
    for element in more {
        if !all.contains(&element.as_str()) {
            all.push(element);
        }
    }
    format!("[{}]", all.join(","))
}

/// A connection of the endpoint.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::api) struct Theirs {
    /// Whose it is, if the endpoint says so.
    pub(in crate::api) principal: Option<Box<str>>,
    /// Its JSON, with the endpoint's name in the field `Endpoint`.
    pub(in crate::api) json: Box<str>,
}

/// Returns the endpoint's connections; returns `None` if that is not a list. Go writes an empty one as `null` too.
pub(in crate::api) fn connections(theirs: &[u8], endpoint: &str) -> Option<Vec<Theirs>> {
    let theirs = Validator::default().validate(theirs).ok()?.trim();
    if !theirs.starts_with('[') && theirs != "null" {
        return None;
    }
    json::elements(theirs).map(|connection| marked(connection, endpoint)).collect()
}

/// Like [`connections`], for the JSON of one connection.
pub(in crate::api) fn connection(theirs: &[u8], endpoint: &str) -> Option<String> {
    Some(marked(Validator::default().validate(theirs).ok()?.trim(), endpoint)?.json.into())
}

fn marked(connection: &str, endpoint: &str) -> Option<Theirs> {
    if !connection.starts_with('{') {
        return None;
    }
    let (mut fields, mut principal) = (Vec::new(), None);
    for member in json::members(connection) {
        match &*member.name() {
            "Endpoint" => continue,
            "Principal" => principal = json::as_string(member.value).map(Into::into),
            _ => {}
        }
        fields.push(format!("{}:{}", member.name, member.value));
    }
    let mut mark = b"\"Endpoint\":".to_vec();
    json::quote(endpoint, &mut mark);
    fields.push(String::from_utf8(mark).expect("JSON is UTF-8"));
    Some(Theirs { principal, json: format!("{{{}}}", fields.join(",")).into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_keeps_what_it_does_not_know() {
        let extras =
            Extras { features: vec!["\"a\"".to_owned(), "\"hydrant\"".to_owned()], stats: vec!["{}".to_owned()] };
        let theirs = r#" {"z":1.0e3,"features":[ "b", "a"],"License":{"x":12345678901234567890}} "#;
        let expected =
            r#"{"z":1.0e3,"features":["b","a","hydrant"],"License":{"x":12345678901234567890},"stats":[{}]}"#;
        assert_eq!(info(theirs.as_bytes(), &extras).unwrap(), expected);
        for bad in ["", "[]", "null", "{", "{\"a\":}"] {
            assert_eq!(info(bad.as_bytes(), &extras), None, "{bad}");
        }
        let null = r#"{"features":null}"#;
        assert_eq!(info(null.as_bytes(), &extras).unwrap(), r#"{"features":["a","hydrant"],"stats":[{}]}"#);
    }

    #[test]
    fn connections_are_marked_once() {
        let theirs = br#"[{"Principal":"user:a","X":1},{"Endpoint":"other"}]"#;
        let expected =
            [r#"{"Principal":"user:a","X":1,"Endpoint":"https://drp:8092"}"#, r#"{"Endpoint":"https://drp:8092"}"#];
        let all = connections(theirs, "https://drp:8092").unwrap();
        assert_eq!(all.iter().map(|one| &*one.json).collect::<Vec<_>>(), expected);
        assert_eq!(connections(b"[1]", "e"), None);
        assert_eq!(connections(b"", "e"), None);
        for nothing in [" [ ]", "null"] {
            assert_eq!(connections(nothing.as_bytes(), "e").unwrap(), [], "{nothing}");
        }
        assert_eq!(connections(b"{}", "e"), None);
        assert_eq!(connection(b"{}", "e").unwrap(), r#"{"Endpoint":"e"}"#);
    }

    /// A tenant hides a connection by its principal, so hydrant must find the one that other readers of JSON find.
    #[test]
    fn whose_a_connection_is_is_read_however_it_is_written() {
        let deep = format!(r#"{{"X":{}{},"Principal":"runner:m"}}"#, "[".repeat(900), "]".repeat(900));
        for (json, principal) in [
            (r#"{"Principal":"user:a"}"#, Some("user:a")),
            (r#"{"Princip\u0061l":"user:\u0061"}"#, Some("user:a")),
            (r#"{"Principal":"user:a","Principal":"user:b"}"#, Some("user:b")),
            (r#"{"Principal":"user:a","Principal":1}"#, None),
            (r#"{"X":{"Principal":"user:a"}}"#, None),
            (&deep, Some("runner:m")),
        ] {
            let all = connections(format!("[{json}]").as_bytes(), "e").unwrap();
            assert_eq!(all[0].principal.as_deref(), principal, "{json}");
        }
    }
}
