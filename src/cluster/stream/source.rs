//! Where messages are read from: the stream on a NATS server or, in tests, one in memory.

use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::api::{self, ApiError, Info};
use super::pages::{self, Begin, PageError, Read};
use crate::cluster::nats::requests::Requests;

/// A stream that can be read.
pub(super) trait Source: fmt::Debug + Send + Sync {
    /// Returns whether requests are answered at all.
    fn is_connected(&self) -> bool;

    /// Reads up to `most` messages from `begin` on.
    fn read(&self, begin: Begin, most: u64) -> BoxFuture<'_, Result<Read, PageError>>;

    /// Queries the extent of the stream.
    fn info(&self) -> BoxFuture<'_, Result<Info, ApiError>>;
}

/// The stream with this name on a NATS server.
#[derive(Debug)]
pub(super) struct NatsStream {
    requests: Arc<Requests>,
    name: String,
}

impl NatsStream {
    pub(super) fn new(requests: Arc<Requests>, name: String) -> Self {
        Self { requests, name }
    }
}

impl Source for NatsStream {
    fn is_connected(&self) -> bool {
        self.requests.is_connected()
    }

    fn read(&self, begin: Begin, most: u64) -> BoxFuture<'_, Result<Read, PageError>> {
        pages::read(&self.requests, &self.name, begin, most).boxed()
    }

    fn info(&self) -> BoxFuture<'_, Result<Info, ApiError>> {
        api::info(&self.requests, &self.name).boxed()
    }
}
