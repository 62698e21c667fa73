//! Finding quotes and matching brackets in JSON, 64 bytes at a time.
//!
//! Walking over an object byte by byte costs more than everything else that is done with an event. Here each block of
//! 64 bytes is turned into three bit masks (quotes, opening and closing brackets outside strings), once per event and
//! only as far as somebody asks; a question is then a few operations on the masks.
//!
//! Contract: the text is valid JSON from its first byte on. On other bytes the answers mean nothing but lie within the
//! text. The comparisons go through the crate `wide`: vector instructions without `unsafe` here, three times as fast as
//! arithmetic on words of eight bytes.

use wide::u8x16;

const BLOCK: usize = 64;

/// Blocks that are read in one go.
const AT_ONCE: usize = 8;

/// What stands where in one block; the lowest bit is the first byte.
#[derive(Clone, Copy)]
struct Block {
    quotes: u64,
    opens: u64,
    closes: u64,
}

/// The masks of one text as far as they are known.
#[derive(Default)]
pub(super) struct Scanner {
    blocks: Vec<Block>,
    /// All ones if the next block starts within a string.
    in_string: u64,
    /// One if the next block starts with an escaped byte.
    escaped: u64,
    backslash: bool,
}

impl Scanner {
    /// Forgets the text.
    pub(super) fn reset(&mut self) {
        self.blocks.clear();
        (self.in_string, self.escaped, self.backslash) = (0, 0, false);
    }

    /// Whether any backslash has been seen so far.
    pub(super) fn seen_backslash(&self) -> bool {
        self.backslash
    }

    /// The first quote at or behind `from` that begins or ends a string; the end of the text if there is none.
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

    /// The bracket that closes the one at `open`; the end of the text if there is none.
    #[inline]
    pub(super) fn close(&mut self, text: &[u8], open: usize) -> usize {
        let mut index = open / BLOCK;
        // Without the one at `open`.
        let mut mask = !1 << (open % BLOCK);
        let mut depth = 0_usize;
        while let Some(block) = self.block(text, index) {
            let (opens, mut brackets) = (block.opens, (block.opens | block.closes) & mask);
            // One by one: few brackets stand in a value, and counting bits is slow on processors that we cannot assume.
            while brackets != 0 {
                let lowest = brackets & brackets.wrapping_neg();
                if opens & lowest != 0 {
                    depth += 1;
                } else if depth == 0 {
                    return index * BLOCK + position(lowest);
                } else {
                    depth -= 1;
                }
                brackets ^= lowest;
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

    /// Reads on, some blocks at a time, until the block at `index` is known or the text ends.
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
        let Masks { mut quotes, opens, closes, backslashes } = masks(block);
        if backslashes | self.escaped != 0 {
            quotes &= !self.escapes(backslashes);
        }
        let strings = prefix_xor(quotes) ^ self.in_string;
        self.in_string = (strings.cast_signed() >> (BLOCK - 1)).cast_unsigned();
        Block { quotes, opens: opens & !strings, closes: closes & !strings }
    }

    /// The bytes that a backslash in front of them hides.
    #[cold]
    fn escapes(&mut self, mut backslashes: u64) -> u64 {
        let mut escaped = std::mem::take(&mut self.escaped);
        self.backslash |= backslashes != 0;
        while backslashes != 0 {
            let at = position(backslashes);
            backslashes &= backslashes - 1;
            if escaped >> at & 1 == 0 {
                escaped |= (1 << at) << 1;
                self.escaped = u64::from(at == BLOCK - 1);
            }
        }
        escaped
    }
}

/// The last block of a text, filled up.
fn padded(rest: &[u8]) -> [u8; BLOCK] {
    let mut block = [b' '; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

fn position(mask: u64) -> usize {
    mask.trailing_zeros() as usize
}

/// Every bit set that has an odd number of set bits at or below it: from each opening quote to its end.
fn prefix_xor(mut mask: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        mask ^= mask << shift;
    }
    mask
}

/// What stands where in a block, strings not yet considered.
struct Masks {
    quotes: u64,
    opens: u64,
    closes: u64,
    backslashes: u64,
}

#[inline]
fn masks(block: &[u8; BLOCK]) -> Masks {
    let lanes = block.as_chunks::<16>().0;
    let lane = |at: usize| u8x16::new(lanes[at]);
    let lanes = [lane(0), lane(1), lane(2), lane(3)];
    let whole = |compare: &dyn Fn(u8x16) -> u8x16| {
        let bits = |at: usize| u64::from(compare(lanes[at]).to_bitmask());
        (bits(0) | bits(1) << 16) | (bits(2) | bits(3) << 16) << 32
    };
    let is = |byte: u8| u8x16::splat(byte);
    // `[` and `{` differ in this bit only, as do `]` and `}`.
    let bracket = |lane: u8x16, byte: u8| (lane | is(0x20)).simd_eq(is(byte));
    let escape = |at: usize| lanes[at].simd_eq(is(b'\\'));
    let escapes = (escape(0) | escape(1)) | (escape(2) | escape(3));
    Masks {
        quotes: whole(&|lane| lane.simd_eq(is(b'"'))),
        opens: whole(&|lane| bracket(lane, b'{')),
        closes: whole(&|lane| bracket(lane, b'}')),
        // There are none in most blocks, which is cheaper to find out than where.
        backslashes: if escapes.to_bitmask() == 0 { 0 } else { whole(&|lane| lane.simd_eq(is(b'\\'))) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same questions answered byte by byte.
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
