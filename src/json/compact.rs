//! Removes insignificant white space.

use super::block::{BLOCK, Lanes, Strings, padded, position};

/// Appends `text`, which must be valid JSON, to `out` without its insignificant white space.
///
/// Most texts come from machines, which write none: such a text is copied in one piece, and one with spaces in strings
/// only in one piece too, after a look at where its strings are.
pub fn compact(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let (whole, tail) = bytes.as_chunks::<BLOCK>();
    if !has_space(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    let mut runs = Runs { bytes, copied: 0, strings: Strings::default(), out };
    for (at, block) in whole.iter().enumerate() {
        runs.block(block, at * BLOCK);
    }
    runs.block(&padded(tail), whole.len() * BLOCK);
    runs.finish();
}

/// Whether there is any white space, in strings or not.
fn has_space(bytes: &[u8]) -> bool {
    let spaced = |block: &[u8; BLOCK]| Lanes::new(block).spaces() != 0;
    // The last block overlaps the one before it.
    match bytes.last_chunk() {
        Some(last) => bytes.as_chunks().0.iter().any(spaced) || spaced(last),
        None => bytes.iter().any(|byte| *byte <= b' '),
    }
}

/// The text between white space, copied run by run.
struct Runs<'a> {
    bytes: &'a [u8],
    /// Bytes that are copied or left out.
    copied: usize,
    strings: Strings,
    out: &'a mut Vec<u8>,
}

impl Runs<'_> {
    #[inline]
    fn block(&mut self, block: &[u8; BLOCK], start: usize) {
        let lanes = Lanes::new(block);
        let mut space = lanes.spaces();
        space &= !self.strings.read(&lanes).strings;
        while space != 0 {
            let at = position(space);
            let length = (space >> at).trailing_ones() as usize;
            self.leave_out(start + at, length);
            // In two steps: the run may end with the block.
            space &= (!0 << at) << (length - 1) << 1;
        }
    }

    fn leave_out(&mut self, at: usize, length: usize) {
        self.out.extend_from_slice(&self.bytes[self.copied..at.min(self.bytes.len())]);
        self.copied = at + length;
    }

    fn finish(self) {
        self.out.extend_from_slice(self.bytes.get(self.copied..).unwrap_or_default());
    }
}
