//! When credentials end, in the space of one number: every open connection stores two such times.
//!
//! Contract: pure. Whole seconds, as tokens and certificates state them. A fraction is cut off, so that nothing is
//! valid for longer than it states.

use jiff::Timestamp;

use crate::clock;

/// A time in seconds after 1970, or never. Earlier than another one if it ends first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Expiry(i64);

impl Expiry {
    pub(super) const NEVER: Self = Self(i64::MAX);

    pub(super) fn at(time: Timestamp) -> Self {
        Self(time.as_second())
    }

    /// Returns the expiry at this second; never for `None`.
    pub(super) fn at_second(second: Option<i64>) -> Self {
        second.map_or(Self::NEVER, Self)
    }

    /// Returns the second; `None` for never.
    pub(super) fn second(self) -> Option<i64> {
        (self != Self::NEVER).then_some(self.0)
    }

    pub(super) fn time(self) -> Option<Timestamp> {
        self.second().map(clock::at_second)
    }
}

impl Default for Expiry {
    fn default() -> Self {
        Self::NEVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_ends_last_and_nothing_ends_late() {
        let time: Timestamp = "2026-01-01T00:00:00.9Z".parse().unwrap();
        let expiry = Expiry::at(time);
        assert!(expiry < Expiry::NEVER && expiry.time().unwrap() <= time);
        assert_eq!((expiry.time(), Expiry::NEVER.time()), ("2026-01-01T00:00:00Z".parse().ok(), None));
        assert_eq!(Expiry::at_second(expiry.second()), expiry);
        assert_eq!(Expiry::at_second(None), Expiry::default());
    }
}
