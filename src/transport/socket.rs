//! A client's socket on the control plane: plain or TLS, read and written by hyper until it becomes a websocket.
//!
//! Contract: a client that takes nothing of what is written to it fails the write after a while. Without that, whoever
//! sends requests and never reads the answers would hold its socket, and a place among the unauthenticated connections,
//! for ever: hyper has a time for the head of a request only. A connection that ends while its client still sends
//! something is closed in good order: what comes is read and thrown away for [`LINGER`] at most, because otherwise the
//! system resets the connection and the client may lose the answer. What hyper answers by itself, because it cannot
//! read the head of a request, goes out as a DRP Error instead of a bare status ([`Refusal`]). It may stand behind the
//! rest of the answer before it, which the client has yet to take: what hyper writes beyond that rest is its own.
//!
//! A client that has ended its side after its request (a half-close) cannot be told from one that has gone, and hyper
//! would drop the request. So the end is kept from it while the request is answered, but no longer than a write may
//! stand still: then whoever has gone is waited for no more. One whose body still lacks something is gone: it is waited
//! for only until what has come of the body has been taken ([`Reading`](super::reading::Reading)).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

use super::handover::{Handover, Parts};
use super::pending::Signs;
use super::refusal::Refusal;
use crate::auth::ClientCertificate;

/// How often it is asked whether a client that has ended its side still owes some of a body.
const OWES: Duration = Duration::from_millis(500);

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
    /// Once the client has ended its side: until when that is kept from hyper, and when to look next.
    ended: Option<(Instant, Pin<Box<Sleep>>)>,
    /// What hyper had left of the last answer when it wrote last.
    rest: Option<usize>,
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
            rest: None,
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

    /// Ready when the end of the client's side is to be kept back no longer.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { ended, write_timeout, signs, .. } = self;
        let begin = || (Instant::now() + *write_timeout, Box::pin(tokio::time::sleep(OWES.min(*write_timeout))));
        let (until, look) = ended.get_or_insert_with(begin);
        loop {
            ready!(look.as_mut().poll(cx));
            let now = Instant::now();
            if signs.awaits_body() || now >= *until {
                return Poll::Ready(());
            }
            look.as_mut().reset((now + OWES).min(*until));
        }
    }

    /// How much of what hyper writes is the rest of an answer, if an answer of its own stands behind it.
    fn rest_before(&self, buf: &[u8]) -> Option<(usize, Refusal)> {
        let rest = if self.signs.is_between_requests() {
            0
        } else {
            self.rest.filter(|rest| self.signs.is_written() && *rest < buf.len())?
        };
        Some((rest, Refusal::instead_of(&buf[rest..])?))
    }

    /// Writes what hyper has written, but for an answer of its own.
    fn poll_answer(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let length = match self.rest_before(buf) {
            Some((0, refusal)) => {
                self.refusal = Some((refusal.text(), 0));
                self.signs.leave_unread();
                return self.poll_refusal(cx, buf.len());
            }
            Some((rest, _)) => rest,
            None => buf.len(),
        };
        let written = self.poll_output(cx, &buf[..length]);
        let count = if let Poll::Ready(Ok(count)) = written { count } else { 0 };
        self.rest = self.signs.is_written().then(|| length - count);
        written
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
        this.poll_end(cx).map(Ok)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.give_away()?;
        let written = if this.refusal.is_some() { this.poll_refusal(cx, buf.len()) } else { this.poll_answer(cx, buf) };
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (Socket::plain(stream, Duration::from_mins(1), Arc::default()), client)
    }

    const BARE: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

    fn poll(socket: &mut Socket, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(socket).poll_write(&mut Context::from_waker(std::task::Waker::noop()), buf)
    }

    /// As hyper writes: what is left of an answer that the client has not taken, then its own behind it.
    #[tokio::test]
    async fn an_answer_of_hypers_own_behind_one_that_is_not_taken_is_a_drp_error() {
        let (mut socket, mut client) = pair().await;
        socket.signs.busy();
        let chunk = vec![b'.'; 64 << 10];
        let mut written = 0;
        while let Poll::Ready(count) = poll(&mut socket, &chunk) {
            written += count.unwrap();
            // The kernel takes the rest when it has had a moment.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        socket.signs.written();
        // The end of the answer looks like an answer of hyper's.
        let mut buffer = [b"the end ", BARE].concat();
        let length = written + buffer.len();
        assert!(poll(&mut socket, &buffer).is_pending());
        buffer.extend_from_slice(BARE);
        let write = async { socket.write_all(&buffer).await.unwrap() };
        let mut all = Vec::new();
        let read = async {
            let mut chunk = vec![0; 64 << 10];
            while !all.ends_with(b"}") {
                let got = client.read(&mut chunk).await.unwrap();
                all.extend_from_slice(&chunk[..got]);
            }
        };
        tokio::join!(write, read);
        let (answer, refusal) = all.split_at(length);
        assert!(answer.ends_with(BARE), "the answer is whole");
        assert_eq!(String::from_utf8_lossy(refusal), Refusal::Malformed.text());
    }

    #[tokio::test]
    async fn an_end_in_the_middle_of_a_body_is_no_half_close() {
        for owes in [true, false] {
            let (mut socket, mut client) = pair().await;
            let reading = super::super::reading::Reading::default();
            socket.signs.busy();
            socket.signs.reads(Some(reading.clone()));
            reading.set_waits(owes);
            client.shutdown().await.unwrap();
            let mut chunk = [0; 16];
            let read = tokio::time::timeout(4 * OWES, socket.read(&mut chunk)).await;
            assert_eq!(read.is_ok(), owes, "the end is kept back only from who waits for nothing");
        }
    }
}
