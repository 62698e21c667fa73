//! Overflow policies: what happens to a connection that does not read as fast as events arrive.
//!
//! A module of its own at the bottom of the tree, because settings, roles, the query of a websocket, outboxes and
//! metrics all use the same names. [`crate::fanout::outbox`] implements the policies.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;

/// An overflow policy; ordered by how much of the stream a connection receives, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// The connection is closed with code 1013 and a reason.
    #[default]
    Disconnect,
    /// The oldest events are dropped, and a notice in their place reports how many.
    DropOldest,
    /// Of the updates of one object only the latest is kept, with the state before the first of them.
    Conflate,
}

/// A word that is not a policy.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{text:?} is not an overflow policy: expected `disconnect`, `drop-oldest` or `conflate`")]
pub struct OverflowError {
    /// The word, truncated to 64 characters.
    text: String,
}

/// What a user's roles allow for its websockets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RolePolicies {
    /// The policy if the websocket requests none; `None` leaves it to the settings.
    pub policy: Option<Overflow>,
    /// The policies that it may request instead; `None` leaves them to the settings.
    pub askable: Option<BTreeSet<Overflow>>,
}

impl RolePolicies {
    /// Combines several roles: the policy under which most of the stream is received, and all policies that any of them
    /// allows to be requested.
    #[must_use]
    pub fn or_more(self, other: Self) -> Self {
        let askable = match (self.askable, other.askable) {
            (Some(one), Some(other)) => Some(&one | &other),
            (one, other) => one.or(other),
        };
        Self { policy: self.policy.max(other.policy), askable }
    }
}

impl Overflow {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Disconnect, Self::DropOldest, Self::Conflate];

    /// Returns the word that selects this policy.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::DropOldest => "drop-oldest",
            Self::Conflate => "conflate",
        }
    }
}

impl FromStr for Overflow {
    type Err = OverflowError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|policy| policy.name() == text);
        named.ok_or_else(|| OverflowError { text: text.chars().take(64).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_roles_say_adds_up() {
        use Overflow::{Conflate, Disconnect, DropOldest};
        let role = |policy, askable: Option<&[Overflow]>| RolePolicies {
            policy,
            askable: askable.map(|askable| askable.iter().copied().collect()),
        };
        let roles = [
            role(None, None),
            role(Some(DropOldest), Some(&[])),
            role(Some(Disconnect), Some(&[Disconnect])),
            role(None, Some(&[Conflate])),
        ];
        let all = roles.into_iter().reduce(RolePolicies::or_more).unwrap();
        assert_eq!(all, role(Some(DropOldest), Some(&[Disconnect, Conflate])));
    }

    #[test]
    fn every_policy_is_found_by_its_name_and_an_unknown_word_is_told_all_of_them() {
        for policy in Overflow::ALL {
            assert_eq!(policy.name().parse(), Ok(policy));
        }
        let error = "drop_oldest".parse::<Overflow>().unwrap_err().to_string();
        assert!(Overflow::ALL.iter().all(|policy| error.contains(policy.name())), "{error}");
    }
}
