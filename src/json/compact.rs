//! Removes insignificant white space.

use super::block::{BLOCK, Lanes, Strings, padded, position};

/// Appends `text`, which must be valid JSON, to `out` without its insignificant white space.
///
/// Most texts come from machines and contain no white space: such a text is copied as a whole. So is a text with spaces
/// only inside strings, once the strings are located.
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

/// Returns whether there is any white space, inside or outside strings.
fn has_space(bytes: &[u8]) -> bool {
    let spaced = |block: &[u8; BLOCK]| Lanes::new(block).spaces() != 0;
    // The last block overlaps the one before it.
    match bytes.last_chunk() {
        Some(last) => bytes.as_chunks().0.iter().any(spaced) || spaced(last),
        None => bytes.iter().any(|byte| *byte <= b' '),
    }
}

/// Copies the text between white space, run by run.
struct Runs<'a> {
    bytes: &'a [u8],
    /// Number of bytes that were copied or skipped.
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
            // In two steps, because the run may end with the block.
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
