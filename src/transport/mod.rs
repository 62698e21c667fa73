//! Sockets: accepting them, speaking HTTP until they become websockets, and driving the shards' websockets.
//!
//! Control plane and data plane are apart. Accept, TLS handshake, HTTP, password checks and REST run on an ordinary tokio
//! runtime ([`listener`], [`upgrade`]). An authenticated websocket is handed to one shard ([`pool`]): a thread with its own
//! poll, which reads commands through the [`guard`] and [`decode`] and writes ready frames. Nothing on the
//! way of a delivery is shared between shards.

pub mod caller;
mod driver;
mod link;
pub mod listener;
pub mod pending;
pub mod pool;
pub mod reading;
mod refusal;
pub mod relay;
pub mod socket;
pub mod summary;
pub mod tls;
pub mod upgrade;

pub use driver::Timing;
