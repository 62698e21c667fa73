//! Bodies of requests that are read whole, and inflated if they come compressed.
//!
//! Contract: bounded four times. A body has a longest length, told before it is read where the request tells its own; it may
//! not stand still for longer than [`STILL`], nor go on more slowly than [`PACE`] once [`GRACE`] is over; and all bodies that
//! are being read hold no more than a few of the longest together, beyond which the answer is 503 with `Retry-After`. So no
//! number of clients that send slowly can fill the memory, and none keeps its share of it for long.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Body as _, Frame, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::ApiError;
use super::inflate::Coding;
use crate::transport::reading::Reading;

/// How long the next piece of a body is waited for.
const STILL: Duration = Duration::from_secs(10);

/// How long a body may take whatever its length.
const GRACE: Duration = Duration::from_secs(20);

/// For so many bytes that have come it may take a second more.
const PACE: usize = 16 << 10;

/// So many bodies of the longest length may be held at a time.
const LONGEST_AT_A_TIME: usize = 4;

/// Compressed bodies larger than this are inflated on a thread that may block, so that others' requests do not wait.
const LARGE: usize = 16 << 10;

/// Memory for bodies is counted in pieces of so many bytes.
const PIECE: usize = 1024;

/// The memory for bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    pieces: Arc<Semaphore>,
}

/// A body, and the memory that it takes.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    _held: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    /// Memory for bodies of which the longest has so many bytes.
    pub(super) fn new(longest: usize) -> Self {
        let pieces = (longest / PIECE).saturating_add(1).saturating_mul(LONGEST_AT_A_TIME);
        Self { pieces: Arc::new(Semaphore::new(pieces.min(Semaphore::MAX_PERMITS))) }
    }

    /// Reads a body of at most `limit` bytes, compressed or not.
    pub(super) async fn read(&self, request: Request<Incoming>, limit: usize) -> Result<Whole, ApiError> {
        let coding = Coding::of(request.headers())?;
        let whole = self.read_as_sent(request, limit).await?;
        if coding == Coding::Identity {
            return Ok(whole);
        }
        let mut held = None;
        let mut inflate = || coding.inflate(&whole.bytes, limit, |bytes| self.hold(bytes, &mut held));
        let bytes = if whole.bytes.len() > LARGE { tokio::task::block_in_place(inflate) } else { inflate() }?;
        Ok(Whole { bytes: bytes.into(), _held: held })
    }

    async fn read_as_sent(&self, request: Request<Incoming>, limit: usize) -> Result<Whole, ApiError> {
        let reading = Reading::of(&request);
        let too_large = || ApiError::TooLarge(format!("the body is larger than {limit} bytes"));
        let mut body = request.into_body();
        if body.size_hint().lower() > limit as u64 {
            return Err(too_large());
        }
        let (mut bytes, mut held, begun) = (BytesMut::new(), None, Instant::now());
        while let Some(frame) = next(&mut body, begun, bytes.len()).await? {
            let Ok(piece) = frame.into_data() else { continue };
            if bytes.len() + piece.len() > limit {
                return Err(too_large());
            }
            self.hold(piece.len(), &mut held)?;
            bytes.extend_from_slice(&piece);
        }
        if let Some(reading) = reading {
            reading.finish();
        }
        Ok(Whole { bytes: bytes.freeze(), _held: held })
    }

    fn hold(&self, bytes: usize, held: &mut Option<OwnedSemaphorePermit>) -> Result<(), ApiError> {
        let pieces = u32::try_from(bytes.div_ceil(PIECE)).map_err(|_| ApiError::Bodies)?;
        let more = Arc::clone(&self.pieces).try_acquire_many_owned(pieces).map_err(|_| ApiError::Bodies)?;
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        Ok(())
    }
}

/// The next piece of a body of which so many bytes have come since it has begun; nothing at its end.
async fn next(body: &mut Incoming, begun: Instant, come: usize) -> Result<Option<Frame<Bytes>>, ApiError> {
    let still = Instant::now() + STILL;
    let slow = begun + GRACE + Duration::from_secs((come / PACE) as u64);
    match timeout_at(still.min(slow), body.frame()).await {
        Ok(frame) => frame.transpose().map_err(|_| ApiError::CutOff),
        Err(_) if slow < still => Err(ApiError::Slow { least: PACE }),
        Err(_) => Err(ApiError::Still { after: STILL }),
    }
}
