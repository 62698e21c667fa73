//! A client's socket as a shard sees it: non-blocking, plain or TLS.
//!
//! Contract: every call returns at once; after `WouldBlock` the poll reports when to try again. Bytes accepted by
//! [`Link::write`] are on their way: in the kernel, or encrypted in the TLS session, which buffers at most 64 KiB of
//! them.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::tls::Session;

/// Bytes not yet sent that the kernel may buffer for a client. Without this limit it would buffer megabytes for each
/// client that does not read, beyond the reach of the overflow policies; a lower one would make writes small.
const UNSENT_BYTES: u32 = 128 << 10;

/// A socket as the control plane hands it over.
#[derive(Debug)]
pub struct Accepted {
    /// The socket.
    pub stream: std::net::TcpStream,
    /// Its TLS session, if it has one.
    pub tls: Option<Box<Session>>,
}

/// What the event loop needs of a client's socket. The server has one kind, [`Link`]; the simulation
/// (`crate::simulation`) has another one in memory, so that it can run the same loop without a kernel.
pub(crate) trait Socket: fmt::Debug + Sized {
    /// The socket before the shard owns it.
    type Accepted: fmt::Debug;

    /// Takes over a socket.
    fn open(accepted: Self::Accepted) -> io::Result<Self>;

    /// Has the kernel close the connection when the client has acknowledged no written data for this long. For clients
    /// that send nothing themselves.
    fn bound_silence(&mut self, silence: Duration);

    /// Has the poll report when the socket can be read or written.
    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()>;

    /// Has the poll forget the socket.
    fn deregister(&mut self, registry: &Registry) -> io::Result<()>;

    /// Reads what the client sent. Returns 0 at the end of the stream.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Writes as much as the socket accepts. Returns the number of bytes.
    fn write(&mut self, frames: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Writes the bytes that TLS has encrypted to the socket.
    fn flush(&mut self) -> io::Result<()>;

    /// Returns whether the link is plain. Then a partial write means that the kernel accepts no more; with TLS it may
    /// be the limit of TLS's own buffer.
    fn is_plain(&self) -> bool;

    /// Shuts down the writing side.
    fn finish(&mut self) -> io::Result<()>;

    /// Returns how many received bytes wait for the rest of their record.
    fn undigested_bytes(&self) -> usize {
        0
    }
}

/// A non-blocking client socket owned by a shard, plain or TLS.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    /// Boxed: a session takes a kilobyte and most links have none.
    tls: Option<Box<Session>>,
}

impl Socket for Link {
    type Accepted = Accepted;

    fn open(Accepted { stream, tls }: Accepted) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let socket = SockRef::from(&stream);
        if let Err(error) = socket.set_tcp_nodelay(true).and_then(|()| socket.set_tcp_notsent_lowat(UNSENT_BYTES)) {
            tracing::debug!(%error, "cannot set the options of a client's socket");
        }
        Ok(Self { stream: TcpStream::from_std(stream), tls })
    }

    fn bound_silence(&mut self, silence: Duration) {
        if let Err(error) = SockRef::from(&self.stream).set_tcp_user_timeout(Some(silence)) {
            tracing::debug!(%error, "cannot set the timeout for unacknowledged data of a client's socket");
        }
    }

    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.stream)
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.read(into) };
        match tls.read(&mut self.stream, into) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }

    fn write(&mut self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        match (&mut self.tls, frames) {
            (Some(tls), frames) => tls.write(&mut self.stream, frames),
            // A vectored write of one chunk costs the kernel more than a plain one.
            (None, [frame]) => self.stream.write(frame),
            (None, frames) => self.stream.write_vectored(frames),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tls.as_mut().map_or(Ok(()), |tls| tls.flush(&mut self.stream))
    }

    fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.close(&mut self.stream)?;
        }
        self.stream.shutdown(Shutdown::Write)
    }

    fn undigested_bytes(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.undigested_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as Stream};

    use super::*;

    #[test]
    fn a_client_that_does_not_read_leaves_little_in_the_kernel() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Stream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = Accepted { stream: listener.accept().unwrap().0, tls: None };
        let mut link = Link::open(accepted).unwrap();
        let socket = SockRef::from(&link.stream);
        assert_eq!((socket.tcp_nodelay().unwrap(), socket.tcp_notsent_lowat().unwrap()), (true, UNSENT_BYTES));
        let filler = vec![0; 1 << 16];
        let mut taken = 0;
        while let Ok(bytes) = link.write(&[IoSlice::new(&filler)]) {
            taken += bytes;
            assert!(taken < 64 << 20, "the kernel takes it all");
        }
        // The client's own receive buffer comes on top.
        let buffered = SockRef::from(&client).recv_buffer_size().unwrap();
        assert!(taken <= 2 * buffered + 2 * UNSENT_BYTES as usize, "{taken} taken, {buffered} at the client");
    }
}
