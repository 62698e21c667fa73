//! Reads whole request bodies, and inflates compressed ones.
//!
//! Contract: bounded four times. A body has a maximum length, checked before it is read if the request declares its
//! own. A body may not stand still for longer than [`STILL`], nor arrive more slowly than [`PACE`] after [`GRACE`].
//! All bodies being read may hold no more memory than a few of the longest together; beyond that the answer is 503
//! with `Retry-After`. So no number of slow clients can fill the memory, and none keeps its share of it for long.
//!
//! What counts is the buffer that holds the body, not the pieces it arrived in: these are copied into the buffer. The
//! buffer has room for at most twice what has come, and for no more than the request declares.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Body as _, Frame, Incoming};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::inflate::Coding;
use super::{Api, ApiError};
use crate::json::{self, Validator};
use crate::transport::reading::Reading;

/// Maximum wait for the next piece of a body.
const STILL: Duration = Duration::from_secs(10);

/// Time that a body may take regardless of its length.
const GRACE: Duration = Duration::from_secs(20);

/// Minimum rate after [`GRACE`], in bytes per second.
const PACE: usize = 16 << 10;

/// Number of bodies of the maximum length that fit into the memory for bodies.
const LONGEST_AT_A_TIME: usize = 4;

/// Compressed bodies larger than this, in bytes, are inflated on a blocking thread, so that other requests do not wait;
/// others only their first 64 KiB here, since few bytes may inflate to many.
const LARGE: usize = 16 << 10;

/// Unit in which the memory for bodies is counted, in bytes.
const UNIT: usize = 1024;

/// The fields of a JSON object, for error messages.
pub(super) trait Fields {
    /// The name of each field, and what its value must be.
    const FIELDS: &'static [(&'static str, &'static str)];
}

/// Parses a JSON object. Arrays are refused, since serde would take their elements for the fields in order.
pub(super) fn object<'b, T: Deserialize<'b> + Fields>(body: &'b [u8]) -> Result<T, ApiError> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::Bad("the body is not a JSON object".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| ApiError::Bad(explained(body, T::FIELDS, &error)))
}

/// Explains why a body is not an object with these fields: a value is named by its field and the byte at which it
/// begins, counted from 0 as in the errors about events.
fn explained(body: &[u8], fields: &[(&str, &str)], error: &serde_json::Error) -> String {
    let text = match Validator::default().validate(body) {
        Ok(text) => text,
        Err(error) => return error.to_string(),
    };
    let whole = error.to_string();
    let reason = whole.rsplit_once(" at line ").map_or(whole.as_str(), |(reason, _)| reason);
    if ["missing field", "unknown field", "duplicate field"].iter().any(|kind| reason.starts_with(kind)) {
        return reason.to_owned();
    }
    // serde has read at least up to the byte before the value, and not beyond it.
    let before = body.split_inclusive(|&byte| byte == b'\n').take(error.line().saturating_sub(1));
    let read = before.map(<[u8]>::len).sum::<usize>() + error.column();
    let value = json::members(text).take_while(|member| member.offset <= read).last();
    let field = value.and_then(|value| Some((value.offset, fields.iter().find(|(name, _)| value.name() == *name)?)));
    match field {
        Some((offset, (name, expected))) => format!("at byte {offset}: {name} must be {expected}"),
        None => reason.to_owned(),
    }
}

/// The memory available for bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    units: Arc<Semaphore>,
}

/// The buffer of one body, with the memory reserved for it.
#[derive(Debug)]
struct Buffer<'b> {
    bodies: &'b Bodies,
    bytes: Vec<u8>,
    held: Held,
    /// The length that the body will not exceed.
    longest: usize,
}

/// Memory that is reserved until this is dropped.
pub(super) type Held = Option<OwnedSemaphorePermit>;

/// A complete body, with the memory reserved for it.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    _held: Held,
}

impl Api {
    /// Reads a body of at most `limit` bytes, inflating it if necessary.
    pub(super) async fn read_body(&self, request: Request<Incoming>, limit: usize) -> Result<Whole, ApiError> {
        let sent = self.receive_body(request, limit).await?;
        self.inflate_body(sent)
    }

