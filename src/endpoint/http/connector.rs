//! Opens connections for the pool.

use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tower_service::Service;

use crate::client::{ClientError, Service as Endpoint, Stream, dial};

/// Connects to one endpoint, whatever the URI says: the pool requests no other.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    endpoint: Endpoint,
    limit: Duration,
}

impl Connector {
    pub(super) fn new(endpoint: &Endpoint, limit: Duration) -> Self {
        Self { endpoint: endpoint.clone(), limit }
    }
}

impl Service<Uri> for Connector {
    type Response = Socket;
    type Error = ClientError;
    type Future = Pin<Box<dyn Future<Output = Result<Socket, ClientError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { endpoint, limit } = self.clone();
        Box::pin(async move { Ok(Socket(TokioIo::new(dial(&endpoint.anonymous_target()?, limit).await?))) })
    }
}

/// A TCP or TLS connection, as the pool requires it.
pub(super) struct Socket(TokioIo<Pin<Box<dyn Stream>>>);

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    /// Shuts the connection down; it is no error if the peer has already disconnected.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match Pin::new(&mut self.0).poll_shutdown(cx) {
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::NotConnected => Poll::Ready(Ok(())),
            other => other,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }
}
