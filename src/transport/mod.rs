//! Accepting connections: sockets, TLS, HTTP bodies, and the upgrade to a websocket.
//!
//! This is the control plane: accept, TLS handshake, HTTP, password checks and REST run on an ordinary tokio runtime
//! ([`listener`], [`upgrade`]). An authenticated websocket is handed to a shard ([`crate::fanout::pool`]) and never
//! comes back.
//!
//! Behind a balancer, [`forwarded`] (headers) and `proxy_protocol` (the first bytes of a connection) determine the
//! client.

pub mod caller;
pub mod forwarded;
mod handover;
pub mod listener;
mod opener;
pub mod pending;
mod proxy_protocol;
mod queue;
pub mod reading;
pub mod refusal;
pub mod relay;
mod request_line;
mod secured;
pub mod signs;
pub mod slices;
pub mod socket;
pub mod tls;
mod tracked;
pub mod upgrade;
mod waiting;
