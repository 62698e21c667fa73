//! Limits that a role puts on its holders.
//!
//! Contract: pure. An absent limit (or zero, as it is written) means that the role says nothing and the configuration
//! decides. If several roles set a limit, the largest one counts, as rights add up too; a role without a limit does
//! not lift the limit of another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Limits of a role, or of a caller over all its roles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoleLimits {
    /// Simultaneous websockets per principal.
    #[serde(skip_serializing_if = "is_zero")]
    connections: u32,
    /// Registrations per connection.
    #[serde(skip_serializing_if = "is_zero")]
    registrations: u32,
    /// Posted events per second and principal.
    #[serde(skip_serializing_if = "is_zero")]
    posted_events_per_second: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(limit: &u32) -> bool {
    *limit == 0
}

/// The reason why a text is not a limit.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error(
    "{text:?} is not a limit: expected NAME=NUMBER, where NAME is connections, registrations or \
     posted_events_per_second, such as connections=10"
)]
pub struct LimitError {
    /// The given text, truncated to 64 characters.
    pub text: String,
}

impl RoleLimits {
    /// Returns the limit of simultaneous websockets per principal; `None` if the configuration decides.
    pub fn connections(&self) -> Option<u64> {
        set(self.connections)
    }

    /// Returns the limit of registrations per connection; `None` if the configuration decides.
    pub fn registrations(&self) -> Option<usize> {
        set(self.registrations).and_then(|limit| usize::try_from(limit).ok())
    }

    /// Returns the limit of posted events per second and principal; `None` if the configuration decides.
    pub fn posted_events_per_second(&self) -> Option<u64> {
        set(self.posted_events_per_second)
    }

    /// Returns whether no limit is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the larger value of each limit; a limit that only one of the two sets applies.
    #[must_use]
    pub fn or_larger(self, other: Self) -> Self {
        Self {
            connections: self.connections.max(other.connections),
            registrations: self.registrations.max(other.registrations),
            posted_events_per_second: self.posted_events_per_second.max(other.posted_events_per_second),
        }
    }

    /// Returns these limits with some of them changed; the others stay.
    #[must_use]
    pub fn changed(mut self, changes: &[LimitChange]) -> Self {
        changes.iter().for_each(|LimitChange { limit, number }| *limit(&mut self) = *number);
        self
    }
}

/// One limit to be set, or to be removed by zero.
#[derive(Debug, Clone, Copy)]
pub struct LimitChange {
    limit: for<'l> fn(&'l mut RoleLimits) -> &'l mut u32,
    number: u32,
}

fn set(limit: u32) -> Option<u64> {
    (limit > 0).then(|| limit.into())
}

/// Parses one limit, `NAME=NUMBER`.
impl FromStr for LimitChange {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let read = || {
            let (name, number) = text.split_once('=')?;
            let number = number.trim().parse().ok()?;
            Some(match name.trim() {
                "connections" => Self { limit: |limits| &mut limits.connections, number },
                "registrations" => Self { limit: |limits| &mut limits.registrations, number },
                "posted_events_per_second" => Self { limit: |limits| &mut limits.posted_events_per_second, number },
                _ => return None,
            })
        };
        read().ok_or_else(|| LimitError { text: text.chars().take(64).collect() })
    }
}

/// Writes the limits in the syntax of the command line.
impl fmt::Display for RoleLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("connections", self.connections),
            ("registrations", self.registrations),
            ("posted_events_per_second", self.posted_events_per_second),
        ];
        let set = all.into_iter().filter(|(_, limit)| *limit > 0);
        let texts: Vec<String> = set.map(|(name, limit)| format!("{name}={limit}")).collect();
        f.write_str(&texts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(texts: &[&str]) -> RoleLimits {
        let changes: Vec<LimitChange> = texts.iter().map(|text| text.parse().unwrap()).collect();
        RoleLimits::default().changed(&changes)
    }

    #[test]
    fn the_largest_of_each_counts() {
        let both = limits(&["connections=2", "registrations=100"]).or_larger(limits(&["connections=5"]));
        assert_eq!((both.connections(), both.registrations()), (Some(5), Some(100)));
        assert_eq!(both.posted_events_per_second(), None);
        assert_eq!(both.to_string(), "connections=5,registrations=100");
        assert!(limits(&["connections=0"]).is_empty(), "zero is what the configuration says");
    }

    #[test]
    fn a_change_leaves_the_other_limits_and_zero_removes_one() {
        let before = limits(&["connections=2", "registrations=100"]);
        let change = |text: &str| before.changed(&[text.parse().unwrap()]).to_string();
        assert_eq!(change("connections=1"), "connections=1,registrations=100");
        assert_eq!(change("connections=0"), "registrations=100");
        assert_eq!(before.changed(&[]), before);
    }

    #[test]
    fn what_is_no_limit_is_refused_with_its_text() {
        for text in ["", "connections", "connections=", "connections=-1", "connections=x", "events=1", "=1"] {
            assert_eq!(text.parse::<LimitChange>().unwrap_err(), LimitError { text: text.to_owned() });
        }
    }
}
