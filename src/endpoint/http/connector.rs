//! Opens connections for the pool.
//!
//! Contract: a connection ends when it has accepted nothing for [`STALLED`] times the time limit for a part of a body.
//! Before its answer an endpoint that does not read is given up earlier ([`Activity`](super::Activity)). After it,
//! hyper neither polls the body of the request nor ends the connection while a write is pending.

use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::time::{Sleep, sleep};
use tower_service::Service;

use super::UpstreamLimits;
use crate::client::{ClientError, Service as Endpoint, Stream, dial};

/// How many times `idle` a write may make no progress.
const STALLED: u32 = 2;

/// Connects to one endpoint, whatever the URI says: the pool requests no other.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    endpoint: Endpoint,
    limits: UpstreamLimits,
}

impl Connector {
    pub(super) fn new(endpoint: &Endpoint, limits: UpstreamLimits) -> Self {
        Self { endpoint: endpoint.clone(), limits }
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
        let Self { endpoint, limits } = self.clone();
        Box::pin(async move {
            let io = TokioIo::new(dial(&endpoint.anonymous_target()?, limits.connect).await?);
            Ok(Socket { io, write_timeout: limits.idle.saturating_mul(STALLED), stalled: None })
        })
    }
}

/// A TCP or TLS connection, as the pool requires it.
pub(super) struct Socket {
    io: TokioIo<Pin<Box<dyn Stream>>>,
    /// How long a write may make no progress.
    write_timeout: Duration,
    /// The timer that runs while a write makes no progress.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// Fails a write that has made no progress for too long.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, write: Poll<Result<T, Error>>) -> Poll<Result<T, Error>> {
        if write.is_ready() {
            self.stalled = None;
            return write;
        }
        let write_timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(write_timeout)));
        stalled.as_mut().poll(cx).map(|()| Err(ErrorKind::TimedOut.into()))
    }
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize, Error>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.bounded(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let written = Pin::new(&mut self.io).poll_flush(cx);
        self.bounded(cx, written)
    }

    /// Shuts the connection down; it is no error if the peer has already disconnected.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match Pin::new(&mut self.io).poll_shutdown(cx) {
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::NotConnected => Poll::Ready(Ok(())),
            other => other,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.bounded(cx, written)
    }
}
