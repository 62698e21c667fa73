//! The store: users with their password hashes, roles and tenants, in one readable file of the data directory.
//!
//! Contract: a [`Store`] in hand is valid: every role that a user has exists, a user is in at most one tenant, and
//! every tenant's users exist. A file that is not is refused as a whole, with line and reason. [`Store`] itself does no
//! I/O; [`mod@file`] reads and writes it.
//!
//! The role `superuser` (`*/*/*`) is built in: it is always there, is not written and cannot be changed.

mod error;
pub(super) mod exposure;
pub(super) mod file;
mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::claim::Claim;
use super::keys::Fingerprint;
use super::limits::RoleLimits;
use super::password::PasswordHash;
use super::principal::check_name;
use crate::overflow::Overflow;
pub use error::StoreError;

/// The role that may see and do everything.
pub const SUPERUSER: &str = "superuser";

/// The user of the first start, as in DRP, and its well-known password.
pub const DEFAULT_USER: &str = "rocketskates";
pub(super) const DEFAULT_PASSWORD: &str = "r0cketsk8ts";

/// Random bytes, renewed with every password change, which ends the user's tokens. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct UserSecret(Box<[u8]>);

impl UserSecret {
    fn make() -> Result<Self, getrandom::Error> {
        let mut bytes = vec![0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes.into()))
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() >= 16).then(|| Self(bytes.into()))
    }

    /// Returns the secret's fingerprint, which goes into tokens and does not reveal the secret.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0)
    }
}

impl Serialize for UserSecret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl fmt::Debug for UserSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A user of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Names of the user's roles.
    pub roles: BTreeSet<String>,
    /// `None` for a user who can log in only with a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) password: Option<PasswordHash>,
    pub(super) secret: UserSecret,
}

impl User {
    /// Returns whether the user can log in with a password.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }
}

/// A role: its claims, limits and policies for slow consumers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Role {
    /// The policy for slow consumers among its holders' websockets; `None` leaves it to the settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overflow: Option<Overflow>,
    /// The policies that such a websocket may request in its query; `None` leaves them to the settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_overflow: Option<BTreeSet<Overflow>>,
    /// Limits on its holders.
    #[serde(skip_serializing_if = "RoleLimits::is_empty")]
    pub limits: RoleLimits,
    /// The claims that it grants.
    pub claims: Vec<Claim>,
}

/// A tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TenantRow {
    /// Names of the users that it restricts.
    pub users: BTreeSet<String>,
    /// The keys that its users may see, by object type; types that are not listed are unrestricted.
    pub members: BTreeMap<String, BTreeSet<String>>,
}

/// Users, roles and tenants. Always consistent: every role and user that is referred to exists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Store {
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
    tenants: BTreeMap<String, TenantRow>,
}

impl Store {
    /// Creates the store of a first start, with the well-known user as a superuser.
    pub(super) fn first() -> Result<Self, StoreError> {
        let mut store = Self::default();
        store.ensure_user()?;
        Ok(store)
    }

    /// Adds the well-known user if there are no users.
    fn ensure_user(&mut self) -> Result<(), StoreError> {
        if self.users.is_empty() {
            self.add_user(DEFAULT_USER, PasswordHash::make(DEFAULT_PASSWORD)?, &[SUPERUSER.to_owned()])?;
        }
        Ok(())
    }

    /// Returns whether the store is empty.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns all users by name.
    pub fn users(&self) -> &BTreeMap<String, User> {
        &self.users
    }

    /// Returns all roles by name, except the built-in one.
    pub fn roles(&self) -> &BTreeMap<String, Role> {
        &self.roles
    }

    /// Returns all tenants by name.
    pub fn tenants(&self) -> &BTreeMap<String, TenantRow> {
        &self.tenants
    }

    /// Returns the claims of a role, which may be the built-in one.
    pub(super) fn claims_of(&self, role: &str) -> Option<Vec<Claim>> {
        if role == SUPERUSER {
            return Some(vec![Claim::everything()]);
        }
        self.roles.get(role).map(|role| role.claims.clone())
    }

