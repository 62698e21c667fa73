//! The public name of a caller: `user:NAME`, `runner:UUID` (a machine's agent) or `plugin:NAME`.
//!
//! Contract: a [`Principal`] is never empty and always has one of the three kinds. Others can read it (in events and
//! connection listings), so nothing secret goes into it. Cloning one costs a reference count.
//!
//! A user of the endpoint, one that only another issuer knows and one of hydrant's own may have the same name. They
//! print the same, but differ in [`Principal::account`]: they are not equal, and neither has the other's limits or sees
//! its connection events.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// The reason why a text is not a principal, or not a valid name.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PrincipalError {
    /// None of the three kinds.
    #[error("{text:?} is not a principal: expected user:NAME, runner:UUID or plugin:NAME")]
    Kind {
        /// The given text, truncated to 64 characters.
        text: String,
    },
    /// The name is unsuitable for a URL path, a comma list or a Basic header.
    #[error(
        "{text:?} is not a name: 1 to 128 bytes without white space, control characters, `:`, `/`, `\\`, `,`, `*` or \
         `\""
    )]
    Name {
        /// The given text, truncated to 64 characters.
        text: String,
    },
    /// The name of a runner is not a UUID, as its machine's must be.
    #[error("{text:?} is not a UUID such as 3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e")]
    Uuid {
        /// The given text, truncated to 64 characters.
        text: String,
    },
}

/// The kind of a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    /// A person or a script with an account.
    User,
    /// The agent of a machine.
    Runner,
    /// A plugin of the endpoint.
    Plugin,
}

/// What an account of the endpoint begins with; no name holds a slash.
const ENDPOINT: &str = "endpoint/";

/// What the account of a user begins with whom only another issuer knows.
const ISSUER: &str = "issuer/";

/// The public name of an authenticated caller: `user:NAME`, `runner:UUID` or `plugin:NAME`. Never empty and never
/// secret; cloning costs a reference count.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal(Arc<str>);

impl Principal {
    /// Creates `user:NAME`.
    ///
    /// # Errors
    /// [`PrincipalError::Name`], by the rules of [`check_name`].
    pub fn user(name: &str) -> Result<Self, PrincipalError> {
        check_name(name)?;
        Ok(Self(format!("user:{name}").into()))
    }

    /// Creates `user:NAME` for a user of the endpoint, which is distinct from hydrant's own user of that name.
    ///
    /// # Errors
    /// [`PrincipalError::Name`], by the rules of [`check_endpoint_name`].
    pub fn endpoint_user(name: &str) -> Result<Self, PrincipalError> {
        check_endpoint_name(name)?;
        Ok(Self(format!("{ENDPOINT}user:{name}").into()))
    }

    /// Creates `user:NAME` for a user with roles of another issuer, who is distinct from hydrant's own of that name.
    ///
    /// # Errors
    /// [`PrincipalError::Name`], by the rules of [`check_name`].
    pub fn issuer_user(name: &str) -> Result<Self, PrincipalError> {
        check_name(name)?;
        Ok(Self(format!("{ISSUER}user:{name}").into()))
    }

    /// Creates `plugin:NAME`.
    ///
    /// # Errors
    /// [`PrincipalError::Name`], by the rules of [`check_name`].
    pub fn plugin(name: &str) -> Result<Self, PrincipalError> {
        check_name(name)?;
        Ok(Self(format!("plugin:{name}").into()))
    }

    /// Creates `runner:UUID`, with the UUID in lower case like DRP's keys.
    ///
    /// # Errors
    /// [`PrincipalError::Uuid`].
    pub fn runner(uuid: &str) -> Result<Self, PrincipalError> {
        if !is_uuid(uuid) {
            return Err(PrincipalError::Uuid { text: cut(uuid) });
        }
        Ok(Self(format!("runner:{}", uuid.to_ascii_lowercase()).into()))
    }

    /// Returns the whole text.
    pub fn as_str(&self) -> &str {
        [ENDPOINT, ISSUER].into_iter().find_map(|prefix| self.0.strip_prefix(prefix)).unwrap_or(&self.0)
    }

    /// Returns the text that identifies the principal: prefixed with [`ENDPOINT`] for a user of the endpoint, with
    /// [`ISSUER`] for one that only another issuer knows.
    pub fn account(&self) -> &str {
        &self.0
    }

