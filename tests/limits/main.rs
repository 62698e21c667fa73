//! What one client can cost the others, in time, connections and memory, and how it is stopped.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/provider.rs"]
mod provider;

mod bounds;
mod clock;
mod connections;
mod crash;
mod deflate_memory;
mod ending;
mod exhausted;
mod files;
mod log;
mod outside;
mod places;
mod priorities;
mod slow;
mod slow_memory;
mod slowloris;
mod storms;
