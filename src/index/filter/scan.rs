//! Finding quotes and matching brackets in JSON, 64 bytes at a time.
//!
//! Walking over an object byte by byte costs more than everything else that is done with an event. Here each block of
//! 64 bytes is turned into three bit masks (quotes, opening and closing brackets outside strings), once per event and
//! only as far as somebody asks; a question is then a few operations on the masks.
//!
//! Contract: the text is valid JSON from its first byte on. On other bytes the answers mean nothing but lie within the
//! text. Ordinary arithmetic on words of eight bytes; the intrinsics that would halve the cost need `unsafe`.

const BLOCK: usize = 64;

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
    pub(super) fn close(&mut self, text: &[u8], open: usize) -> usize {
        let mut index = open / BLOCK;
        let mut mask = !0 << (open % BLOCK);
        let mut depth = 0;
        while let Some(block) = self.block(text, index) {
            let (opens, closes) = (block.opens & mask, block.closes & mask);
            if closes.count_ones() >= depth
                && let Some(at) = closing(opens, closes, depth)
            {
                return index * BLOCK + at;
            }
            depth = depth + opens.count_ones() - closes.count_ones();
            (index, mask) = (index + 1, !0);
        }
        text.len()
    }

    fn block(&mut self, text: &[u8], index: usize) -> Option<Block> {
        while self.blocks.len() <= index {
            let start = self.blocks.len() * BLOCK;
            if start >= text.len() {
                return None;
            }
            let next = self.read(&text[start..]);
            self.blocks.push(next);
        }
        Some(self.blocks[index])
    }

    fn read(&mut self, text: &[u8]) -> Block {
        let mut block = [b' '; BLOCK];
        let len = text.len().min(BLOCK);
        block[..len].copy_from_slice(&text[..len]);
        let (quotes, brackets, closing, backslashes) = masks(&block);
        let quotes = quotes & !self.escapes(backslashes);
        let strings = prefix_xor(quotes) ^ self.in_string;
        self.in_string = if strings >> (BLOCK - 1) == 0 { 0 } else { !0 };
        let brackets = brackets & !strings;
        Block { quotes, opens: brackets & !closing, closes: brackets & closing }
    }

    /// The bytes that a backslash in front of them hides.
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

fn position(mask: u64) -> usize {
    mask.trailing_zeros() as usize
}

/// Where the depth comes back to zero in a block that starts `depth` brackets deep.
fn closing(opens: u64, mut closes: u64, depth: u32) -> Option<usize> {
    let mut ended = 0;
    while closes != 0 {
        let at = position(closes);
        ended += 1;
        if depth + (opens & ((1 << at) - 1)).count_ones() <= ended {
            return Some(at);
        }
        closes &= closes - 1;
    }
    None
}

/// Every bit set that has an odd number of set bits at or below it: from each opening quote to its end.
fn prefix_xor(mut mask: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        mask ^= mask << shift;
    }
    mask
}

/// Masks of quotes, brackets of all four kinds, bytes with the bit that tells closing brackets from opening ones, and
/// backslashes. Other bytes that look like brackets do not stand outside strings in JSON.
fn masks(block: &[u8; BLOCK]) -> (u64, u64, u64, u64) {
    let (mut quotes, mut brackets, mut closing, mut backslashes) = (0, 0, 0, 0);
    for (index, bytes) in block.as_chunks::<8>().0.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        let shift = index * 8;
        quotes |= pack(equal(word, b'"')) << shift;
        // `{`, `}`, `[` and `]` differ from each other in these bits only.
        brackets |= pack(equal(word | 0x2626_2626_2626_2626, 0x7F)) << shift;
        closing |= pack(word << 5 & HIGH) << shift;
        backslashes |= pack(equal(word, b'\\')) << shift;
    }
    (quotes, brackets, closing, backslashes)
}

const HIGH: u64 = 0x8080_8080_8080_8080;

/// The high bit of every byte of `word` that equals `byte`.
fn equal(word: u64, byte: u8) -> u64 {
    let difference = word ^ (u64::from(byte) * 0x0101_0101_0101_0101);
    !(((difference & !HIGH) + !HIGH) | difference) & HIGH
}

/// The high bits of the eight bytes, side by side.
fn pack(high_bits: u64) -> u64 {
    high_bits.wrapping_mul(0x0002_0408_1020_4081) >> 56
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
