//! The client side: HTTP requests and a websocket to an endpoint, with or without TLS. Used by the commands, and by
//! the server to reach other endpoints.
//!
//! [`Target`] says where to connect and as whom; [`Http`] is one kept-alive connection for requests; [`Session`] is
//! one websocket for registering and for reading events, [`EventStream`] one answer that brings events (rules:
//! `docs/protocol.md`). Nothing here prints, retries or reads the environment: the callers do, guided by
//! [`ClientError::is_final`] and [`Backoff`]. [`Service`] is a target as the server's settings define it.
//!
//! Contract: every wait for the other side has a time limit. Credentials are sent in the `Authorization` header only,
//! never in a URL, an error or `Debug` output. Control characters in text from the server are replaced before it
//! becomes part of an error, because errors are written to terminals.
//!
//! Commands do not verify certificates unless a CA file is given, as drpcli does not: DRP endpoints generate their own
//! certificates, and a client that refused them would be useless on the first day. The server verifies them unless it
//! is configured otherwise.
//!
//! ```no_run
//! use hydrant::client::{Bounds, ClientError, Credentials, Endpoint, Received, Session, Target, Trust};
//!
//! async fn watch(endpoint: Endpoint, credentials: &Credentials) -> Result<(), ClientError> {
//!     let target = Target::new(endpoint, credentials, &Trust::Any)?;
//!     let mut session = Session::open(&target, Bounds::default()).await?;
//!     session.register("machines.*.*").await;
//!     loop {
//!         if let Received::Event(text) = session.receive().await? {
//!             assert!(text.starts_with('{'));
//!         }
//!     }
//! }
//! ```

mod endpoint;
mod error;
mod http;
mod received;
mod secret;
mod service;
mod stream;
mod tls;
mod websocket;

pub use crate::backoff::{Backoff, jitter};
pub use endpoint::{Credentials, DEFAULT_ENDPOINT, Endpoint, Target};
pub use error::{ClientError, RefusedError, acts, printable};
pub use http::{Http, ListAnswer, Stream, dial};
pub use received::{Received, Registered};
pub use secret::{Secret, SecretSource};
pub use service::{Login, Service};
pub use stream::{EventStream, StreamFrom};
pub use tls::{Fingerprint, Trust};
pub use websocket::{Bounds, Session};
