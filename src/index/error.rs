//! The reasons for refusing a registration.

use thiserror::Error;

use super::{Limits, SpecError};

/// The reason why a registration or deregistration was refused. Nothing has changed then.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexError {
    /// The text is not a registration.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The subscriber has reached its limit on registrations.
    #[error("too many registrations: a connection can have at most {limit}")]
    TooManyRegistrations {
        /// The limit.
        limit: usize,
    },
    /// The product of the lists is too large.
    #[error("too many combinations: the lists make {combinations}, at most {limit} are allowed")]
    TooManyCombinations {
        /// The product of the lists.
        combinations: usize,
        /// The limit.
        limit: usize,
    },
    /// All registrations of the subscriber together have too many combinations.
    #[error(
        "too many combinations: all registrations of the connection would make {combinations}, at most {limit} are \
         allowed"
    )]
    TooManyInAll {
        /// The number that all registrations would make.
        combinations: usize,
        /// The limit.
        limit: usize,
    },
    /// All filters of the subscriber together are too large.
    #[error(
        "filters too large: those of the connection would take {bytes} bytes, at most {limit} are allowed \
         (limits.filter_bytes)"
    )]
    FilterBytes {
        /// The bytes that all filters would take.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// All filters of the owner's subscribers together are too large.
    #[error(
        "filters too large: those of all connections of the principal would take {bytes} bytes, at most {limit} are \
         allowed (limits.filter_bytes_per_principal)"
    )]
    OwnerFilterBytes {
        /// The bytes that all filters would take.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The texts of all registrations of the subscriber together are too long.
    #[error(
        "registrations too long: those of the connection would take {bytes} bytes, at most {limit} are allowed \
         (limits.registration_bytes)"
    )]
    TextBytes {
        /// The bytes that all texts would take.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The texts of all registrations of the owner's subscribers together are too long.
    #[error(
        "registrations too long: those of all connections of the principal would take {bytes} bytes, at most {limit} \
         are allowed (limits.registration_bytes_per_principal)"
    )]
    OwnerTextBytes {
        /// The bytes that all texts would take.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// There is no such registration to remove.
    #[error("not registered: {spec:?}")]
    NotRegistered {
        /// The text, truncated to 128 characters.
        spec: String,
    },
}

impl IndexError {
    /// Returns the byte offset of the error in the registration, if it has one.
    pub fn offset(&self) -> Option<usize> {
        match self {
            Self::Spec(SpecError::Filter { offset, error }) => Some(offset + error.offset),
            _ => None,
        }
    }
}

/// Checks whether a registration of `combinations` is within the limits, given `others` of the same subscriber.
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