    /// Reads a body of at most `limit` bytes, also once it is inflated, as it was sent.
    pub(super) async fn receive_body(&self, request: Request<Incoming>, limit: usize) -> Result<AsSent, ApiError> {
        self.bodies.receive(request, limit).await
    }

    /// Inflates a body if necessary.
    pub(super) fn inflate_body(&self, sent: AsSent) -> Result<Whole, ApiError> {
        self.bodies.inflate(sent, || self.broker.wake_shards())
    }
}

/// A complete body that is not inflated yet.
#[derive(Debug)]
pub(super) struct AsSent {
    whole: Whole,
    coding: Coding,
    /// The maximum length once it is inflated.
    limit: usize,
}

impl Bodies {
    /// Creates the memory for bodies of at most `longest` bytes.
    pub(super) fn new(longest: usize) -> Self {
        let units = (longest / UNIT).saturating_add(1).saturating_mul(LONGEST_AT_A_TIME);
        Self { units: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))) }
    }

    /// Reads a body of at most `limit` bytes. A compressed one takes the memory of what was sent until
    /// [`Bodies::inflate`].
    pub(super) async fn receive(&self, request: Request<Incoming>, limit: usize) -> Result<AsSent, ApiError> {
        let coding = Coding::of(request.headers())?;
        Ok(AsSent { whole: self.read_as_sent(request, limit).await?, coding, limit })
    }

    /// Inflates a body if necessary; `before_inflating` is called before that.
    pub(super) fn inflate(&self, sent: AsSent, before_inflating: impl FnOnce()) -> Result<Whole, ApiError> {
        let AsSent { whole, coding, limit } = sent;
        if coding == Coding::Identity {
            return Ok(whole);
        }
        before_inflating();
        let mut held = None;
        let mut inflating = coding.begin(&whole.bytes, limit);
        let mut grow = |capacity| self.hold(capacity, &mut held);
        if whole.bytes.len() > LARGE || !inflating.step(&mut grow)? {
            tokio::task::block_in_place(|| {
                while !inflating.step(&mut grow)? {}
                Ok::<_, ApiError>(())
            })?;
        }
        Ok(Whole { bytes: inflating.finish().into(), _held: held })
    }

    async fn read_as_sent(&self, request: Request<Incoming>, limit: usize) -> Result<Whole, ApiError> {
        let reading = Reading::of(&request);
        let too_large = || ApiError::TooLarge(format!("the body is larger than {limit} bytes"));
        let mut body = request.into_body();
        let told = body.size_hint();
        if told.lower() > limit as u64 {
            return Err(too_large());
        }
        let longest = told.exact().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(limit);
        let (mut buffer, begun) = (self.buffer(longest), Instant::now());
        let waits = |waits| reading.iter().for_each(|reading| reading.set_waits(waits));
        loop {
            waits(true);
            let frame = next(&mut body, begun, buffer.bytes.len()).await?;
            waits(false);
            let Some(frame) = frame else { break };
            let Ok(piece) = frame.into_data() else { continue };
            if buffer.bytes.len() + piece.len() > limit {
                return Err(too_large());
            }
            buffer.append(&piece)?;
        }
        if let Some(reading) = reading {
            reading.finish();
        }
        Ok(Whole { bytes: buffer.bytes.into(), _held: buffer.held })
    }

    fn buffer(&self, longest: usize) -> Buffer<'_> {
        Buffer { bodies: self, bytes: Vec::new(), held: None, longest }
    }

    /// Reserves memory for something else that takes as much as a body may.
    pub(super) fn reserve(&self, bytes: usize) -> Result<Held, ApiError> {
        let mut held = None;
        self.hold(bytes, &mut held)?;
        Ok(held)
    }

    /// Reserves memory so that `held` covers `bytes` in all.
    fn hold(&self, bytes: usize, held: &mut Held) -> Result<(), ApiError> {
        let have = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = bytes.div_ceil(UNIT).saturating_sub(have);
        let missing = u32::try_from(missing).map_err(|_| ApiError::Bodies)?;
        let more = Arc::clone(&self.units).try_acquire_many_owned(missing).map_err(|_| ApiError::Bodies)?;
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        Ok(())
    }
}

