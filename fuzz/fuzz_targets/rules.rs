//! Filters as RackN's event router writes them: `event.Type` and the like mean the event itself, as `Type` does, unless
//! Object has a field of that name. Any Object, any names and any operator; nothing panics.

#![no_main]

use hydrant::event::{Draft, Event};
use hydrant::index::filter::{Engine, Filter, Limits, View};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// What an event has besides the fields of its Object.
const FIELDS: [&str; 7] = ["Type", "Action", "Key", "Principal", "Time", "Object.a", "Original.a"];

/// Returns whether an event passes a filter; nothing if it is none.
fn passes(text: &str, event: &Event) -> Option<bool> {
    let filter = Filter::parse(text, &Limits { text: 1 << 20, ..Limits::default() }).ok()?;
    let mut engine = Engine::new();
    let id = engine.intern(&filter);
    Some(engine.begin(View::event(event)).matches(id))
}

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(5, '\n');
    let [kind, action, key, object, rule] = std::array::from_fn(|_| lines.next().unwrap_or_default());
    let Ok(members) = serde_json::from_str::<Value>(object) else { return };
    let compact = members.to_string();
    let mut draft = Draft::new(kind, action, key);
    (draft.object, draft.original) = (&compact, "{\"a\":1}");
    let event = draft.seal(Timestamp::UNIX_EPOCH);
    // It compares Original with Object, and the event itself is neither.
    if rule.contains("Changed") {
        return;
    }
    for field in FIELDS {
        let first = field.split('.').next().expect("a name");
        let plain = passes(&format!("{field}={rule}"), &event);
        let routed = passes(&format!("event.{field}={rule}"), &event);
        assert_eq!(plain.is_some(), routed.is_some(), "{field}={rule}");
        if members.get("event").is_none() && members.get(first).is_none() {
            assert_eq!(plain, routed, "{field}={rule} of {compact}");
        }
    }
});
