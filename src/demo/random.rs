//! A small deterministic generator of pseudo-random numbers (`SplitMix64`).
//!
//! Not for secrets. Why not a crate: the same seed must produce the same fleet for years, regardless of installed
//! versions, and twenty lines suffice for that.

use std::fmt;

/// The state of the generator.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to `bound - 1`; 0 for a bound of 0.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        let high = self.next() >> 32;
        u32::try_from((high * u64::from(bound)) >> 32).expect("below a 32-bit bound")
    }

    /// Returns a number from `low` to `high`, both inclusive.
    pub(super) fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high - low + 1)
    }

    /// Returns true once in `n` times on average.
    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// Returns an index into something with `len` elements.
    pub(super) fn index(&mut self, len: usize) -> usize {
        self.below(u32::try_from(len).expect("a fleet has fewer than 2^32 members")) as usize
    }

    pub(super) fn uuid(&mut self) -> Uuid {
        Uuid((u128::from(self.next()) << 64) | u128::from(self.next()))
    }
}

/// A version 4 UUID, written as 36 lower-case characters, as DRP does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Uuid(u128);

impl Uuid {
    /// All zeros: DRP's "none" in fields that must hold a UUID.
    pub(super) const NIL: Self = Self(0);
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const VERSION: u128 = 0x0000_0000_0000_F000_C000_0000_0000_0000;
        const VERSION_4: u128 = 0x0000_0000_0000_4000_8000_0000_0000_0000;
        let bits = if self.0 == 0 { 0 } else { (self.0 & !VERSION) | VERSION_4 };
        let part = |shift: u32, width: u32| (bits >> shift) & ((1 << width) - 1);
        write!(f, "{:08x}-{:04x}-{:04x}", part(96, 32), part(80, 16), part(64, 16))?;
        write!(f, "-{:04x}-{:012x}", part(48, 16), part(0, 48))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_published_sequence() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn bounds_are_kept_and_reached() {
        let mut random = Random::new(1);
        let mut seen = [0_u32; 5];
        for _ in 0..1_000 {
            seen[random.index(5)] += 1;
            assert!((3..=4).contains(&random.between(3, 4)));
        }
        assert!(seen.iter().all(|&n| n > 100), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn uuids_are_version_4() {
        let text = Random::new(7).uuid().to_string();
        assert_eq!(text.len(), 36);
        assert_eq!(&text[14..15], "4");
        assert!("89ab".contains(&text[19..20]), "{text}");
        assert_eq!(Uuid::NIL.to_string(), "00000000-0000-0000-0000-000000000000");
    }
}