    /// Returns the kind.
    pub fn kind(&self) -> PrincipalKind {
        match self.as_str().as_bytes()[0] {
            b'u' => PrincipalKind::User,
            b'r' => PrincipalKind::Runner,
            _ => PrincipalKind::Plugin,
        }
    }

    /// Returns the part after the colon: a name or a UUID.
    pub fn name(&self) -> &str {
        self.as_str().split_once(':').map_or("", |(_, name)| name)
    }
}

impl FromStr for Principal {
    type Err = PrincipalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("user", name)) => Self::user(name),
            Some(("runner", uuid)) => Self::runner(uuid),
            Some(("plugin", name)) => Self::plugin(name),
            _ => Err(PrincipalError::Kind { text: cut(text) }),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AsRef<str> for Principal {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

/// Checks whether a text can name a user, role, tenant or plugin: it must be usable in a URL path, a comma list and a
/// Basic header.
///
/// # Errors
/// [`PrincipalError::Name`].
pub fn check_name(name: &str) -> Result<(), PrincipalError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | '/' | '\\' | ',' | '*' | '"');
    if name.is_empty() || name.len() > 128 || name.contains(bad) {
        return Err(PrincipalError::Name { text: cut(name) });
    }
    Ok(())
}

/// Checks whether a text can name a user of the endpoint. Like [`check_name`], but DRP's names may contain blanks,
/// except at either end.
///
/// # Errors
/// [`PrincipalError::Name`].
pub fn check_endpoint_name(name: &str) -> Result<(), PrincipalError> {
    if name.starts_with(' ') || name.ends_with(' ') {
        return Err(PrincipalError::Name { text: cut(name) });
    }
    check_name(&name.replace(' ', "_")).map_err(|_| PrincipalError::Name { text: cut(name) })
}

fn is_uuid(text: &str) -> bool {
    let dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let fits = |(at, b): (usize, u8)| if dash(at) { b == b'-' } else { b.is_ascii_hexdigit() };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e";

    #[test]
    fn every_kind_is_parsed_and_told_apart() {
        for (text, kind, name) in [
            ("user:alice", PrincipalKind::User, "alice"),
            ("plugin:ipmi", PrincipalKind::Plugin, "ipmi"),
            ("user:a.b@c-d_e", PrincipalKind::User, "a.b@c-d_e"),
        ] {
            let principal: Principal = text.parse().unwrap();
            assert_eq!((principal.as_str(), principal.kind(), principal.name()), (text, kind, name));
        }
        let runner = Principal::runner(&UUID.to_uppercase()).unwrap();
        assert_eq!((runner.as_str(), runner.kind()), (format!("runner:{UUID}").as_str(), PrincipalKind::Runner));
    }

    #[test]
    fn a_user_of_the_endpoint_may_have_a_blank_in_its_name() {
        assert_eq!(Principal::endpoint_user("John Doe").unwrap().as_str(), "user:John Doe");
        for name in ["", " ", " a", "a ", "a\tb", "a b/c", "a b:c"] {
            assert!(Principal::endpoint_user(name).is_err(), "{name:?}");
        }
        assert!(Principal::user("John Doe").is_err(), "hydrant's own names are as before");
    }

    #[test]
    fn a_user_of_the_endpoint_or_of_an_issuer_is_not_the_one_of_the_same_name_here() {
        let here = Principal::user("alice").unwrap();
        assert_eq!(here.account(), "user:alice");
        for (there, account) in [
            (Principal::endpoint_user("alice").unwrap(), "endpoint/user:alice"),
            (Principal::issuer_user("alice").unwrap(), "issuer/user:alice"),
        ] {
            assert_ne!(here, there);
            assert_eq!((here.as_str(), here.name(), here.kind()), (there.as_str(), there.name(), there.kind()));
            assert_eq!(there.account(), account);
            assert_eq!(format!("{there} {there:?}"), "user:alice user:alice");
        }
    }

    #[test]
    fn what_is_no_principal_is_refused_with_its_text() {
        for text in ["", "alice", "user:", "user:a:b", "user:a/b", "user:a b", "user:a,b", "user:*", "root:alice"] {
            assert!(text.parse::<Principal>().is_err(), "{text:?}");
        }
        for text in ["runner:", "runner:alice", "runner:3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4g"] {
            assert!(matches!(text.parse::<Principal>(), Err(PrincipalError::Uuid { .. })), "{text:?}");
        }
        assert!(Principal::user(&"x".repeat(129)).is_err());
        assert!(Principal::user("ali ce").unwrap_err().to_string().contains("\"ali ce\""));
    }
}
