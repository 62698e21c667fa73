//! What a producer posts: nothing panics, what is not JSON for `serde_json` is refused, and an event says what
//! `serde_json` reads in the text.

#![no_main]

use std::fmt;

use hydrant::event::posting::{Form, Posting};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// Returns the last member with this name in any letter case, unless it is `null`.
fn member<'v>(members: &'v [(String, Value)], name: &str) -> Option<&'v Value> {
    let last = members.iter().rev().find(|(known, _)| known.eq_ignore_ascii_case(name));
    last.map(|(_, value)| value).filter(|value| !value.is_null())
}

/// The members of an object in their order, each as often as it is written.
struct Members(Vec<(String, Value)>);

/// Reads them.
struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut all = Vec::new();
        while let Some(member) = map.next_entry()? {
            all.push(member);
        }
        Ok(Members(all))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

fuzz_target!(|body: &[u8]| {
    let now = || Timestamp::UNIX_EPOCH;
    let posting = Posting { principal: "user:a", may_impersonate: true, event_bytes: 1 << 20, events: 16, now };
    let _ = posting.read(body, Form::Lines);
    let Ok(events) = posting.read(body, Form::Json) else { return };
    let text = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    if let Err(error) = serde_json::from_slice::<Value>(text) {
        // It does not nest as deep as an event may.
        assert!(error.to_string().contains("recursion limit"), "accepted, and not JSON: {error}");
    }
    let Ok(Members(written)) = serde_json::from_slice(text) else { return };
    assert_eq!(events.len(), 1);
    let sent: Value = serde_json::from_str(events[0].json()).expect("an event is JSON");
    for (name, value) in [("Type", events[0].kind()), ("Action", events[0].action()), ("Key", events[0].key())] {
        assert_eq!(member(&written, name).map_or("", |value| value.as_str().expect("a string")), value, "{name}");
        assert_eq!(sent[name], value, "{name}");
    }
    for name in ["Object", "Original"] {
        // Secrets of these types are taken out.
        if !matches!(events[0].kind(), "users" | "preferences") {
            assert_eq!(sent[name], member(&written, name).cloned().unwrap_or_default(), "{name}");
        }
    }
});
