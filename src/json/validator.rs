//! Validates JSON with simd-json, reusing its buffers.

use std::cell::Cell;
use std::mem;

use simd_json::{Buffers, INPUT_PADDING, Node, Tape};
use thiserror::Error;

use super::diagnose::{Fault, Finding, diagnose, not_text};
use super::value::{Brackets, Value};

/// Maximum that a thread retains of each kind of memory, in bytes; the memory for a larger body is released.
const KEPT: usize = 1 << 20;

/// Maximum of simd-json's own memory per byte of text: an offset of four bytes, for brackets and commas alone.
const BYTES_PER_BYTE: usize = 4;

thread_local! {
    static SPARE: Cell<Option<Validator>> = const { Cell::new(None) };
}

/// The reason why a text is not accepted as JSON.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{}at byte {offset}: {fault}", if fault.is_choice() { "" } else { "not valid JSON " })]
pub struct JsonError {
    /// Offset of the first byte that is wrong.
    pub offset: usize,
    /// The kind of error.
    pub fault: Fault,
    /// The element of the outermost array that contains the error: its index and its byte offset.
    pub element: Option<(usize, usize)>,
}

impl From<Finding> for JsonError {
    fn from(Finding { offset, fault, element }: Finding) -> Self {
        Self { offset, fault, element }
    }
}

/// Validates and parses texts; its memory is reused.
pub struct Validator {
    /// A copy of the text, in which simd-json decodes strings, padded for vector reads beyond the end.
    scratch: Vec<u8>,
    buffers: Buffers,
    /// Empty between two texts.
    tape: Tape<'static>,
    brackets: Brackets,
}

impl Default for Validator {
    fn default() -> Self {
        Self { scratch: Vec::new(), buffers: Buffers::default(), tape: Tape(Vec::new()), brackets: Brackets::default() }
    }
}

impl std::fmt::Debug for Validator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Validator").finish_non_exhaustive()
    }
}

impl Validator {
    /// Lends the validator of this thread to `work`, so that texts need no new memory.
    pub fn lend<R>(work: impl FnOnce(&mut Self) -> R) -> R {
        let mut validator = SPARE.take().unwrap_or_default();
        let result = work(&mut validator);
        if validator.is_small() {
            SPARE.set(Some(validator));
        }
        result
    }

    /// Returns whether the retained memory is below its limit. The size of `buffers` is not known, but grows with the
    /// text or its tokens, as the rest does.
    fn is_small(&self) -> bool {
        let tape = self.tape.0.capacity() * size_of::<Node<'_>>();
        self.scratch.capacity().max(tape).max(self.brackets.bytes()) <= KEPT
    }

    /// Checks whether `text` is one JSON value, surrounded only by white space.
    ///
    /// # Errors
    /// Returns a [`JsonError`] with the offset. Nesting deeper than 1,024 (simd-json's own limit) is an error too.
    pub fn validate<'t>(&mut self, text: &'t [u8]) -> Result<&'t str, JsonError> {
        self.read(text).map(|value| value.whole())
    }

    /// Parses `text` as one JSON value, surrounded only by white space.
    ///
    /// # Errors
    /// As [`Validator::validate`].
    pub fn read<'t>(&mut self, text: &'t [u8]) -> Result<Value<'t, '_>, JsonError> {
        let text = simdutf8::compat::from_utf8(text).map_err(|e| not_text(text, e.valid_up_to()))?;
        self.scratch.clear();
        self.scratch.extend_from_slice(text.as_bytes());
        self.scratch.resize(text.len() + INPUT_PADDING, b' ');
        let mut tape = mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let outcome = simd_json::fill_tape_padded(&mut self.scratch, text.len(), &mut self.buffers, &mut tape);
        self.tape = tape.reset();
        match outcome {
            Ok(()) => {
                let offsets = self.buffers.structural_indexes();
                self.brackets.read(text, offsets);
                Ok(Value::new(text, offsets, &self.brackets))
            }
            Err(e) => {
                self.release_buffers(text.len());
                Err(refused(text, &e))
            }
        }
    }

    /// Releases the buffers, which may have grown for an invalid text: their size is not available then.
    fn release_buffers(&mut self, length: usize) {
        if length > KEPT / BYTES_PER_BYTE {
            self.buffers = Buffers::default();
        }
    }
}

#[cold]
fn refused(text: &str, error: &simd_json::Error) -> JsonError {
    let unsaid = || Finding { offset: error.index(), fault: Fault::Parser(reason(error)), element: None };
    diagnose(text).unwrap_or_else(unsaid).into()
}

/// Returns the reason of an error: simd-json names its errors by variants, whose name is split into words.
fn reason(error: &simd_json::Error) -> String {
    let name = format!("{:?}", error.error());
    let mut words = String::with_capacity(name.len() + 8);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lent_validator_is_used_again_unless_it_has_grown() {
        let capacity = |validator: &mut Validator| validator.scratch.capacity();
        let check = |text: &[u8]| Validator::lend(|validator| assert!(validator.validate(text).is_ok()));
        check(b"[1]");
        assert!((1..KEPT).contains(&Validator::lend(capacity)));
        let (long, many) = (format!("\"{}\"", "x".repeat(KEPT)), format!("[{}1]", "1,".repeat(KEPT / 16)));
        for large in [long, many] {
            check(large.as_bytes());
            assert_eq!(Validator::lend(capacity), 0);
        }
        let few = format!("[{}", "[],".repeat(KEPT / 8));
        Validator::lend(|validator| {
            assert!(validator.validate(few.as_bytes()).is_err());
            let offsets = validator.buffers.structural_indexes().len();
            assert_eq!(offsets, 0, "the places of a text that is not JSON are not kept");
        });
        // Nested lends use two validators.
        check(b"[1]");
        Validator::lend(|_| assert_eq!(Validator::lend(capacity), 0));
    }
}
