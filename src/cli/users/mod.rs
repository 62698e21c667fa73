//! `hydrant users|roles|tenants|token`: manage users and their rights in the data directory.
//!
//! Contract: these commands need no running server and no credentials, only the right to write the data directory; a
//! server that runs on it applies every change within a second. A change is made completely or not at all. Passwords
//! and tokens are never printed, except for the requested token, which is all that goes to `out`.

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
