//! Hydrant: an event broker for Digital Rebar Provision (DRP) fleets.
//!
//! Hydrant receives the event stream once, matches each event against an index of all clients' registrations, and
//! writes it to the websockets of the clients that registered for it and may see it. `docs/architecture.md` describes
//! how.
//!
//! # The way of an event
//!
//! ```text
//! api, endpoint, cluster, demo -> event -> broker (sequence) -> fanout (shards)
//!     -> index, auth -> fanout (outbox, socket)
//! ```
//!
//! # Modules, from the top down
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`], [`server`] | the commands; starting, reloading and stopping a server |
//! | [`api`] | REST, the websocket handshake, the reverse proxy |
//! | [`fanout`] | the shard: everything that one thread owns |
//! | [`endpoint`], [`cluster`], [`demo`] | sources of events: a DRP endpoint, nodes over NATS, a simulated fleet |
//! | [`broker`] | the log: sequencer, inboxes, history |
//! | [`transport`] | accepting connections: listener, TLS settings, upgrade |
//! | [`tls`] | the server's side of a TLS session, without buffers at rest |
//! | [`metrics`], [`config`] | every metric; every setting |
//! | [`index`], [`explain`] | registrations and their filters; why an event does or does not reach a client |
//! | [`protocol`] | commands, answers, close codes |
//! | [`auth`] | users, roles, claims, tenants, tokens |
//! | [`event`], [`client`], [`stats`] | an event; the HTTP and websocket client; what a shard counts |
//! | [`websocket`], [`json`] | foundations: the codec of frames; JSON text |
//! | [`overflow`], [`places`], [`clock`] | foundations: overflow policies; places to wait in; the time |
//! | [`logging`], [`files`] | foundations: log lines and panics; detecting changed files |
//! | [`tasks`], [`backoff`] | foundations: starting tasks; random waits between retries |
//! | [`spans`] | foundations: traces for an OpenTelemetry collector |
//!
//! Dependencies point one way; a test in `tests/tidy/` enforces it.
//!
//! # Example
//!
//! The parts work without a server. An index finds the subscribers of an event:
//!
//! ```
//! use hydrant::event::Draft;
//! use hydrant::index::{Class, Index, Limits};
//!
//! let mut index = Index::new(Limits::default());
//! let runner = index.subscribe("runner of machine 42", Class(0));
//! index.register(runner, "machines.update.42.Stage=Eq(local)")?;
//! index.register(runner, "machine_jobs.*.42")?;
//!
//! let text = r#"{"Type":"machines","Action":"update","Key":"42","Object":{"Stage":"local"}}"#;
//! let event = Draft::read(text)?.seal(jiff::Timestamp::UNIX_EPOCH);
//!
//! let mut receivers = Vec::new();
//! index.matches(&event, |_class| true, |subscriber| receivers.push(subscriber));
//! assert_eq!(receivers, ["runner of machine 42"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod api;
pub mod auth;
pub mod backoff;
pub mod broker;
pub mod cli;
pub mod client;
pub mod clock;
#[cfg(feature = "nats")]
pub mod cluster;
#[cfg(not(feature = "nats"))]
#[path = "cluster/alone.rs"]
pub mod cluster;
pub mod config;
pub mod demo;
pub mod endpoint;
pub mod event;
pub mod explain;
pub mod fanout;
pub mod files;
pub mod index;
pub mod json;
pub mod logging;
pub mod metrics;
pub mod overflow;
pub mod places;
pub mod protocol;
pub mod server;
#[cfg(test)]
mod simulation;
#[cfg(feature = "otel")]
pub mod spans;
#[cfg(not(feature = "otel"))]
#[path = "spans/absent.rs"]
pub mod spans;
pub mod stats;
pub mod tasks;
pub mod tls;
pub mod transport;
pub mod websocket;

/// The target of log lines that say who came, asked for what, was refused and left; switched by `log.audit`.
pub const AUDIT: &str = "hydrant::audit";
