//! JSON text in blocks of 64 bytes, as bit masks: which bytes are quotes, and which are inside strings.
//!
//! Scanning a text byte by byte would cost more than everything else that is done with an event. Comparing a block with
//! a byte yields a mask of 64 bits, on which searches become a few operations.
//!
//! Contract: the text is valid JSON from the first block on; for other bytes the masks are meaningless. The
//! comparisons use vector instructions ([`super::lane`]), on x86-64 three times as fast as arithmetic on 8-byte words.

use super::lane::Lane;

/// Number of bytes per mask; the lowest bit is the first byte.
pub(crate) const BLOCK: usize = 64;

/// A block loaded into vectors.
pub(crate) struct Lanes([Lane; 4]);

impl Lanes {
    #[inline]
    pub(crate) fn new(block: &[u8; BLOCK]) -> Self {
        let lanes = block.as_chunks::<16>().0;
        let lane = |at: usize| Lane::new(lanes[at]);
        Self([lane(0), lane(1), lane(2), lane(3)])
    }

    /// Returns a mask of the bytes for which `compare` returns all ones; for other bytes it must return zero.
    #[inline]
    pub(crate) fn mask(&self, compare: impl Fn(Lane) -> Lane) -> u64 {
        let bits = |at: usize| u64::from(compare(self.0[at]).bits());
        (bits(0) | bits(1) << 16) | (bits(2) | bits(3) << 16) << 32
    }

    /// Like [`Lanes::mask`], for bytes that are usually absent: checking for any is cheaper than locating them.
    #[inline]
    pub(crate) fn rare(&self, compare: impl Fn(Lane) -> Lane) -> u64 {
        let [a, b, c, d] = self.0.map(&compare);
        if a.or(b).or(c.or(d)).bits() == 0 { 0 } else { self.mask(compare) }
    }

    /// Returns a mask of the bytes equal to `byte`.
    #[inline]
    pub(crate) fn equal(&self, byte: u8) -> u64 {
        self.mask(|lane| lane.equal(Lane::splat(byte)))
    }

    /// Returns a mask of the opening brackets; `[` and `{` differ in one bit only.
    #[inline]
    pub(crate) fn opens(&self) -> u64 {
        self.mask(|lane| lane.or(Lane::splat(0x20)).equal(Lane::splat(b'{')))
    }

    /// Returns a mask of the closing brackets; `]` and `}` differ in one bit only.
    #[inline]
    pub(crate) fn closes(&self) -> u64 {
        self.mask(|lane| lane.or(Lane::splat(0x20)).equal(Lane::splat(b'}')))
    }

    /// Returns a mask of the bytes up to the space. Outside strings, JSON has no such bytes but white space; inside
    /// strings, only the space.
    #[inline]
    pub(crate) fn spaces(&self) -> u64 {
        let space = Lane::splat(b' ');
        self.rare(|lane| lane.min(space).equal(lane))
    }
}

/// Returns the last block of a text, padded with white space.
pub(crate) fn padded(rest: &[u8]) -> [u8; BLOCK] {
    let mut block = [b' '; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// Returns the index of the lowest set bit.
#[inline]
pub(crate) fn position(mask: u64) -> usize {
    mask.trailing_zeros() as usize
}

/// Finds strings, block by block.
#[derive(Debug, Default)]
pub(crate) struct Strings {
    /// All ones if the next block starts inside a string.
    within: u64,
    /// One if the next block starts with an escaped byte.
    escaped: u64,
    backslash: bool,
}

/// The result of [`Strings::read`].
pub(crate) struct Quoted {
    /// Quotes that begin or end a string.
    pub(crate) quotes: u64,
    /// Each string from its opening quote up to, but not including, its closing quote.
    pub(crate) strings: u64,
}

impl Strings {
    /// Reads the next block.
    #[inline]
    pub(crate) fn read(&mut self, block: &Lanes) -> Quoted {
        let mut quotes = block.equal(b'"');
        let backslashes = block.rare(|lane| lane.equal(Lane::splat(b'\\')));
        if backslashes | self.escaped != 0 {
            quotes &= !self.escapes(backslashes);
        }
        let strings = prefix_xor(quotes) ^ self.within;
        self.within = (strings.cast_signed() >> (BLOCK - 1)).cast_unsigned();
        Quoted { quotes, strings }
    }

    /// Returns whether any backslash has been seen so far.
    pub(crate) fn seen_backslash(&self) -> bool {
        self.backslash
    }

    /// Returns a mask of the bytes that a preceding backslash escapes.
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

/// Continues bracket matching through a block, strings masked out. Returns the offset of the bracket that closes the
/// one before which `depth` was zero.
#[inline]
pub(crate) fn closing(opens: u64, mut brackets: u64, depth: &mut usize) -> Option<usize> {
    // One by one: a value has few brackets, and counting bits is slow on the oldest processors that are supported.
    while brackets != 0 {
        let lowest = brackets & brackets.wrapping_neg();
        if opens & lowest != 0 {
            *depth += 1;
        } else if *depth == 0 {
            return Some(position(lowest));
        } else {
            *depth -= 1;
        }
        brackets ^= lowest;
    }
    None
}

/// Returns the length of the object or array with which `text` begins, or of all text if it does not end.
pub(super) fn container(text: &[u8]) -> usize {
    let (whole, tail) = text.as_chunks::<BLOCK>();
    let tail = padded(tail);
    let (mut strings, mut depth) = (Strings::default(), 0);
    // The mask skips the opening bracket itself.
    let mut mask = !1;
    for (at, block) in whole.iter().chain([&tail]).enumerate() {
        let lanes = Lanes::new(block);
        let outside = !strings.read(&lanes).strings & mask;
        let opens = lanes.opens() & outside;
        if let Some(bit) = closing(opens, opens | (lanes.closes() & outside), &mut depth) {
            return at * BLOCK + bit + 1;
        }
        mask = !0;
    }
    text.len()
}

/// Sets every bit that has an odd number of set bits at or below it: from each opening quote to the end of its string.
#[inline]
fn prefix_xor(mut mask: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        mask ^= mask << shift;
    }
    mask
}
