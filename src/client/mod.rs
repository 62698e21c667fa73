//! How the commands, and the server as a client, talk to an endpoint: HTTP requests and a websocket, in TLS or plain.
//!
//! [`Target`] says where to and as whom; [`Http`] is one kept-alive connection for requests; [`Session`] is one
//! websocket on which registrations are made and events read, [`EventStream`] one answer that brings events (rules:
//! `docs/protocol.md`). Nothing here prints, retries or reads the environment: the commands do, with
//! [`ClientError::is_final`] and [`Backoff`] to go by. [`Service`] is a target as the server's settings name it.
//!
//! Contract: every wait for the other side has a time limit. Credentials go into the `Authorization` header only,
//! never into a URL, an error or a `Debug` output. Text from the server that ends up in an error has its control
//! characters replaced, as errors are written to terminals.
//!
//! The commands do not verify certificates unless a CA file is given, as with drpcli: DRP endpoints make their own
//! certificates, and a client that refused them would be of no use on the first day. The server does unless it is told
//! otherwise.

mod backoff;
mod endpoint;
mod error;
mod http;
mod received;
mod secret;
mod service;
mod stream;
mod tls;
mod websocket;

pub use backoff::{Backoff, jitter};
pub use endpoint::{Credentials, DEFAULT_ENDPOINT, Endpoint, Target};
pub use error::{ClientError, RefusedError};
pub use http::{Http, Stream, dial};
pub use received::{Received, Registered};
pub use secret::{Secret, SecretSource};
pub use service::{Login, Service};
pub use stream::{EventStream, StreamFrom};
pub use tls::{Fingerprint, Trust};
pub use websocket::{Bounds, Session};
