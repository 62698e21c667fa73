//! The load test against servers that behave, servers that do not, hydrant itself and its peers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod burst;
mod fake;
mod others;
mod page;
mod peers;
mod server;
mod tls;
