//! Users, roles, claims, tokens and tenants, from outside the library: only what `hydrant::auth` exports, and the
//! files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

#[path = "../common/provider.rs"]
mod provider;

mod crowd;
mod files;
mod issuers;
mod kept;
mod login;
mod support;
mod tokens;
mod visibility;
