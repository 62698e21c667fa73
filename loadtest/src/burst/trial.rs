//! One kind of work in a closed loop: the size, K, the receivers, and how events are published.

use anyhow::Result;

use crate::args::Work;
use crate::check::{Checker, Counts};
use crate::frame;
use crate::inflate::deflated;
use crate::payload::{Payloads, Spread};
use crate::report::Case;

/// The parameters of one kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Size of an event as delivered, in bytes.
    pub payload: usize,
    /// Events per turn.
    pub k: u64,
    /// Whether every event has only one receiver.
    pub selective: bool,
    /// Whether frames are compressed.
    pub deflate: bool,
    /// Whether each POST has only one event.
    pub single_post: bool,
}

impl Shape {
    /// Returns every payload with every K.
    pub(super) fn all(work: &Work, deflate: bool, single_post: bool) -> Vec<Self> {
        let sizes = work.payload.iter().flat_map(|&payload| work.k.iter().map(move |&k| (payload, k)));
        sizes.map(|(payload, k)| Self { payload, k, selective: work.selective, deflate, single_post }).collect()
    }

    pub(super) fn spread(&self, clients: usize) -> Spread {
        if self.selective { Spread::One { clients: clients as u64 } } else { Spread::All }
    }

    /// Returns a case without results.
    pub(super) fn case(&self, candidate: &str, transport: &str, connections: usize) -> Case {
        Case {
            candidate: candidate.to_owned(),
            beside: None,
            transport: transport.to_owned(),
            payload: self.payload,
            k: self.k,
            connections,
            selective: self.selective,
            single_post: self.single_post,
            cipher: None,
            wire_bytes: None,
            encodings: None,
            rounds: Vec::new(),
            counts: Counts::default(),
            busy: 0,
            first_error: None,
            left_out: None,
        }
    }
}

/// Returns the frames of one turn, ready to be written.
pub(super) fn frames(shape: &Shape, user: &str, spread: Spread) -> Result<Vec<Vec<u8>>> {
    let payloads = Payloads::new(shape.payload, user, spread)?;
    let frame = |at| {
        let event = payloads.sealed(at);
        if shape.deflate {
            Ok(frame::deflated(&deflated(event.json().as_bytes())?))
        } else {
            Ok(event.frame().to_vec())
        }
    };
    (0..shape.k).map(frame).collect()
}

/// One shape on one candidate.
pub(super) struct Trial {
    pub(super) shape: Shape,
    pub(super) checker: Checker,
    pub(super) case: Case,
    /// Bytes received for the deliveries of the rounds.
    pub(super) bytes: u64,
    /// Whether a turn takes longer than a round should.
    pub(super) is_slow: bool,
}

impl Trial {
    pub(super) fn new(shape: Shape, user: &str, case: Case) -> Result<Self> {
        let spread = shape.spread(case.connections);
        let payloads = Payloads::new(shape.payload, user, spread)?;
        let checker = match spread {
            Spread::All => Checker::for_all(payloads, case.connections),
            Spread::One { .. } => Checker::for_one(payloads, case.connections),
        };
        Ok(Self { shape, checker, case, bytes: 0, is_slow: false })
    }

    pub(super) fn finish(mut self) -> Case {
        self.case.counts.add(&self.checker.counts);
        self.case.first_error = self.checker.first_error;
        let deliveries =
            self.case.rounds.iter().filter_map(|round| round.server).map(|side| side.deliveries).sum::<u64>();
        #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let bytes = (deliveries > 0).then(|| self.bytes as f64 / deliveries as f64);
        self.case.wire_bytes = bytes;
        self.case
    }
}
