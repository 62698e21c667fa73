//! A client's socket on the control plane: plain or TLS, read and written by hyper until it becomes a websocket.
//!
//! Contract: a client that takes nothing of what is written to it fails the write after a while. Without that, whoever
//! sends requests and never reads the answers would hold its socket, and a place among the unauthenticated connections, for ever: hyper
//! has a time for the head of a request only. A connection that ends while its client still sends something is closed
//! in good order: what comes is read and thrown away for [`LINGER`] at most, because otherwise the system resets the
//! connection and the client may lose the answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use super::pending::Signs;
use crate::auth::ClientCertificate;

/// How long a connection that has ended is listened to.
const LINGER: Duration = Duration::from_secs(2);

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
    write_timeout: Duration,
    /// Runs while one does.
    stalled: Option<Pin<Box<Sleep>>>,
    signs: Arc<Signs>,
    /// Runs once nothing more will be written.
    linger: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// A socket as it is. A write may stand still for `write_timeout`; what comes is told to `signs`.
    pub fn plain(stream: TcpStream, write_timeout: Duration, signs: Arc<Signs>) -> Self {
        Self { stream: Stream::Plain(stream), write_timeout, stalled: None, signs, linger: None }
    }

    /// The same behind TLS.
    pub fn tls(stream: TlsStream<TcpStream>, write_timeout: Duration, signs: Arc<Signs>) -> Self {
        Self { stream: Stream::Tls(Box::new(stream)), write_timeout, stalled: None, signs, linger: None }
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
        let write_timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(write_timeout)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads and throws away what comes, until the client has ended its side too or `LINGER` is over.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match self.poll_input(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        self.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER))).as_mut().poll(cx)
    }

    fn poll_input(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = this.poll_input(cx, buf);
        if read.is_ready() {
            this.signs.heard();
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        if matches!(written, Poll::Ready(Ok(_))) {
            this.signs.wrote();
        }
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
        if this.linger.is_none() {
            let written = match &mut this.stream {
                Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
                Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            };
            let written = ready!(this.bounded(cx, written));
            if written.is_err() || !this.signs.has_unread() {
                return Poll::Ready(written);
            }
            this.linger = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
        this.poll_linger(cx).map(Ok)
    }
}