    /// Returns the limits of a holder of these roles: the largest of each.
    pub(super) fn limits_of<'r>(&self, roles: impl IntoIterator<Item = &'r String>) -> RoleLimits {
        let known = roles.into_iter().filter_map(|role| self.roles.get(role));
        known.map(|role| role.limits).fold(RoleLimits::default(), RoleLimits::or_larger)
    }

    /// Adds a user.
    ///
    /// # Errors
    /// If the name is invalid or taken, or a role does not exist.
    pub fn add_user(&mut self, name: &str, password: PasswordHash, roles: &[String]) -> Result<(), StoreError> {
        check_name(name)?;
        if self.users.contains_key(name) {
            return Err(StoreError::Exists { what: "user", name: name.to_owned() });
        }
        let roles = self.known_roles(roles)?;
        let user = User { roles, password: Some(password), secret: UserSecret::make()? };
        self.users.insert(name.to_owned(), user);
        Ok(())
    }

    /// Sets a user's password, which ends its tokens and connections.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn set_password(&mut self, name: &str, password: PasswordHash) -> Result<(), StoreError> {
        let user = self.user_mut(name)?;
        user.password = Some(password);
        user.secret = UserSecret::make()?;
        Ok(())
    }

    /// Replaces a user's roles.
    ///
    /// # Errors
    /// If the user or a role does not exist.
    pub fn set_user_roles(&mut self, name: &str, roles: &[String]) -> Result<(), StoreError> {
        let roles = self.known_roles(roles)?;
        self.user_mut(name)?.roles = roles;
        Ok(())
    }

    /// Removes a user, also from its tenant.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] or [`StoreError::LastUser`].
    pub fn remove_user(&mut self, name: &str) -> Result<(), StoreError> {
        if self.users.len() == 1 && self.users.contains_key(name) {
            return Err(StoreError::LastUser { name: name.to_owned() });
        }
        self.users.remove(name).ok_or_else(|| not_found("user", name))?;
        for tenant in self.tenants.values_mut() {
            tenant.users.remove(name);
        }
        Ok(())
    }

    /// Creates a role or replaces its claims.
    ///
    /// # Errors
    /// If the name is invalid, or the role is built in.
    pub fn set_role(&mut self, name: &str, claims: Vec<Claim>) -> Result<(), StoreError> {
        check_name(name)?;
        if name == SUPERUSER {
            return Err(StoreError::BuiltIn);
        }
        self.roles.entry(name.to_owned()).or_default().claims = claims;
        Ok(())
    }

    /// Sets a role's policy for slow consumers; `None` leaves it to the settings.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] or [`StoreError::BuiltIn`].
    pub fn set_role_overflow(&mut self, name: &str, overflow: Option<Overflow>) -> Result<(), StoreError> {
        if name == SUPERUSER {
            return Err(StoreError::BuiltIn);
        }
        self.roles.get_mut(name).ok_or_else(|| not_found("role", name))?.overflow = overflow;
        Ok(())
    }

    /// Sets the policies that a role's holders may request in the query; `None` leaves them to the settings.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] or [`StoreError::BuiltIn`].
    pub fn set_role_query_overflow(&mut self, name: &str, all: Option<BTreeSet<Overflow>>) -> Result<(), StoreError> {
        if name == SUPERUSER {
            return Err(StoreError::BuiltIn);
        }
        self.roles.get_mut(name).ok_or_else(|| not_found("role", name))?.query_overflow = all;
        Ok(())
    }

    /// Replaces a role's limits.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] or [`StoreError::BuiltIn`].
    pub fn set_role_limits(&mut self, name: &str, limits: RoleLimits) -> Result<(), StoreError> {
        if name == SUPERUSER {
            return Err(StoreError::BuiltIn);
        }
        self.roles.get_mut(name).ok_or_else(|| not_found("role", name))?.limits = limits;
        Ok(())
    }

    /// Removes a role that no user has.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::NotFound`] or [`StoreError::BuiltIn`].
    pub fn remove_role(&mut self, name: &str) -> Result<(), StoreError> {
        if name == SUPERUSER {
            return Err(StoreError::BuiltIn);
        }
        let holders = self.users.iter().filter(|(_, user)| user.roles.contains(name));
        let users: Vec<&str> = holders.map(|(user, _)| user.as_str()).collect();
        if !users.is_empty() {
            return Err(StoreError::InUse { name: name.to_owned(), users: users.join(",") });
        }
        self.roles.remove(name).map(|_| ()).ok_or_else(|| not_found("role", name))
    }

    /// Creates or replaces a tenant.
    ///
    /// # Errors
    /// If the name is invalid, or a user does not exist or is in another tenant.
    pub fn set_tenant(&mut self, name: &str, tenant: TenantRow) -> Result<(), StoreError> {
        check_name(name)?;
        for user in &tenant.users {
            if !self.users.contains_key(user) {
                return Err(not_found("user", user));
            }
            let elsewhere = self.tenants.iter().find(|(other, row)| *other != name && row.users.contains(user));
            if let Some((other, _)) = elsewhere {
                return Err(StoreError::TwoTenants { user: user.clone(), tenant: other.clone() });
            }
        }
        self.tenants.insert(name.to_owned(), tenant);
        Ok(())
    }

    /// Removes a tenant; its users are then unrestricted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn remove_tenant(&mut self, name: &str) -> Result<(), StoreError> {
        self.tenants.remove(name).map(|_| ()).ok_or_else(|| not_found("tenant", name))
    }

    fn user_mut(&mut self, name: &str) -> Result<&mut User, StoreError> {
        self.users.get_mut(name).ok_or_else(|| not_found("user", name))
    }

    fn known_roles(&self, roles: &[String]) -> Result<BTreeSet<String>, StoreError> {
        let known = |role: &String| role == SUPERUSER || self.roles.contains_key(role);
        match roles.iter().find(|role| !known(role)) {
            Some(unknown) => Err(not_found("role", unknown)),
            None => Ok(roles.iter().cloned().collect()),
        }
    }
}

fn not_found(what: &'static str, name: &str) -> StoreError {
    StoreError::NotFound { what, name: name.to_owned() }
}
