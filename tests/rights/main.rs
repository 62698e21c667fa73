//! Who gets in, how much it may have and what it sees, through a whole server and real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/provider.rs"]
mod provider;

mod audit;
mod backup;
mod canary;
mod certificates;
mod explain;
mod explain_bounds;
mod files;
mod hidden;
mod issuer;
mod kept;
mod limits;
mod matrix;
mod streams;
