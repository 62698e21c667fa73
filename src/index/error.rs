//! The reasons for refusing a registration.

use thiserror::Error;

use super::{Limits, Spec, SpecError};

/// Why a registration or deregistration was refused. Nothing has changed then.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexError {
    /// The text is not a registration.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The subscriber has as many registrations as it may.
    #[error("too many registrations: {limit} are allowed on a connection")]
    TooManyRegistrations {
        /// The limit.
        limit: usize,
    },
    /// The product of the lists is too large.
    #[error("too many combinations: the lists make {combinations}, {limit} are allowed")]
    TooManyCombinations {
        /// What the lists make.
        combinations: usize,
        /// The limit.
        limit: usize,
    },
    /// All registrations of the subscriber together are too large.
    #[error(
        "too many combinations: all registrations of the connection would make {combinations}, {limit} are allowed"
    )]
    TooManyInAll {
        /// What all registrations would make.
        combinations: usize,
        /// The limit.
        limit: usize,
    },
    /// All filters of the subscriber together are too large.
    #[error(
        "filters too large: those of the connection would take {bytes} bytes, {limit} are allowed (limits.filter_bytes)"
    )]
    FilterBytes {
        /// What all filters would take.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// All filters of the owner's subscribers together are too large.
    #[error(
        "filters too large: those of all connections of the principal would take {bytes} bytes, {limit} are allowed \
         (limits.filter_bytes_per_principal)"
    )]
    OwnerFilterBytes {
        /// What all filters would take.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The texts of all registrations of the subscriber together are too long.
    #[error(
        "registrations too long: those of the connection would take {bytes} bytes, {limit} are allowed \
         (limits.registration_bytes)"
    )]
    TextBytes {
        /// What all texts would take.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The texts of all registrations of the owner's subscribers together are too long.
    #[error(
        "registrations too long: those of all connections of the principal would take {bytes} bytes, {limit} are \
         allowed (limits.registration_bytes_per_principal)"
    )]
    OwnerTextBytes {
        /// What all texts would take.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// There is no such registration to take back.
    #[error("not registered: {spec:?}")]
    NotRegistered {
        /// The text, cut to 128 characters.
        spec: String,
    },
}

impl IndexError {
    /// The byte of the registration at which it goes wrong, if there is one.
    pub fn offset(&self) -> Option<usize> {
        match self {
            Self::Spec(SpecError::Filter { offset, error }) => Some(offset + error.offset),
            _ => None,
        }
    }
}

impl Limits {
    /// Checks a registration as an index does that has no other of the subscriber.
    ///
    /// # Errors
    /// [`IndexError`]
    pub fn check(&self, text: &str) -> Result<(), IndexError> {
        check_size(Spec::parse(text, &self.filter)?.combinations(), 0, self)
    }
}

/// Whether a registration of `combinations` is within the limits, beside `others` of the same subscriber.
pub(super) fn check_size(combinations: usize, others: usize, limits: &Limits) -> Result<(), IndexError> {
    if combinations > limits.combinations {
        return Err(IndexError::TooManyCombinations { combinations, limit: limits.combinations });
    }
    let combinations = others + combinations;
    if combinations > limits.combinations_in_all {
        return Err(IndexError::TooManyInAll { combinations, limit: limits.combinations_in_all });
    }
    Ok(())
}
