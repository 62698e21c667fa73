//! A command has the SPEC that follows its verb, a registration written out reads back as the same one, and nothing
//! panics.

#![no_main]

use hydrant::index::filter::Limits;
use hydrant::index::{Field, Spec};
use hydrant::protocol::{Command, without_values};
use libfuzzer_sys::fuzz_target;

/// Escapes make the text longer than what it was made from.
const AGAIN: usize = 1 << 20;

/// The names with what separates them escaped.
fn print(field: &Field) -> String {
    let escape = |name: &str| name.replace('.', r"\1").replace(',', r"\2").replace('*', r"\3");
    let names: Vec<String> = field.iter().map(|name| name.map_or("*".to_owned(), escape)).collect();
    names.join(",")
}

fuzz_target!(|text: &str| {
    let limits = Limits::default();
    let _ = (Command::parse(text), without_values(text));
    let command = format!("register {text}");
    assert!(Command::parse(&command).map_or_else(|_| text.trim().is_empty(), |parsed| parsed.spec() == text.trim()));
    let Ok(spec) = Spec::parse(text, &limits) else { return };
    let mut printed = [&spec.kind, &spec.action, &spec.key].map(print).join(".");
    if let Some(filter) = &spec.filter {
        printed.push('.');
        printed.push_str(&filter.to_string());
    }
    let again = Spec::parse(&printed, &Limits { text: AGAIN, ..limits });
    assert_eq!(again.as_ref(), Ok(&spec), "{printed}");
});
