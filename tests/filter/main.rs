//! The filter engine: against a naive evaluator, whole registrations over real sockets likewise, against Go's regular
//! expressions, and against hostile filters.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod engine;
mod limits;
mod naive;
mod re2;
mod sockets;
mod vectors;
