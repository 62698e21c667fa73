//! `?since=`: what was missed across a reconnect, over real sockets and against a model.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod model;
mod since;
