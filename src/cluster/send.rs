//! What this node takes in, on its way to the others.
//!
//! One task hands events over in the order of the sequencer, so that every node gets this node's events in this node's order.
//! While NATS is away it waits, the queue before it fills, and what does not fit is left out: the numbers tell the others.

use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::{Client, Subject};
use bytes::Bytes;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::subject;
use super::wire::{NodePosition, State, event_headers, heartbeat_headers};
use crate::broker::Broker;
use crate::broker::dedup::RepeatIndex;
use crate::broker::export::{Export, Exports};
use crate::event::Event;

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// See the module's text.
pub(super) struct Sender {
    pub(super) client: Client,
    pub(super) broker: std::sync::Arc<Broker>,
    pub(super) exports: Exports,
    pub(super) node: u64,
    pub(super) prefix: String,
}

enum Due {
    Export(Export),
    Heartbeat,
    End,
}

impl Sender {
    /// Runs until the broker has stopped and everything is handed over.
    pub(super) async fn run(mut self) {
        let mut ticks = interval(HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            match self.due(&mut ticks).await {
                Due::Export(export) => self.publish(&export).await,
                Due::Heartbeat => self.beat().await,
                Due::End => break,
            }
        }
        self.heartbeat(self.exports.next_number(), State::Down).await;
        if let Err(error) = self.client.flush().await {
            tracing::warn!(%error, "the last events may not have reached NATS");
        }
    }

    async fn due(&mut self, ticks: &mut Interval) -> Due {
        tokio::select! {
            biased;
            _ = ticks.tick() => Due::Heartbeat,
            export = self.exports.next() => export.map_or(Due::End, Due::Export),
        }
    }

    /// A heartbeat tells what stands before it, so it waits until that is sent.
    async fn beat(&mut self) {
        loop {
            let number = self.exports.next_number();
            match self.exports.ready() {
                Some(export) => self.publish(&export).await,
                None => return self.heartbeat(number, State::Up).await,
            }
        }
    }

    async fn heartbeat(&self, number: u64, state: State) {
        let headers = heartbeat_headers(NodePosition { node: self.node, number }, state);
        let subject = subject::heartbeat(&self.prefix);
        if let Err(error) = self.client.publish_with_headers(Subject::from(subject), headers, Bytes::new()).await {
            tracing::warn!(%error, "a heartbeat was not sent");
        }
    }

    async fn publish(&self, export: &Export) {
        for (at, event) in export.batch.events.iter().enumerate() {
            let repeat_index = export.repeat_indexes.as_ref().map(|repeat_indexes| repeat_indexes[at]);
            self.publish_one(event, export.first + at as u64, repeat_index).await;
        }
    }

    async fn publish_one(&self, event: &Event, number: u64, repeat_index: Option<RepeatIndex>) {
        let metrics = &self.broker.metrics().nats;
        let subject = subject::event(&self.prefix, event.kind(), event.action(), event.key());
        let headers = event_headers(NodePosition { node: self.node, number }, repeat_index);
        let payload = Bytes::copy_from_slice(event.json().as_bytes());
        match self.client.publish_with_headers(Subject::from(subject), headers, payload).await {
            Ok(()) => metrics.published.inc(),
            Err(error) => {
                if error.kind() == PublishErrorKind::MaxPayloadExceeded {
                    let (bytes, most) = (event.json().len(), self.client.max_payload());
                    tracing::warn!(bytes, most, "an event is larger than max_payload of the NATS server");
                }
                metrics.lost_out(1);
            }
        }
    }
}
