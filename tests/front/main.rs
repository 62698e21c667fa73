//! Hydrant in front of a DRP endpoint: the proxy, and users of the endpoint. The endpoint is one of the tests' own that
//! behaves as DRP was seen to do, or another hydrant.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]
#![allow(unreachable_pub, reason = "helpers of tests are public to all of them")]

mod accounts;
mod browser;
mod chain;
#[path = "../common/mod.rs"]
mod common;
mod connections;
mod cost;
mod drain;
mod endpoint;
mod events;
mod identity;
mod judging;
mod limits;
mod memory;
mod places;
#[path = "../common/provider.rs"]
mod provider;
mod proxy;
mod session;
mod tokens;
mod traffic;
mod trouble;
