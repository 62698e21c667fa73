//! Accepting connections: sockets, TLS, HTTP bodies on their way, and the upgrade to a websocket.
//!
//! This is the control plane: accept, TLS handshake, HTTP, password checks and REST run on an ordinary tokio runtime
//! ([`listener`], [`upgrade`]). An authenticated websocket is handed to a shard ([`crate::fanout::pool`]) and never comes
//! back.

pub mod caller;
pub mod listener;
pub mod pending;
pub mod reading;
mod refusal;
pub mod relay;
pub mod socket;
pub mod summary;
pub mod tls;
pub mod upgrade;
