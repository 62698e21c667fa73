//! Counts the work of filters and stops it at a limit.
//!
//! Work is counted in units of about a nanosecond on the machine of `docs/benchmarks/filters.md`. It is counted by
//! what was done, not by the clock, so equal filters and events cost the same everywhere and tests can assert it. The
//! caller sets an allowance. Expensive work is paid for in advance ([`Meter::afford`]), all other work afterwards
//! ([`Meter::spend`]). When the allowance is used up the meter is *short*: results are meaningless then and must not
//! be remembered.

/// The cost of work, in units.
pub(super) mod price {
    /// A predicate, besides the text it looks at.
    pub(in super::super) const QUESTION: u64 = 16;
    /// A remembered result.
    pub(in super::super) const RECALL: u64 = 2;
    /// A lookup, besides walking over text that was not walked yet.
    pub(in super::super) const LOOKUP: u64 = 32;

    /// Returns the cost of walking over text to find its members.
    pub(in super::super) fn walk(bytes: usize) -> u64 {
        bytes as u64 / 2
    }

    /// Returns the cost of recording this many elements of an array.
    pub(in super::super) fn elements(count: usize) -> u64 {
        count as u64 * 8
    }

    /// Returns the cost of matching text against a pattern.
    pub(in super::super) fn pattern(bytes: usize) -> u64 {
        bytes as u64 * 4
    }

    /// Returns the cost of comparing two texts, the first of this length.
    pub(in super::super) fn compare(bytes: usize) -> u64 {
        bytes as u64 / 16
    }

    /// Returns the cost of writing a value in its canonical form.
    pub(in super::super) fn canonical(bytes: usize) -> u64 {
        bytes as u64 * 16
    }
}

/// Counts work in units of about a nanosecond against an allowance.
#[derive(Debug)]
pub(super) struct Meter {
    left: u64,
    short: bool,
    /// Units spent since the meter was created.
    spent: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self { left: u64::MAX, short: false, spent: 0 }
    }
}

impl Meter {
    /// Sets a new allowance.
    pub(super) fn allow(&mut self, units: u64) {
        (self.left, self.short) = (units, false);
    }

    /// Spends units for work already done.
    #[inline]
    pub(super) fn spend(&mut self, units: u64) {
        self.spent += units;
        self.short |= self.left < units;
        self.left = self.left.saturating_sub(units);
    }

    /// Spends units for work to be done. Returns false if the allowance does not suffice; then the work must not be
    /// done.
    #[inline]
    pub(super) fn afford(&mut self, units: u64) -> bool {
        if self.left < units {
            (self.left, self.short) = (0, true);
        } else {
            self.left -= units;
            self.spent += units;
        }
        !self.short
    }

    /// Returns whether the allowance was too small.
    #[inline]
    pub(super) fn is_short(&self) -> bool {
        self.short
    }

    /// Returns the units left of the allowance.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Returns the units spent since the meter was created.
    pub(super) fn spent(&self) -> u64 {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_paid_makes_it_short_until_it_starts_anew() {
        let mut meter = Meter::default();
        meter.allow(10);
        assert!(meter.afford(6) && !meter.is_short());
        assert!(!meter.afford(5) && meter.is_short());
        assert!(!meter.afford(0), "nothing is done any more");
        meter.allow(3);
        meter.spend(4);
        assert!(meter.is_short() && meter.left() == 0);
        meter.allow(1);
        assert!(!meter.is_short());
        assert_eq!(meter.spent(), 10, "what was not done was not spent");
    }
}
