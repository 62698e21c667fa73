//! The buffers of TLS: one pair per thread for work in progress, and what a session keeps between two calls.

use std::cell::RefCell;
use std::io::{self, Write};

/// Maximum number of plaintext bytes that one write encrypts.
pub(super) const PLAIN_BYTES: usize = 64 << 10;

/// Enough for this plaintext when encrypted: its records with their headers, and one message of TLS itself.
const CIPHER_BYTES: usize = PLAIN_BYTES + (4 << 10);

/// The buffers of one thread. What a call leaves in them is never read.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// Plaintext that was collected from several slices.
    pub(super) plain: Vec<u8>,
    /// Records, sent or received.
    pub(super) cipher: Vec<u8>,
}

impl Buffers {
    /// Calls `work` with the buffers of this thread. `work` must not call this function.
    pub(super) fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        thread_local! {
            static BUFFERS: RefCell<Buffers> = RefCell::default();
        }
        BUFFERS.with_borrow_mut(|buffers| {
            buffers.cipher.resize(buffers.cipher.len().max(CIPHER_BYTES), 0);
            work(buffers)
        })
    }
}

/// A queue of bytes that wait. It holds no memory while it is empty.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: Vec<u8>,
    consumed: usize,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the number of bytes for which it has memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Moves as many bytes as `into` can hold, and returns their number.
    pub(super) fn take(&mut self, into: &mut [u8]) -> usize {
        let waiting = &self.bytes[self.consumed..];
        let count = waiting.len().min(into.len());
        into[..count].copy_from_slice(&waiting[..count]);
        self.consume(count);
        count
    }

    /// Writes everything, unless the socket accepts no more.
    pub(super) fn write_to(&mut self, socket: &mut impl Write) -> io::Result<()> {
        while !self.is_empty() {
            let count = write(socket, &self.bytes[self.consumed..])?;
            self.consume(count);
        }
        Ok(())
    }

    fn consume(&mut self, count: usize) {
        self.consumed += count;
        if self.consumed == self.bytes.len() {
            *self = Self::default();
        }
    }
}

/// Writes once, and retries while a signal interrupts the call.
pub(super) fn write(socket: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match socket.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            written => return written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_that_was_consumed_holds_no_memory() {
        let mut backlog = Backlog::default();
        backlog.push(b"abc");
        backlog.push(b"de");
        let mut into = [0; 4];
        assert_eq!((backlog.take(&mut into), &into), (4, b"abcd"));
        assert_eq!((backlog.take(&mut into), into[0]), (1, b'e'));
        assert_eq!((backlog.take(&mut into), backlog.capacity()), (0, 0));
    }
}
