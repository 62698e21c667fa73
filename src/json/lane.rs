//! Sixteen bytes that are compared at once.
//!
//! Contract: pure. On x86-64 these are the vector instructions that every such processor has, by the crate `safe_arch`;
//! elsewhere they are loops over arrays, of which the compiler makes vector instructions from optimisation level 2 on.
//!
//! Why not the crate `wide`: of its types and operations, six are needed, and it takes ten times as long to compile as
//! `safe_arch`, on which it builds (`docs/benchmarks/build-2026-11-29.md`).

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    /// The highest bit of each of eight bytes.
    const HIGHEST: u64 = 0x8080_8080_8080_8080;
    /// Multiplied by this, the highest bits of eight bytes become the highest byte, the first one lowest.
    const GATHER: u64 = 0x0002_0408_1020_4081;

    #[derive(Clone, Copy)]
    pub(crate) struct Lane([u8; 16]);

    impl Lane {
        #[inline]
        pub(crate) fn new(bytes: [u8; 16]) -> Self {
            Self(bytes)
        }

        #[inline]
        pub(crate) fn splat(byte: u8) -> Self {
            Self([byte; 16])
        }

        #[inline]
        pub(crate) fn equal(self, other: Self) -> Self {
            self.zip(other, |a, b| if a == b { 0xFF } else { 0 })
        }

        #[inline]
        pub(crate) fn or(self, other: Self) -> Self {
            self.zip(other, |a, b| a | b)
        }

        #[inline]
        pub(crate) fn min(self, other: Self) -> Self {
            self.zip(other, u8::min)
        }

        #[inline]
        pub(crate) fn bits(self) -> u32 {
            let [low, high] = *self.0.as_chunks::<8>().0 else { unreachable!("sixteen bytes are two times eight") };
            let gather = |bytes| (u64::from_le_bytes(bytes) & HIGHEST).wrapping_mul(GATHER).to_be_bytes()[0];
            u32::from(u16::from_le_bytes([gather(low), gather(high)]))
        }

        #[inline]
        fn zip(self, other: Self, operation: impl Fn(u8, u8) -> u8) -> Self {
            Self(std::array::from_fn(|at| operation(self.0[at], other.0[at])))
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use safe_arch::{
        bitor_m128i, cmp_eq_mask_i8_m128i, load_unaligned_m128i, m128i, min_u8_m128i, move_mask_i8_m128i,
        set_splat_i8_m128i,
    };

    /// Sixteen bytes.
    #[derive(Clone, Copy)]
    pub(crate) struct Lane(m128i);

    impl Lane {
        #[inline]
        pub(crate) fn new(bytes: [u8; 16]) -> Self {
            Self(load_unaligned_m128i(&bytes))
        }

        /// Returns the same byte sixteen times.
        #[inline]
        pub(crate) fn splat(byte: u8) -> Self {
            Self(set_splat_i8_m128i(byte.cast_signed()))
        }

        /// Returns all ones for each byte that is equal, and zero for the others.
        #[inline]
        pub(crate) fn equal(self, other: Self) -> Self {
            Self(cmp_eq_mask_i8_m128i(self.0, other.0))
        }

        /// Returns the bits that are set in either.
        #[inline]
        pub(crate) fn or(self, other: Self) -> Self {
            Self(bitor_m128i(self.0, other.0))
        }

        /// Returns the lesser of each two bytes.
        #[inline]
        pub(crate) fn min(self, other: Self) -> Self {
            Self(min_u8_m128i(self.0, other.0))
        }

        /// Returns the highest bit of each byte; that of the first byte is the lowest.
        #[inline]
        pub(crate) fn bits(self) -> u32 {
            move_mask_i8_m128i(self.0).cast_unsigned()
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use portable::Lane;
#[cfg(target_arch = "x86_64")]
pub(crate) use sse2::Lane;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Lane, portable};

    proptest! {
        #[test]
        fn both_kinds_do_what_is_said(a: [u8; 16], b in prop::array::uniform16(0..4_u8), byte in 0..4_u8) {
            let bits = |is: &dyn Fn(usize) -> bool| (0..16).filter(|at| is(*at)).fold(0, |all, at| all | 1_u32 << at);
            let (mine, others) = (Lane::new(a), portable::Lane::new(a));
            for found in [mine.bits(), others.bits()] {
                prop_assert_eq!(found, bits(&|at| a[at] & 0x80 != 0));
            }
            let splat = (Lane::splat(byte), portable::Lane::splat(byte));
            for found in [Lane::new(b).equal(splat.0).bits(), portable::Lane::new(b).equal(splat.1).bits()] {
                prop_assert_eq!(found, bits(&|at| b[at] == byte));
            }
            for found in [mine.or(Lane::new(b)).bits(), others.or(portable::Lane::new(b)).bits()] {
                prop_assert_eq!(found, bits(&|at| (a[at] | b[at]) & 0x80 != 0));
            }
            let lesser = |limit: u8| {
                let (x, y) = (Lane::splat(limit), portable::Lane::splat(limit));
                [mine.min(x).equal(mine).bits(), others.min(y).equal(others).bits()]
            };
            for limit in [0, b' ', 0x7F, 0x80, 0xFF] {
                prop_assert_eq!(lesser(limit), [bits(&|at| a[at] <= limit); 2]);
            }
        }
    }
}
