//! Finds quotes and matching brackets in JSON, 64 bytes at a time.
//!
//! Scanning an object byte by byte would cost more than everything else that is done with an event. Instead, each block
//! of 64 bytes becomes three bit masks (quotes, opening and closing brackets outside strings), once per event and only
//! as far as needed. A search is then a few operations on the masks.
//!
//! Contract: the text is valid JSON from its first byte. For other bytes the results are meaningless but stay within
//! the text.

use crate::json::block::{BLOCK, Lanes, Quoted, Strings, closing, padded, position};

/// Blocks read at a time.
const AT_ONCE: usize = 8;

/// The masks of one block; the lowest bit is the first byte.
#[derive(Clone, Copy)]
struct Block {
    quotes: u64,
    opens: u64,
    closes: u64,
}

/// The masks of one text, as far as it was read.
#[derive(Default)]
pub(super) struct Scanner {
    blocks: Vec<Block>,
    strings: Strings,
}

impl Scanner {
    /// Forgets the text.
    pub(super) fn reset(&mut self) {
        self.blocks.clear();
        self.strings = Strings::default();
    }

    /// Returns whether any backslash has been seen so far.
    pub(super) fn seen_backslash(&self) -> bool {
        self.strings.seen_backslash()
    }

    /// Returns the offset of the first quote at or after `from` that begins or ends a string, or of the end of the
    /// text.
    #[inline]
    pub(super) fn quote(&mut self, text: &[u8], from: usize) -> usize {
        let mut index = from / BLOCK;
        let mut mask = !0 << (from % BLOCK);
        while let Some(block) = self.block(text, index) {
            let hits = block.quotes & mask;
            if hits != 0 {
                return index * BLOCK + position(hits);
            }
            (index, mask) = (index + 1, !0);
        }
        text.len()
    }

    /// Returns the offset of the bracket that closes the one at `open`, or of the end of the text.
    #[inline]
    pub(super) fn close(&mut self, text: &[u8], open: usize) -> usize {
        let mut index = open / BLOCK;
        // Excludes the bracket at `open`.
        let mut mask = !1 << (open % BLOCK);
        let mut depth = 0_usize;
        while let Some(block) = self.block(text, index) {
            if let Some(bit) = closing(block.opens, (block.opens | block.closes) & mask, &mut depth) {
                return index * BLOCK + bit;
            }
            (index, mask) = (index + 1, !0);
        }
        text.len()
    }

    #[inline]
    fn block(&mut self, text: &[u8], index: usize) -> Option<&Block> {
        if index >= self.blocks.len() {
            self.extend(text, index);
        }
        self.blocks.get(index)
    }

    /// Reads more blocks until the block at `index` is known or the text ends.
    #[inline(never)]
    fn extend(&mut self, text: &[u8], index: usize) {
        while self.blocks.len() <= index {
            let Some(rest) = text.get(self.blocks.len() * BLOCK..).filter(|rest| !rest.is_empty()) else { return };
            let (whole, tail) = rest.as_chunks::<BLOCK>();
            let mut blocks = std::mem::take(&mut self.blocks);
            blocks.extend(whole.iter().take(AT_ONCE).map(|block| self.read(block)));
            if whole.is_empty() {
                blocks.push(self.read(&padded(tail)));
            }
            self.blocks = blocks;
        }
    }

    #[inline]
    fn read(&mut self, block: &[u8; BLOCK]) -> Block {
        let lanes = Lanes::new(block);
        let Quoted { quotes, strings } = self.strings.read(&lanes);
        Block { quotes, opens: lanes.opens() & !strings, closes: lanes.closes() & !strings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds the same positions byte by byte.
    fn naive(text: &[u8]) -> (Vec<usize>, Vec<(usize, usize)>) {
        let (mut quotes, mut pairs, mut open) = (Vec::new(), Vec::new(), Vec::new());
        let (mut at, mut in_string) = (0, false);
        while at < text.len() {
            match text[at] {
                b'\\' if in_string => at += 1,
                b'"' => {
                    in_string = !in_string;
                    quotes.push(at);
                }
                b'{' | b'[' if !in_string => open.push(at),
                b'}' | b']' if !in_string => pairs.push((open.pop().unwrap(), at)),
                _ => {}
            }
            at += 1;
        }
        (quotes, pairs)
    }

    #[test]
    fn answers_are_those_of_a_walk_byte_by_byte() {
        for padding in 0..70 {
            let text = format!(
                r#"{{"{}":[1,"}}]\"","\\",{{"y\\\"":"{{["}},[],"{}\\"],"z":{{"a":[[]]}},"Y}}":"é\u007d"}}"#,
                "x".repeat(padding),
                "\\\\".repeat(padding),
            );
            let text = text.as_bytes();
            let (quotes, pairs) = naive(text);
            let mut scanner = Scanner::default();
            for (open, close) in pairs {
                assert_eq!(scanner.close(text, open), close);
            }
            let mut from = 0;
            for quote in quotes {
                assert_eq!(scanner.quote(text, from), quote);
                from = quote + 1;
            }
            assert_eq!(scanner.quote(text, from), text.len());
        }
    }

    #[test]
    fn what_is_not_json_ends_at_the_end() {
        for text in ["{\"a", "[[[", "\\", "]]]]", "\"\\"] {
            let mut scanner = Scanner::default();
            assert!(scanner.close(text.as_bytes(), 0) <= text.len());
            assert!(scanner.quote(text.as_bytes(), 0) <= text.len());
        }
    }
}
