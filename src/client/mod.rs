//! How the commands talk to an endpoint: HTTP requests and a websocket, in TLS or plain.
//!
//! [`Target`] says where to and as whom; [`Http`] is one kept-alive connection for requests; [`Session`] is one
//! websocket on which registrations are made and events read (rules: `docs/protocol.md`). Nothing here prints, retries
//! or reads the environment: the commands do, with [`ClientError::is_final`] and [`Backoff`] to go by.
//!
//! Contract: every wait for the other side has a time limit. Credentials go into the `Authorization` header only,
//! never into a URL, an error or a `Debug` output. Text from the server that ends up in an error has its control
//! characters replaced, as errors are written to terminals.
//!
//! Certificates are not verified unless a CA file is given, as with drpcli: DRP endpoints make their own certificates,
//! and a client that refused them would be of no use on the first day.

mod backoff;
mod endpoint;
mod error;
mod http;
mod tls;
mod websocket;

pub use backoff::Backoff;
pub use endpoint::{Credentials, DEFAULT_ENDPOINT, Endpoint, Target};
pub use error::{ClientError, Refusal};
pub use http::Http;
pub use websocket::{Received, Session};
