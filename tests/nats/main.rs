//! Several nodes over a real NATS server: every event everywhere once, what is lost told, whichever part dies.
//!
//! The server is `target/tools/bin/nats-server`, put there by `make test`. A test fails where it is missing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

#[path = "../common/mod.rs"]
mod common;

mod ahead;
mod brokers;
mod cluster;
mod cost;
mod crashes;
mod deaf;
mod deaths;
mod endpoint;
mod forged;
mod holes;
mod interest;
mod kills;
mod latency;
mod links;
mod logins;
mod nodes;
mod outage;
mod pages;
mod process;
mod processes;
mod refusals;
mod rolling;
mod sharing;
mod soak;
mod storm;
mod stream;
