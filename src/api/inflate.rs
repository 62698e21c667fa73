//! Compressed bodies (`Content-Encoding`): gzip and deflate, as Fluent Bit, Vector and curl send them.
//!
//! Contract: the limit on a body applies to its inflated size, and memory is reserved before it is inflated, so a few
//! bytes that inflate to gigabytes cost no more than the longest allowed body. An unknown encoding is 415; a body that
//! does not match its header is 400.

use std::io::Read;

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use hyper::HeaderMap;
use hyper::header::CONTENT_ENCODING;

use super::ApiError;

/// Number of bytes inflated at a time.
const STEP: usize = 64 << 10;

/// The content coding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
    Deflate,
}

impl Coding {
    /// Parses the coding from the headers.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let values = headers.get_all(CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("?"));
        let codings: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
        match codings.as_slice() {
            [] | [""] => Ok(Self::Identity),
            [one] if one.eq_ignore_ascii_case("identity") => Ok(Self::Identity),
            [one] if one.eq_ignore_ascii_case("gzip") || one.eq_ignore_ascii_case("x-gzip") => Ok(Self::Gzip),
            [one] if one.eq_ignore_ascii_case("deflate") => Ok(Self::Deflate),
            others => Err(ApiError::ContentCoding(others.join(", ").chars().take(64).collect())),
        }
    }

    /// Begins to inflate a body of this coding to at most `limit` bytes.
    pub(super) fn begin(self, body: &[u8], limit: usize) -> Inflating<'_> {
        let (from, coding): (Box<dyn Read + Send + '_>, _) = match self {
            Self::Identity => (Box::new(body), "identity"),
            Self::Gzip => (Box::new(MultiGzDecoder::new(body)), "gzip"),
            Self::Deflate => (Box::new(ZlibDecoder::new(body)), "deflate"),
        };
        Inflating { from, coding, limit, out: Vec::new() }
    }
}

/// A body of which a part is inflated.
pub(super) struct Inflating<'b> {
    from: Box<dyn Read + Send + 'b>,
    coding: &'static str,
    limit: usize,
    out: Vec<u8>,
}

impl Inflating<'_> {
    /// Inflates up to [`STEP`] more bytes. Returns whether that was the end. `grow` is called with the new capacity
    /// before the buffer grows.
    pub(super) fn step(&mut self, grow: &mut impl FnMut(usize) -> Result<(), ApiError>) -> Result<bool, ApiError> {
        let Self { from, coding, limit, out } = self;
        let start = out.len();
        if start + STEP > out.capacity() {
            let capacity = (2 * out.capacity()).min(limit.saturating_add(1)).max(start + STEP);
            grow(capacity)?;
            out.reserve_exact(capacity - start);
        }
        out.resize(start + STEP, 0);
        let mut filled = start;
        while filled < out.len() {
            let step = from.read(&mut out[filled..]).map_err(|error| {
                ApiError::Bad(format!(
                    "the body is not {coding} data as `Content-Encoding: {coding}` says, it is truncated, or something \
                     follows that data: {error}"
                ))
            })?;
            if step == 0 {
                break;
            }
            filled += step;
        }
        if filled > *limit {
            return Err(too_large(*limit));
        }
        let is_end = filled < out.len();
        out.truncate(filled);
        Ok(is_end)
    }

    /// Returns what has been inflated.
    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }
}

fn too_large(limit: usize) -> ApiError {
    ApiError::TooLarge(format!("the body inflates to more than {limit} bytes"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    /// Inflates all of a body.
    fn inflate(
        coding: Coding,
        body: &[u8],
        limit: usize,
        mut grow: impl FnMut(usize) -> Result<(), ApiError>,
    ) -> Result<Vec<u8>, ApiError> {
        let mut inflating = coding.begin(body, limit);
        while !inflating.step(&mut grow)? {}
        Ok(inflating.finish())
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), Compression::best());
        out.write_all(text).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn what_was_deflated_is_inflated_within_bounds() {
        let text = vec![b'x'; 200_000];
        let free = |_| Ok(());
        assert_eq!(inflate(Coding::Gzip, &gzip(&text), 200_000, free).unwrap(), text);
        let twice = [gzip(b"one"), gzip(b"two")].concat();
        assert_eq!(inflate(Coding::Gzip, &twice, 6, free).unwrap(), b"onetwo");
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(&text).unwrap();
        assert_eq!(inflate(Coding::Deflate, &zlib.finish().unwrap(), 200_000, free).unwrap(), text);
        let error = inflate(Coding::Gzip, &gzip(&text), 199_999, free).unwrap_err();
        assert_eq!(error.status().as_u16(), 413);
        let mut steps = 0;
        let mut count = |_| {
            steps += 1;
            if steps > 3 { Err(ApiError::Bodies) } else { Ok(()) }
        };
        let bomb = gzip(&vec![0; 8 << 20]);
        assert_eq!(inflate(Coding::Gzip, &bomb, 64 << 20, &mut count).unwrap_err().status().as_u16(), 503);
    }

    /// A caller decides after each step where the next is made.
    #[test]
    fn a_step_is_short_however_few_bytes_it_takes() {
        let bomb = gzip(&vec![0; 8 << 20]);
        assert!(bomb.len() < 16 << 10);
        let mut inflating = Coding::Gzip.begin(&bomb, 64 << 20);
        assert!(!inflating.step(&mut |_| Ok(())).unwrap());
        assert_eq!(inflating.finish().len(), STEP);
    }

    #[test]
    fn what_is_not_deflated_is_told() {
        let whole = gzip(b"hello");
        for body in [&whole[..whole.len() - 4], b"hello", &[&*whole, b"more"].concat()] {
            let error = inflate(Coding::Gzip, body, 1000, |_| Ok(())).unwrap_err();
            assert_eq!(error.status().as_u16(), 400, "{error}");
        }
        assert_eq!(inflate(Coding::Gzip, b"", 1000, |_| Ok(())).unwrap_err().status().as_u16(), 400);
    }

    #[test]
    fn codings_are_known_or_not() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, hyper::header::HeaderValue::from_static(value));
            Coding::of(&headers).ok()
        };
        assert_eq!(of("GZIP"), Some(Coding::Gzip));
        assert_eq!(of("x-gzip"), Some(Coding::Gzip));
        assert_eq!(of("identity"), Some(Coding::Identity));
        assert_eq!(of("deflate"), Some(Coding::Deflate));
        assert_eq!((of("br"), of("zstd"), of("gzip, gzip")), (None, None, None));
        assert_eq!(Coding::of(&HeaderMap::new()).unwrap(), Coding::Identity);
    }
}
