//! A client's socket on the control plane: plain or TLS, read and written by hyper until it becomes a websocket.
//!
//! Contract: a client that takes nothing of what is written to it fails the write after a while. Without that, whoever sends
//! requests and never reads the answers would hold its socket, and a place among the strangers, for ever: hyper has a time for
//! the head of a request only.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use crate::auth::ClientCertificate;

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    /// Boxed: a session is large.
    Tls(Box<TlsStream<TcpStream>>),
}

/// See the module's text.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    /// How long a write may stand still.
    patience: Duration,
    /// Runs while one does.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// A socket as it is. A write may stand still for `patience`.
    pub fn plain(stream: TcpStream, patience: Duration) -> Self {
        Self { stream: Stream::Plain(stream), patience, stalled: None }
    }

    /// The same behind TLS.
    pub fn tls(stream: TlsStream<TcpStream>, patience: Duration) -> Self {
        Self { stream: Stream::Tls(Box::new(stream)), patience, stalled: None }
    }

    /// The certificate that the client showed, if it showed one; the handshake has verified it.
    pub fn certificate(&self) -> Option<ClientCertificate> {
        let Stream::Tls(tls) = &self.stream else { return None };
        let chain = tls.get_ref().1.peer_certificates()?;
        chain.first().map(|certificate| ClientCertificate::verified(certificate))
    }

    /// Takes the socket off the control plane's poll, for a shard.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn into_parts(self) -> io::Result<(std::net::TcpStream, Option<Box<ServerConnection>>)> {
        match self.stream {
            Stream::Plain(stream) => Ok((stream.into_std()?, None)),
            Stream::Tls(tls) => {
                let (stream, session) = tls.into_inner();
                Ok((stream.into_std()?, Some(Box::new(session))))
            }
        }
    }

    /// Ends a write that has stood still for too long.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.stalled = None;
            return write;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        this.bounded(cx, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let written = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        this.bounded(cx, written)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let written = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        };
        this.bounded(cx, written)
    }
}
