//! Hydrant: an event broker for Digital Rebar Provision fleets.
//!
//! It takes the event stream once, matches it against an index of everybody's registrations and writes it out as
//! cheaply as the kernel allows. `docs/architecture.md` tells the whole story; the way of an event through the modules is
//!
//! ```text
//! api, ingest -> event -> broker (sequence) -> fanout (shards) -> index, auth -> transport (sockets)
//! ```
//!
//! Dependencies point one way (a test in `tests/tidy.rs` holds them to it):
//! `json, event, clock, overflow` <- `protocol, index, fanout, auth` <- `broker` <- `transport, api, ingest` <- `cli` <- `main`.

pub mod api;
pub mod auth;
pub mod broker;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod delegation;
pub mod event;
pub mod fanout;
pub mod index;
pub mod ingest;
pub mod json;
pub mod metrics;
pub mod overflow;
pub mod protocol;
pub mod server;
pub mod stats;
pub mod transport;
pub mod upstream;
pub mod websocket;

/// The target of log lines that say who came, asked for what, was refused and left; switched by `log.audit`.
pub const AUDIT: &str = "hydrant::audit";
