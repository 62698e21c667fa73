//! A socket with TLS on the control plane: [`Session`] over tokio's socket.
//!
//! Contract: that of a stream in [`tokio::io`]. A call that returns `Pending` has registered its task with the socket.
//! If a stream ends without an announcement by the client, that is an error.

#![allow(clippy::redundant_closure_for_method_calls, reason = "the methods are not general enough over lifetimes")]

use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::tls::Session;

/// A socket and its TLS session.
#[derive(Debug)]
pub(super) struct Secured {
    stream: TcpStream,
    /// Boxed, because a session takes a kilobyte.
    session: Box<Session>,
}

/// A polled socket, with the interface of a non-blocking one.
struct Polled<'p, 'c> {
    stream: &'p mut TcpStream,
    cx: &'p mut Context<'c>,
}

impl Read for Polled<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(into);
        match Pin::new(&mut *self.stream).poll_read(self.cx, &mut buf) {
            Poll::Ready(read) => read.map(|()| buf.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Polled<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.stream).poll_write(self.cx, bytes) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Secured {
    /// Performs the handshake.
    ///
    /// # Errors
    /// See [`Session::handshake`].
    pub(super) async fn accept(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let session = Box::new(Session::new(config).map_err(io::Error::other)?);
        let mut secured = Self { stream, session };
        std::future::poll_fn(|cx| secured.poll(cx, |session, socket| session.handshake(socket))).await?;
        Ok(secured)
    }

    /// Returns the session.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Returns the socket and the session.
    pub(super) fn into_parts(self) -> (TcpStream, Box<Session>) {
        (self.stream, self.session)
    }

    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut Session, &mut Polled<'_, '_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        match call(&mut self.session, &mut Polled { stream: &mut self.stream, cx }) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            result => Poll::Ready(result),
        }
    }
}

impl AsyncRead for Secured {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.get_mut().poll(cx, |session, socket| session.read(socket, buf.initialize_unfilled()));
        read.map_ok(|count| buf.advance(count))
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll(cx, |session, socket| session.write(socket, &[IoSlice::new(bytes)]))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll(cx, |session, socket| session.flush(socket))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.poll(cx, |session, socket| session.close(socket)))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
