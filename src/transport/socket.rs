//! A client's socket on the control plane: plain or TLS, read and written by hyper until it becomes a websocket.
//!
//! Contract: a client that takes nothing of what is written to it fails the write after a while. Without that, whoever
//! sends requests and never reads the answers would hold its socket, and a place among the unauthenticated connections,
//! for ever: hyper has a time for the head of a request only. A connection that ends while its client still sends
//! something is closed in good order: what comes is read and thrown away for [`LINGER`] at most, because otherwise the
//! system resets the connection and the client may lose the answer. What hyper answers by itself, because it cannot
//! read the head of a request, goes out as a DRP Error instead of a bare status ([`Refusal`]); only where such a head
//! comes while the answer before it still waits for the client to read is it as hyper wrote it.
//!
//! A client that has ended its side after its request (a half-close) cannot be told from one that has gone, and hyper
//! would drop the request. So the end is kept from it while the request is answered, but no longer than a write may
//! stand still: then whoever has gone is waited for no more.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use super::handover::{Handover, Parts};
use super::pending::Signs;
use super::refusal::Refusal;
use crate::auth::ClientCertificate;

/// How long a connection that has ended is listened to.
const LINGER: Duration = Duration::from_secs(2);

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    /// Boxed: a session is large.
    Tls(Box<TlsStream<TcpStream>>),
    /// It was given away ([`super::handover`]).
    Gone,
}

impl Stream {
    fn into_parts(self) -> io::Result<Parts> {
        match self {
            Self::Plain(stream) => Ok((stream.into_std()?, None)),
            Self::Tls(tls) => {
                let (stream, session) = tls.into_inner();
                Ok((stream.into_std()?, Some(Box::new(session))))
            }
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// A client's socket, plain or TLS, as hyper reads and writes it. A write that makes no progress fails.
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
    handover: Arc<Handover>,
    /// Runs once the client has ended its side.
    ended: Option<Pin<Box<Sleep>>>,
    /// What goes out instead of hyper's own answer, and how much of it has.
    refusal: Option<(String, usize)>,
}

impl Socket {
    /// A socket as it is. A write may stand still for `write_timeout`; what comes is told to `signs`.
    pub fn plain(stream: TcpStream, write_timeout: Duration, signs: Arc<Signs>) -> Self {
        Self::over(Stream::Plain(stream), write_timeout, signs)
    }

    /// The same behind TLS.
    pub fn tls(stream: TlsStream<TcpStream>, write_timeout: Duration, signs: Arc<Signs>) -> Self {
        Self::over(Stream::Tls(Box::new(stream)), write_timeout, signs)
    }

    fn over(stream: Stream, write_timeout: Duration, signs: Arc<Signs>) -> Self {
        Self {
            stream,
            write_timeout,
            stalled: None,
            signs,
            linger: None,
            handover: Arc::default(),
            ended: None,
            refusal: None,
        }
    }

    /// How the socket leaves HTTP other than by an upgrade.
    pub(super) fn handover(&self) -> &Arc<Handover> {
        &self.handover
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
    pub fn into_parts(self) -> io::Result<Parts> {
        self.stream.into_parts()
    }

    /// Gives the socket away if that is due.
    fn give_away(&mut self) -> io::Result<()> {
        let Some((take, head)) = self.handover.take() else { return Ok(()) };
        // What stands still is the rest of an earlier answer.
        if self.stalled.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        take(std::mem::replace(&mut self.stream, Stream::Gone).into_parts()?, head);
        Ok(())
    }

    fn poll_output(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Gone => Poll::Ready(Ok(buf.len())),
        }
    }

    /// Writes what goes out instead of `written`; all of that counts as written at the end.
    fn poll_refusal(&mut self, cx: &mut Context<'_>, written: usize) -> Poll<io::Result<usize>> {
        while let Some((text, sent)) = self.refusal.take_if(|(text, sent)| *sent < text.len()) {
            let output = self.poll_output(cx, &text.as_bytes()[sent..]);
            let more = if let Poll::Ready(Ok(more)) = output { more } else { 0 };
            self.refusal = Some((text, sent + more));
            if more == 0 {
                return output;
            }
        }
        Poll::Ready(Ok(written))
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
            Stream::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ended.is_none() {
            let (before, has_room) = (buf.filled().len(), buf.remaining() > 0);
            let read = this.poll_input(cx, buf);
            if read.is_ready() {
                this.signs.heard();
            }
            let is_end = matches!(read, Poll::Ready(Ok(()))) && has_room && buf.filled().len() == before;
            if !is_end {
                return read;
            }
        }
        if !this.signs.is_answering() {
            return Poll::Ready(Ok(()));
        }
        let write_timeout = this.write_timeout;
        this.ended.get_or_insert_with(|| Box::pin(tokio::time::sleep(write_timeout))).as_mut().poll(cx).map(Ok)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.give_away()?;
        if this.refusal.is_none()
            && this.signs.is_between_requests()
            && let Some(refusal) = Refusal::instead_of(buf)
        {
            this.refusal = Some((refusal.text(), 0));
            this.signs.leave_unread();
        }
        let written = if this.refusal.is_some() { this.poll_refusal(cx, buf.len()) } else { this.poll_output(cx, buf) };
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
            Stream::Gone => return Poll::Ready(Ok(())),
        };
        if matches!(written, Poll::Ready(Ok(()))) && this.signs.flushed() && this.ended.is_some() {
            // The end that was kept back is read now.
            cx.waker().wake_by_ref();
        }
        this.bounded(cx, written)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            let written = match &mut this.stream {
                Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
                Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
                Stream::Gone => return Poll::Ready(Ok(())),
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
