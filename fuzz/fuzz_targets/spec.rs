//! No registration makes the parser panic.

#![no_main]

use hydrant::index::{Spec, filter::Limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = Spec::parse(text, &Limits::default());
});
