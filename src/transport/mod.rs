//! Accepting connections: sockets, TLS, HTTP bodies on their way, and the upgrade to a websocket.
//!
//! This is the control plane: accept, TLS handshake, HTTP, password checks and REST run on an ordinary tokio runtime
//! ([`listener`], [`upgrade`]). An authenticated websocket is handed to a shard ([`crate::fanout::pool`]) and never
//! comes back.
//!
//! Where a balancer stands in front, [`forwarded`] (by headers) and `proxy_protocol` (by what it says first) tell who
//! the client behind it is.

pub mod caller;
pub mod forwarded;
mod handover;
pub mod listener;
mod opener;
pub mod pending;
mod proxy_protocol;
pub mod reading;
mod refusal;
pub mod relay;
pub mod socket;
pub mod summary;
pub mod tls;
mod tracked;
pub mod upgrade;
