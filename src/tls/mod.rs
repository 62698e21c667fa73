//! The server's side of a client's TLS session, on the control plane and on a shard.
//!
//! rustls' own connection keeps a read buffer of 4 KiB as long as it lives, almost half of an idle client's memory.
//! A session here keeps keys and state. It encrypts and decrypts in buffers that all sessions of a thread share. It
//! holds memory only for bytes that must wait: an incomplete record, bytes for which its owner has no room, and records
//! that the socket does not accept yet. rustls' unbuffered interface implements the protocol.
//!
//! Contract: no call waits for the socket. `WouldBlock` comes from the socket; the call can be repeated when the socket
//! is ready. Bytes that [`Session::write`] has accepted are in the socket, or encrypted in the session. One call
//! accepts at most 64 KiB, and nothing while earlier bytes wait. At most 64 KiB and one read (82 KiB) of undecrypted
//! bytes wait, and as much plaintext as one read brings. After a violation of the protocol every call fails; the alert
//! is sent if the socket accepts it.

mod buffers;

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::{fmt, mem};

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{Error, ServerConfig};

use buffers::{Backlog, Buffers, PLAIN_BYTES};

/// Number of undecrypted bytes at which the next read fails: the longest handshake message. A record is shorter. The
/// bytes belong to an incomplete record or handshake message and wait for the rest.
const UNDIGESTED_BYTES: usize = 64 << 10;

/// Maximum number of bytes in one read from the socket: enough for the longest record and its header.
const READ_BYTES: usize = (16 << 10) + (2 << 10) + 5;

/// The state of rustls in which it can encrypt data to send.
type Traffic<'c> = WriteTraffic<'c, ServerConnectionData>;

/// The number of times that one call reads from the socket without a result. Clients can send a great many records that
/// yield nothing, such as key updates.
const READS: usize = 4;

/// The server's side of a TLS session.
pub struct Session {
    connection: UnbufferedServerConnection,
    /// Received bytes that rustls has not consumed. It may refer to them by position.
    undigested: Vec<u8>,
    /// Decrypted bytes that the caller has not read yet.
    plain: Backlog,
    /// Records that the socket has not accepted yet.
    outgoing: Backlog,
    /// Whether the client has announced that it sends nothing more.
    has_peer_closed: bool,
    /// Whether this side has announced that it sends nothing more.
    is_closed: bool,
    has_failed: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("undigested", &self.undigested.len()).finish_non_exhaustive()
    }
}

/// The destination of decrypted bytes: the reader's buffer while it has room, then the backlog.
struct Sink<'s> {
    room: &'s mut [u8],
    filled: usize,
    rest: &'s mut Backlog,
}

impl Sink<'_> {
    fn push(&mut self, bytes: &[u8]) {
        let room = &mut self.room[self.filled..];
        let (now, later) = bytes.split_at(bytes.len().min(room.len()));
        room[..now.len()].copy_from_slice(now);
        self.filled += now.len();
        self.rest.push(later);
    }
}

