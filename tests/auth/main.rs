//! Users, roles, claims, tokens and tenants, from outside the library: only what `hydrant::auth` exports, and the files.

mod files;
mod issuers;
mod login;
mod support;
mod tokens;
mod visibility;
