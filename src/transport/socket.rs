//! A client's socket on the control plane: plain or TLS, read and written by hyper until it becomes a websocket.
//!
//! Contract: a write fails after a while if the client accepts nothing. Otherwise a client that sends requests and
//! never reads the responses would hold its socket, and a slot for unauthenticated connections, forever: hyper only
//! limits the time for the head of a request. A connection that ends while its client still sends is closed gracefully:
//! incoming data is read and discarded for up to [`LINGER`], because otherwise the system resets the connection and the
//! client may lose the response. A response that hyper generates itself, because it cannot parse the head of a request,
//! is sent as a DRP Error instead of a bare status ([`Refusal`]). It may follow an unsent rest of the previous
//! response; whatever hyper writes beyond that rest is its own.
//!
//! A client that has closed its side after its request (a half-close) cannot be distinguished from one that is gone,
//! and hyper would drop the request. So the end of the stream is withheld from hyper while the request is answered, but
//! no longer than a write may stall; after that the client counts as gone. A client whose body is incomplete is gone:
//! its end of the stream is withheld only until the received part of the body has been read
//! ([`Reading`](super::reading::Reading)).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::handover::{Handover, Parts};
use super::refusal::Refusal;
use super::request_line::RequestLine;
use super::secured::Secured;
use super::signs::Signs;
use crate::auth::ClientCertificate;

/// How often to check whether a client that has closed its side has sent an incomplete body.
const OWES: Duration = Duration::from_millis(500);

/// How long a connection that has ended is still read from.
const LINGER: Duration = Duration::from_secs(2);

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Secured),
    /// It was handed over ([`super::handover`]).
    Gone,
}

