//! A NATS client with what nodes need: dialling one of several servers, and one connection whose subscriptions share
//! one order.
//!
//! [`op`] and [`headers`] parse and write the protocol and are pure; [`dial`] chooses a server and logs in; [`session`]
//! is one connection, and [`requests`] one for requests and replies (`JetStream`). [`super::link`] keeps a connection
//! open, resumes it and decides what is sent over it.
//!
//! Contract: delivery is at most once, as in core NATS; the memory used for received data is bounded. An unreadable
//! message costs that message and never the connection: headers stay bytes until one is read.
//!
//! Why not a library: see ADR 0031.

mod address;
pub(super) mod complaints;
mod connect;
pub(super) mod dial;
pub mod headers;
mod login;
mod nkey;
pub mod op;
pub(super) mod requests;
pub(super) mod session;
mod tls;

pub(super) use address::Address;
pub use address::AddressError;
pub(super) use dial::Dialer;
pub use login::{Login, LoginError};
pub use nkey::NkeyError;
pub use tls::{Tls, TlsError};
