//! A filter's canonical text reads back as the same filter, and nothing panics.

#![no_main]

use hydrant::index::filter::{Filter, Limits};
use libfuzzer_sys::fuzz_target;

/// The canonical text quotes and escapes, so it may be longer than what it was made from.
const AGAIN: usize = 1 << 20;

fuzz_target!(|text: &str| {
    let limits = Limits::default();
    let Ok(filter) = Filter::parse(text, &limits) else { return };
    let printed = filter.to_string();
    let again = Filter::parse(&printed, &Limits { text: AGAIN, ..limits });
    assert_eq!(again.as_ref(), Ok(&filter), "{printed}");
});
