//! A NATS client as nodes need it: dialling one of several servers, and one connection with its subscriptions in one
//! order.
//!
//! [`op`] and [`headers`] read and write the protocol and are pure; [`dial`] finds a server and logs in; [`session`] is
//! one connection, [`requests`] one that asks and waits for answers (`JetStream`). Who keeps a connection, resumes it
//! and decides what is sent over it is [`super::link`].
//!
//! Contract: at most once, as core NATS; what a peer sends is bounded before it is held. A message that cannot be read
//! costs that message and never the connection: headers are bytes until somebody asks for one.
//!
//! Why not a library: see ADR 0031.

mod address;
pub(super) mod complaints;
mod connect;
pub(super) mod dial;
pub mod headers;
mod login;
pub mod op;
pub(super) mod requests;
pub(super) mod session;
mod tls;

pub(super) use address::Address;
pub use address::AddressError;
pub(super) use dial::Dialer;
pub use login::{Login, LoginError};
pub use tls::{Tls, TlsError};
