//! `hydrant users|roles|tenants|token`: who may do what, kept in the data directory.
//!
//! Contract: these commands need no running server and no credentials, only the right to write the data directory; a
//! server that runs on it takes every change within a second. A change is made whole or not at all. Passwords and
//! tokens are never printed, but for the token that was asked for, which is all that goes to `out`.

mod error;
mod roles;
mod store;
mod tenants;
mod token;
#[expect(clippy::module_inception, reason = "the command is called so")]
mod users;

pub(super) use error::UsersError;
pub(super) use roles::{RolesArgs, run as run_roles};
pub(super) use tenants::{TenantsArgs, run as run_tenants};
pub(super) use token::{TokenArgs, run as run_token};
pub(super) use users::{UsersArgs, run};
