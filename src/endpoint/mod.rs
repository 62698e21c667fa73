//! A DRP endpoint as hydrant uses it: its events, its HTTP interface and its users.
//!
//! | part | what it is |
//! |---|---|
//! | [`http`] | requests to the endpoint: a pool of connections, limits on concurrency and time |
//! | [`events`] | the link that follows its event stream and publishes it here |
//! | [`objects`] | which types of objects it has |
//! | [`identity`] | delegated authentication: its passwords, tokens, users, roles and tenants |
//!
//! Contract: runs on the control plane's runtime, never on a shard's thread. An endpoint that is slow, unreachable or
//! wrong delays only the requests that need it.

pub mod events;
pub mod http;
pub mod identity;
pub mod objects;