impl Session {
    /// Creates a session. The client begins the handshake.
    ///
    /// # Errors
    /// The configuration is unusable.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            undigested: Vec::new(),
            plain: Backlog::default(),
            outgoing: Backlog::default(),
            has_peer_closed: false,
            is_closed: false,
            has_failed: false,
        })
    }

    /// Continues the handshake until it is complete and everything is sent.
    ///
    /// # Errors
    /// Those of the socket; `InvalidData` if the client violates the protocol, or has nothing in common with the
    /// configuration; `UnexpectedEof` if the client is gone.
    pub fn handshake(&mut self, socket: &mut (impl Read + Write)) -> io::Result<()> {
        loop {
            self.outgoing.write_to(socket)?;
            if !self.connection.is_handshaking() {
                return Ok(());
            }
            self.fill(socket, &mut [])?;
        }
    }

    /// Returns the certificate that the client presented; the handshake has verified it.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        Some(self.connection.peer_certificates()?.first()?)
    }

    /// Reads decrypted bytes and returns their number, which is 0 once the client has announced the end.
    ///
    /// # Errors
    /// `Interrupted` if [`READS`] reads of the socket have yielded nothing, although more may follow. Those of the
    /// socket; `InvalidData` if the client violates the protocol; `UnexpectedEof` if it ends the connection without
    /// announcing that.
    pub fn read(&mut self, socket: &mut (impl Read + Write), into: &mut [u8]) -> io::Result<usize> {
        for _ in 0..READS {
            let count = self.plain.take(into);
            if count > 0 || into.is_empty() || self.has_peer_closed {
                return Ok(count);
            }
            let count = self.fill(socket, into)?;
            // What rustls has to say by itself, such as an alert, waits for nobody.
            if !self.outgoing.is_empty() {
                ignore_would_block(self.outgoing.write_to(socket))?;
            }
            if count > 0 {
                return Ok(count);
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    /// Encrypts and writes bytes. Returns the number of accepted bytes.
    ///
    /// # Errors
    /// Those of the socket, in particular `WouldBlock` while earlier bytes wait; `BrokenPipe` if nothing can be sent
    /// any more.
    pub fn write(&mut self, socket: &mut impl Write, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.outgoing.write_to(socket)?;
        if self.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Buffers::with(|Buffers { plain, cipher }| {
            let text = collect(slices, plain);
            if text.is_empty() {
                return Ok(0);
            }
            let sealed = self.seal(cipher, |traffic, cipher| traffic.encrypt(text, cipher))?;
            ignore_would_block(self.send(socket, &cipher[..sealed]))?;
            Ok(text.len())
        })
    }

    /// Writes the records that wait.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn flush(&mut self, socket: &mut impl Write) -> io::Result<()> {
        self.outgoing.write_to(socket)
    }

    /// Announces that nothing more will be sent.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn close(&mut self, socket: &mut impl Write) -> io::Result<()> {
        if !mem::replace(&mut self.is_closed, true) && !self.has_failed {
            Buffers::with(|Buffers { cipher, .. }| {
                let sealed = self.seal(cipher, close_notify)?;
                self.outgoing.push(&cipher[..sealed]);
                Ok::<_, io::Error>(())
            })?;
        }
        self.outgoing.write_to(socket)
    }

    /// Returns how many received bytes wait for the rest of their record or handshake message.
    pub fn undigested_bytes(&self) -> usize {
        self.undigested.len()
    }

    /// Sends records after those that wait. Records that the socket does not accept wait too.
    fn send(&mut self, socket: &mut impl Write, mut records: &[u8]) -> io::Result<()> {
        while self.outgoing.is_empty() && !records.is_empty() {
            match buffers::write(socket, records) {
                Ok(count) => records = &records[count..],
                Err(error) => {
                    self.outgoing.push(records);
                    return Err(error);
                }
            }
        }
        self.outgoing.push(records);
        self.outgoing.write_to(socket)
    }

    /// Makes rustls encrypt data into `cipher`. Returns the number of encrypted bytes.
    fn seal(
        &mut self,
        cipher: &mut Vec<u8>,
        encrypt: impl Fn(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> io::Result<usize> {
        let mut undigested = mem::take(&mut self.undigested);
        let (consumed, sealed) = self.digest(&mut undigested, &mut [], |traffic| {
            encrypt(traffic, cipher).or_else(|error| match error {
                EncryptError::InsufficientSize(size) => {
                    cipher.resize(size.required_size, 0);
                    encrypt(traffic, cipher)
                }
                EncryptError::EncryptExhausted => Err(error),
            })
        });
        undigested.drain(..consumed.min(undigested.len()));
        self.undigested = undigested;
        let sealed = sealed?.1.ok_or(io::ErrorKind::BrokenPipe)?;
        sealed.map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))
    }

    /// Reads from the socket once and decrypts. Returns the number of bytes in `into`.
    fn fill(&mut self, socket: &mut (impl Read + Write), into: &mut [u8]) -> io::Result<usize> {
        if self.has_failed || self.undigested.len() >= UNDIGESTED_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Buffers::with(|Buffers { cipher, .. }| {
            let kept = self.undigested.len();
            cipher.resize(cipher.len().max(kept + READ_BYTES), 0);
            let count = socket.read(&mut cipher[kept..kept + READ_BYTES])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            cipher[..kept].copy_from_slice(&self.undigested);
            let received = &mut cipher[..kept + count];
            let (consumed, result) = self.digest(received, into, |_| ());
            // Exactly as much memory as there are bytes: the rest may not come for a long time.
            self.undigested = received[consumed.min(kept + count)..].to_vec();
            match result {
                Ok((filled, _)) => Ok(filled),
                Err(error) => {
                    // The client learns the reason if it can.
                    let _ = self.outgoing.write_to(socket);
                    Err(error)
                }
            }
        })
    }

    /// Processes received bytes until only sending is left. Returns the number of consumed bytes, the number of
    /// decrypted bytes in `into`, and the result of `send` if something can be sent.
    fn digest<T>(
        &mut self,
        received: &mut [u8],
        into: &mut [u8],
        mut send: impl FnMut(&mut Traffic<'_>) -> T,
    ) -> (usize, io::Result<(usize, Option<T>)>) {
        if self.has_failed {
            return (0, Err(io::ErrorKind::InvalidData.into()));
        }
        let mut consumed = 0;
        let mut sink = Sink { room: into, filled: 0, rest: &mut self.plain };
        loop {
            let (connection, outgoing) = (&mut self.connection, &mut self.outgoing);
            let (discard, step) = step(connection, &mut received[consumed..], &mut sink, outgoing, &mut send);
            consumed += discard;
            match step {
                Step::Made => {}
                Step::PeerClosed => self.has_peer_closed = true,
                Step::Spent(result) => return (consumed, Ok((sink.filled, result))),
                Step::Failed(error) => {
                    self.fail(&mut received[consumed..]);
                    return (consumed, Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
        }
    }

    /// Collects the alert of a session that has failed, and what has to be sent before it. Bytes that were not read yet
    /// are dropped, because bytes before them are missing.
    fn fail(&mut self, rest: &mut [u8]) {
        self.has_failed = true;
        self.plain = Backlog::default();
        // With nothing left to send, rustls would process the same bytes again.
        while self.connection.wants_write() {
            match self.connection.process_tls_records(rest).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.outgoing),
                _ => break,
            }
        }
    }
}

/// Encrypts the announcement that nothing more will be sent. This is a function because the method itself is not
/// general over the lifetime of the traffic.
fn close_notify(traffic: &mut Traffic<'_>, cipher: &mut [u8]) -> Result<usize, EncryptError> {
    traffic.queue_close_notify(cipher)
}

/// The result of one step of rustls.
enum Step<T> {
    /// There may be more to do.
    Made,
    /// The client sends nothing more; there may be more to do.
    PeerClosed,
    /// Only sending is left. Contains the result of sending, if that was possible.
    Spent(Option<T>),
    Failed(Error),
}

/// Makes rustls process the beginning of `received`. Returns the number of consumed bytes and the result.
fn step<T>(
    connection: &mut UnbufferedServerConnection,
    received: &mut [u8],
    sink: &mut Sink<'_>,
    outgoing: &mut Backlog,
    send: &mut impl FnMut(&mut Traffic<'_>) -> T,
) -> (usize, Step<T>) {
    let UnbufferedStatus { mut discard, state } = connection.process_tls_records(received);
    let step = match state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            while let Some(Ok(record)) = traffic.next_record() {
                sink.push(record.payload);
                discard += record.discard;
            }
            Step::Made
        }
        Ok(ConnectionState::EncodeTlsData(data)) => {
            encode(data, outgoing);
            Step::Made
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Step::Made
        }
        Ok(ConnectionState::PeerClosed) => Step::PeerClosed,
        Ok(ConnectionState::WriteTraffic(mut traffic)) => Step::Spent(Some(send(&mut traffic))),
        // The handshake waits for the client, or both sides have closed. Early data is not accepted.
        Ok(_) => Step::Spent(None),
        Err(error) => Step::Failed(error),
    };
    (discard, step)
}

/// Appends a message that rustls sends by itself.
fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, outgoing: &mut Backlog) {
    let mut message = Vec::new();
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut message) {
        message.resize(size.required_size, 0);
        let _ = data.encode(&mut message);
    }
    outgoing.push(&message);
}

/// Returns the first bytes of these slices, as many as one write encrypts.
fn collect<'b>(slices: &'b [IoSlice<'_>], buffer: &'b mut Vec<u8>) -> &'b [u8] {
    if let [slice] = slices {
        return &slice[..slice.len().min(PLAIN_BYTES)];
    }
    buffer.clear();
    for slice in slices {
        let room = PLAIN_BYTES - buffer.len();
        buffer.extend_from_slice(&slice[..slice.len().min(room)]);
        if buffer.len() == PLAIN_BYTES {
            break;
        }
    }
    buffer
}

fn ignore_would_block(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests;
