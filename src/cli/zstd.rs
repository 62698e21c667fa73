//! Zstandard as recordings use it: a sequence of independent frames.
//!
//! `zstd` reads and writes files of several frames too. Each frame is written as soon as it is complete, so a truncated
//! file can be read up to its last complete frame, and another frame can be appended at any time.

use std::io::{self, BufRead, BufReader, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The reader of the documents looks for it at the beginning of the first piece that it gets.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
/// The first byte of a file that gzip has compressed; no JSON begins with it.
const GZIP: u8 = 0x1f;

/// Compresses `bytes` into one frame.
pub(super) fn frame(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// Returns a reader of a file's content: decompressed if the file begins like a frame, otherwise as it is.
///
/// # Errors
/// If the first bytes cannot be read, or are those of gzip.
pub(super) fn plain(mut file: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut begins = Vec::new();
    // Reads no more bytes than needed to decide: a pipe may have no more for a while.
    let may_be = |known: &[u8], begins: &[u8]| begins.len() < known.len() && known.starts_with(begins);
    while may_be(&MAGIC, &begins) || may_be(&BYTE_ORDER_MARK, &begins) {
        let mut byte = [0];
        match file.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => begins.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if begins == [GZIP] {
        let reason = "it is compressed with gzip, not with zstd; `gzip -dc` unpacks it";
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    let is_compressed = begins == MAGIC;
    let whole = io::Cursor::new(begins).chain(file);
    Ok(if is_compressed { Box::new(Frames::new(whole)) } else { Box::new(whole) })
}

/// Reads the content of all frames of a source. A truncated frame is read as far as it goes, followed by an error of
/// the kind [`io::ErrorKind::UnexpectedEof`].
pub(super) struct Frames<R> {
    source: Counted<R>,
    decoder: FrameDecoder,
    in_frame: bool,
    /// The offset at which the last complete frame ends.
    whole: u64,
}

/// Counts the bytes read from a source, and notes its end.
struct Counted<R> {
    inner: BufReader<R>,
    taken: u64,
    has_ended: bool,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.taken += count as u64;
        self.has_ended |= count == 0 && !out.is_empty();
        Ok(count)
    }
}

impl<R: Read> Frames<R> {
    pub(super) fn new(source: R) -> Self {
        let source = Counted { inner: BufReader::with_capacity(256 << 10, source), taken: 0, has_ended: false };
        Self { source, decoder: FrameDecoder::new(), in_frame: false, whole: 0 }
    }

    /// Returns the offset at which the last complete frame read so far ends.
    pub(super) fn whole(&self) -> u64 {
        self.whole
    }

    /// Begins the next frame. Returns false if there is none.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.inner.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => {
                    self.in_frame = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(self.refuse(&"a frame to skip"));
                    }
                    self.whole = self.source.taken;
                }
                Err(error) => return Err(self.refuse(&error)),
            }
        }
        Ok(false)
    }

    /// Decodes until output is available, or the frame ends.
    fn decode(&mut self) -> io::Result<()> {
        while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
            let strategy = BlockDecodingStrategy::UptoBlocks(1);
            self.decoder.decode_blocks(&mut self.source, strategy).map_err(|error| self.refuse(&error))?;
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.in_frame = false;
        let (written, found) = (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum());
        if written.is_some() && written != found {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the compressed data is damaged: wrong checksum"));
        }
        self.whole = self.source.taken;
        Ok(())
    }

    /// Returns the error for a source that was truncated, or damaged.
    fn refuse(&self, error: &dyn std::fmt::Display) -> io::Error {
        if self.source.has_ended {
            let cut = "the compressed data ends too early: it may be truncated";
            io::Error::new(io::ErrorKind::UnexpectedEof, cut)
        } else {
            io::Error::new(io::ErrorKind::InvalidData, format!("the compressed data is damaged: {error}"))
        }
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame && !self.begin()? {
                return Ok(0);
            }
            self.decode()?;
            let count = self.decoder.read(out)?;
            if count > 0 {
                return Ok(count);
            }
            self.end()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: usize) -> Vec<u8> {
        (0..lines)
            .flat_map(|n| format!("{{\"Key\":\"{n}\",\"Object\":{{\"Stage\":\"local\"}}}}\n").into_bytes())
            .collect()
    }

    fn read(bytes: &[u8]) -> (Vec<u8>, u64, Option<io::ErrorKind>) {
        let mut frames = Frames::new(bytes);
        let mut found = Vec::new();
        let error = frames.read_to_end(&mut found).err();
        (found, frames.whole(), error.map(|error| error.kind()))
    }

    #[test]
    fn frames_one_after_the_other_are_one_text() {
        let pieces = [text(1), text(10_000), Vec::new(), text(3)];
        let mut bytes: Vec<u8> = pieces.iter().flat_map(|piece| frame(piece)).collect();
        // A skippable frame: it belongs to another program.
        bytes.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        bytes.extend(frame(b"x"));
        assert_eq!(read(&bytes), ([pieces.concat(), b"x".to_vec()].concat(), bytes.len() as u64, None));
        assert!(bytes.len() * 5 < pieces.concat().len(), "{} bytes", bytes.len());
        assert_eq!(read(b""), (Vec::new(), 0, None));
        let whole = |bytes: &[u8]| {
            let mut found = Vec::new();
            plain(Box::new(io::Cursor::new(bytes.to_vec()))).unwrap().read_to_end(&mut found).unwrap();
            found
        };
        assert_eq!(whole(&frame(b"x")), b"x");
        for text in [&b"{}\n"[..], b"(", b"\x28\xb5{}", b""] {
            assert_eq!(whole(text), text);
        }
    }

    #[test]
    fn what_was_cut_off_is_read_up_to_there() {
        let (first, second) = (frame(&text(10)), frame(&text(20_000)));
        let bytes = [first.clone(), second.clone()].concat();
        for at in [first.len() + 1, first.len() + 7, bytes.len() / 2, bytes.len() - 1] {
            let (found, whole, error) = read(&bytes[..at]);
            assert!([text(10), text(20_000)].concat().starts_with(&found) && found.len() >= text(10).len(), "{at}");
            assert_eq!((whole, error), (first.len() as u64, Some(io::ErrorKind::UnexpectedEof)), "{at}");
        }
        assert_eq!(read(&bytes[..first.len()]), (text(10), first.len() as u64, None));
    }

    #[test]
    fn damage_is_no_cut() {
        let good = frame(&text(1000));
        assert_eq!(read(&[&good[..], b"rubbish"].concat()).2, Some(io::ErrorKind::InvalidData));
        let mut checksum = good.clone();
        *checksum.last_mut().unwrap() ^= 1;
        assert_eq!(read(&checksum).2, Some(io::ErrorKind::InvalidData));
    }
}
