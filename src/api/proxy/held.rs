//! The resources of a proxied request until its answer has been sent: its slot, its place in the metrics, and the gate
//! of its body.
//!
//! Contract: a [`Held`] lives or ends as a whole. Its fields are private on purpose: since edition 2021, a closure or
//! an `async move` block that names one field of a value captures only that field, and the others are dropped when the
//! function returns. A slot dropped that way did not bound the answers in progress. A body that is still being
//! forwarded holds the slot too, and is abandoned with the gate.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;

use super::exchange::ProxiedExchange;
use super::upload::Gate;
use crate::endpoint::http::{Slot, Upstream, UpstreamError};
use crate::metrics::ProxySide;

/// The resources of one proxied request, released together when the last byte of its answer has been sent.
pub(super) struct Held {
    exchange: ProxiedExchange,
    _slot: Arc<Slot>,
    _gate: Option<Gate>,
}

impl Held {
    pub(super) fn new(exchange: ProxiedExchange, slot: Arc<Slot>, gate: Option<Gate>) -> Self {
        Self { exchange, _slot: slot, _gate: gate }
    }

    /// Returns the request's record in the metrics.
    pub(super) fn exchange(&self) -> &ProxiedExchange {
        &self.exchange
    }

    /// Reads the whole body of an answer, of at most `longest` bytes, that hydrant adds to.
    pub(super) async fn whole(
        &self,
        upstream: &Upstream,
        body: Incoming,
        longest: usize,
    ) -> Result<Bytes, UpstreamError> {
        let whole = upstream.whole(body, longest).await;
        match &whole {
            Ok(whole) => self.exchange.down().inc_by(whole.len() as u64),
            Err(_) => self.exchange.cut_off(ProxySide::Endpoint),
        }
        whole
    }
}