impl Buffer<'_> {
    fn append(&mut self, piece: &[u8]) -> Result<(), ApiError> {
        let needed = self.bytes.len() + piece.len();
        if needed > self.bytes.capacity() {
            // Twice what has come, and not only twice what was there: a long first piece is then not copied again.
            let doubled = (2 * self.bytes.len().max(piece.len())).max(UNIT);
            let capacity = needed.max(doubled.min(self.longest));
            self.bodies.hold(capacity, &mut self.held)?;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

/// Reads the next piece of a body of which `come` bytes have arrived since `begun`; returns `None` at its end.
async fn next(body: &mut Incoming, begun: Instant, come: usize) -> Result<Option<Frame<Bytes>>, ApiError> {
    let still = Instant::now() + STILL;
    let slow = begun + GRACE + Duration::from_secs((come / PACE) as u64);
    match timeout_at(still.min(slow), body.frame()).await {
        Ok(frame) => frame.transpose().map_err(|_| ApiError::CutOff),
        Err(_) if slow < still => Err(ApiError::Slow { least: PACE }),
        Err(_) => Err(ApiError::Still { after: STILL }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_no_list() {
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wish {
            name: Option<String>,
            #[serde(default)]
            others: Vec<String>,
        }
        impl Fields for Wish {
            const FIELDS: &'static [(&'static str, &'static str)] =
                &[("name", "a string"), ("others", "an array of strings")];
        }
        let read = |body: &str| object::<Wish>(body.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(read(" {\"name\": null}"), Ok(Wish { name: None, others: Vec::new() }));
        for body in ["[null]", "", "null", "\"x\""] {
            assert_eq!(read(body), Err("the body is not a JSON object".to_owned()), "{body}");
        }
        for (body, expected) in [
            ("{", "not valid JSON at byte 1: the text ends within an object"),
            ("{\"name\":5}", "at byte 8: name must be a string"),
            (" {\n\"others\" : [\"a\",\n5], \"name\":\"x\"}", "at byte 14: others must be an array of strings"),
            ("{\"others\":[],\"name\":[1]}", "at byte 20: name must be a string"),
            ("{\"others\":{\"name\":1}}", "at byte 10: others must be an array of strings"),
            ("{\"Name\":5}", "unknown field `Name`, expected `name` or `others`"),
        ] {
            assert_eq!(read(body), Err(expected.to_owned()), "{body}");
        }
    }

    #[test]
    fn the_buffer_counts_and_not_the_pieces() {
        let bodies = Bodies::new(64 << 10);
        let all = bodies.units.available_permits();
        let mut buffer = bodies.buffer(64 << 10);
        for _ in 0..10_000 {
            buffer.append(b"x").unwrap();
        }
        let held = all - bodies.units.available_permits();
        assert!((10..=16).contains(&held), "{held} units of {UNIT} bytes for a buffer of {}", buffer.bytes.capacity());
        assert!(buffer.bytes.capacity() <= held * UNIT);
        drop(buffer);
        assert_eq!(bodies.units.available_permits(), all);
    }

    #[test]
    fn a_long_first_piece_makes_room_for_a_short_rest() {
        let bodies = Bodies::new(1 << 20);
        let mut buffer = bodies.buffer(70 << 10);
        buffer.append(&vec![0; 60 << 10]).unwrap();
        assert_eq!(buffer.bytes.capacity(), 70 << 10, "all that the request declares");
        let mut buffer = bodies.buffer(1 << 20);
        buffer.append(&vec![0; 60 << 10]).unwrap();
        assert_eq!(buffer.bytes.capacity(), 120 << 10, "a client that stops here holds twice what it has sent");
    }

    #[test]
    fn four_of_the_longest_and_no_more() {
        let bodies = Bodies::new(64 << 10);
        let whole = vec![0; 64 << 10];
        let held: Vec<_> = (0..4).map(|_| bodies.buffer(64 << 10)).collect();
        let mut held: Vec<_> = held.into_iter().map(|mut buffer| buffer.append(&whole).map(|()| buffer)).collect();
        assert!(held.iter().all(Result::is_ok));
        let mut fifth = bodies.buffer(64 << 10);
        assert!(matches!(fifth.append(&whole), Err(ApiError::Bodies)));
        held.pop();
        assert!(fifth.append(&whole).is_ok());
    }
}