impl Stream {
    fn into_parts(self) -> io::Result<Parts> {
        match self {
            Self::Plain(stream) => Ok((stream.into_std()?, None)),
            Self::Tls(tls) => {
                let (stream, session) = tls.into_parts();
                Ok((stream.into_std()?, Some(session)))
            }
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// A client's socket, plain or TLS, as hyper reads and writes it. A write that makes no progress fails.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    /// How long a write may make no progress.
    write_timeout: Duration,
    /// The timer that runs while a write makes no progress.
    stalled: Option<Pin<Box<Sleep>>>,
    signs: Arc<Signs>,
    /// The timer that runs once nothing more will be written.
    linger: Option<Pin<Box<Sleep>>>,
    handover: Arc<Handover>,
    /// Set once the client has closed its side: until when that is withheld from hyper, and the timer of the next
    /// check.
    ended: Option<(Instant, Pin<Box<Sleep>>)>,
    /// The bytes of the response to a request, by its number, that hyper still had to write after its last write.
    rest: Option<(u64, usize)>,
    /// The first line of the last request, after so many others; only refusals need it.
    line: (Option<u64>, RequestLine),
    /// The response sent instead of hyper's own, and how many bytes of it were sent.
    refusal: Option<(String, usize)>,
}

impl Socket {
    /// Creates a plain socket. A write may make no progress for `write_timeout`; incoming data is reported to `signs`.
    pub fn plain(stream: TcpStream, write_timeout: Duration, signs: Arc<Signs>) -> Self {
        Self::over(Stream::Plain(stream), write_timeout, signs)
    }

    /// Like [`Socket::plain`], over TLS.
    pub(super) fn tls(stream: Secured, write_timeout: Duration, signs: Arc<Signs>) -> Self {
        Self::over(Stream::Tls(stream), write_timeout, signs)
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
            line: (None, RequestLine::default()),
            refusal: None,
        }
    }

    /// Returns what is known of the connection.
    pub(super) fn signs(&self) -> &Arc<Signs> {
        &self.signs
    }

    /// Returns the handover, by which the socket leaves HTTP other than by an upgrade.
    pub(super) fn handover(&self) -> &Arc<Handover> {
        &self.handover
    }

    /// Returns the certificate that the client presented, if any; the handshake has verified it.
    pub fn certificate(&self) -> Option<ClientCertificate> {
        let Stream::Tls(tls) = &self.stream else { return None };
        tls.session().peer_certificate().map(ClientCertificate::verified)
    }

    /// Removes the socket from the control plane's poll, for a shard.
    ///
    /// # Errors
    /// The system refuses.
    pub fn into_parts(self) -> io::Result<Parts> {
        self.stream.into_parts()
    }

    /// Hands the socket over if that is due.
    fn give_away(&mut self) -> io::Result<()> {
        let Some((take, head)) = self.handover.take() else { return Ok(()) };
        // The stalled data is the rest of an earlier response.
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

    /// Writes the refusal instead of `written` bytes of hyper's, all of which count as written at the end.
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

    /// Fails a write that has made no progress for too long.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.stalled = None;
            return write;
        }
        let write_timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(write_timeout)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads and discards incoming data, until the client has closed its side too or `LINGER` is over.
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

    /// Completes when the end of the client's side must no longer be withheld.
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

    /// Returns how many bytes of what hyper writes are the rest of a response, if a response of hyper's own follows it.
    fn rest_before(&self, buf: &[u8]) -> Option<(usize, Refusal)> {
        let rest = if self.signs.is_between_requests() {
            0
        } else {
            // The rest of an earlier request's response tells nothing about the bytes of this one.
            let (request, rest) = self.rest.filter(|_| self.signs.is_written())?;
            (request == self.signs.requests() && rest < buf.len()).then_some(rest)?
        };
        Some((rest, Refusal::instead_of(&buf[rest..])?))
    }

    /// Writes what hyper has written, except a response of its own.
    fn poll_answer(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let length = match self.rest_before(buf) {
            Some((0, refusal)) => {
                self.refusal = Some((refusal.text(self.line.1), 0));
                self.signs.leave_unread();
                return self.poll_refusal(cx, buf.len());
            }
            Some((rest, _)) => rest,
            None => buf.len(),
        };
        let written = self.poll_output(cx, &buf[..length]);
        let count = if let Poll::Ready(Ok(count)) = written { count } else { 0 };
        self.rest = self.signs.is_written().then(|| (self.signs.requests(), length - count));
        written
    }

    /// Looks at the first bytes of a request.
    fn begin_request(&mut self, bytes: &[u8]) {
        let others = Some(self.signs.requests());
        if !bytes.is_empty() && self.signs.is_between_requests() && self.line.0 != others {
            self.line = (others, RequestLine::of(bytes));
        }
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
                this.begin_request(&buf.filled()[before..]);
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
            // The end that was withheld is read now.
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

    /// Writes like hyper: the unsent rest of a response, then a response of hyper's own behind it.
    #[tokio::test]
    async fn an_answer_of_hypers_own_behind_one_that_is_not_taken_is_a_drp_error() {
        let (mut socket, mut client) = pair().await;
        socket.signs.busy();
        let chunk = vec![b'.'; 64 << 10];
        let mut written = 0;
        while let Poll::Ready(count) = poll(&mut socket, &chunk) {
            written += count.unwrap();
            // The kernel accepts the rest after a moment.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        socket.signs.written();
        // The end of the response looks like a response of hyper's own.
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
        assert_eq!(String::from_utf8_lossy(refusal), Refusal::Malformed.text(RequestLine::default()));
    }

    #[tokio::test]
    async fn an_error_of_a_handler_is_not_taken_for_hypers_own_on_a_kept_connection() {
        let (mut socket, mut client) = pair().await;
        for _ in 0..3 {
            socket.signs.busy();
            socket.signs.written();
            assert!(matches!(poll(&mut socket, BARE), Poll::Ready(Ok(length)) if length == BARE.len()));
            let mut read = vec![0; BARE.len()];
            client.read_exact(&mut read).await.unwrap();
            assert_eq!(read, BARE);
            socket.flush().await.unwrap();
        }
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
