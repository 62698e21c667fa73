//! Several nodes that share their events over NATS.
//!
//! Every node publishes what it takes in itself (posts, DRP endpoints, the simulated fleet) and sequences what the others publish, so
//! clients of any node get the events of all. Each node has an order of its own; in all of them the events of one node
//! stand in that node's order. [`send`] and [`receive`] are the two ways, [`peers`] sees what is lost between them,
//! [`crate::broker::dedup`] drops what two nodes took in both.
//!
//! Contract: delivery on the own node never waits for NATS. Between nodes it is at most once (core NATS): what is lost is told by
//! `hydrant.gap.nats`, with the number of events where it is known. No event goes round in a circle: only what a node took in itself is
//! published, the server is asked not to echo, and a node drops what bears its own name.
//!
//! Why one subscription for everything and not one for each type that clients registered for: the client library hands each
//! subscription's messages over by a queue of its own, so the order between types would be lost, and with it the
//! numbers that show losses.
//!
//! Where `JetStream` keeps what is published, [`stream`] reads replays from it.

mod health;
mod options;
mod peers;
mod receive;
mod send;
mod stream;
pub mod subject;
mod waiting;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

pub use health::{Health, Report, StreamReport};
pub use options::{Login, NatsError, NatsOptions, Tls, secret};
pub use stream::StreamOptions;
pub use stream::ensure::StreamError;

use crate::broker::Broker;
use crate::broker::export::Exports;
use crate::clock;
use receive::Receiver;
use send::Sender;
use stream::StreamArchive;
use stream::ensure::Keeper;
use waiting::{WaitingLimits, waiting};

/// What the last events get to leave when the server ends and NATS is slow or away.
const GRACE: Duration = Duration::from_secs(2);

/// What runs, and how it is.
#[derive(Debug)]
pub struct Running {
    /// Ends when told to stop.
    pub tasks: Vec<JoinHandle<()>>,
    /// Whether NATS is there.
    pub health: Arc<Health>,
}

/// Starts to share events. Returns once the client is set up, not once it is connected: it goes on trying.
///
/// # Errors
/// [`NatsError`] if the options cannot be right.
pub async fn start(
    options: &NatsOptions,
    broker: &Arc<Broker>,
    exports: Exports,
    stop: &watch::Receiver<bool>,
) -> Result<Running, NatsError> {
    let news = Arc::new(Notify::new());
    let refused = |error: &dyn std::fmt::Display| NatsError::Options(error.to_string());
    // Boxed: the client's future is large, and it runs once.
    let client =
        Box::pin(options.client(Arc::clone(&news), Arc::clone(broker.metrics()))?.connect(options.addresses()?)).await;
    let client = client.map_err(|error| refused(&error))?;
    let messages = client.subscribe(subject::all(&options.prefix)).await.map_err(|error| refused(&error))?;
    let health = Arc::new(Health::new(clock::now()));
    // Boxed for the same reason.
    let keeper = Box::pin(keep_stream(options, broker, &health)).await?;
    let (filler, queue) = waiting(WaitingLimits { messages: options.pending, bytes: options.pending_bytes });
    let filling = tokio::spawn(filler.run(messages));
    let receiver = Receiver::new(Arc::clone(broker), client.clone(), Arc::clone(&health), options);
    let sender =
        Sender { client, broker: Arc::clone(broker), exports, node: options.node, prefix: options.prefix.clone() };
    let receiving = tokio::spawn(receiver.run(queue, news, stop.clone()));
    let keeping = keeper.map(|keeper| tokio::spawn(keeper.run(stop.clone())));
    let mut stop = stop.clone();
    let sending = tokio::spawn(async move {
        let late = async {
            // The sender of the signal lives as long as the server.
            let _ = stop.changed().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            () = sender.run() => {}
            () = late => tracing::warn!("NATS did not take the last events in time"),
        }
    });
    Ok(Running { tasks: [filling, receiving, sending].into_iter().chain(keeping).collect(), health })
}

/// Has replays read from the stream, if there shall be one, over a connection of their own.
async fn keep_stream(
    options: &NatsOptions,
    broker: &Arc<Broker>,
    health: &Arc<Health>,
) -> Result<Option<Keeper>, NatsError> {
    let Some(wanted) = &options.stream else { return Ok(None) };
    // Nobody waits for news of this connection: it is looked at when it is needed.
    let client = options.client(Arc::new(Notify::new()), Arc::clone(broker.metrics()))?;
    let client = client.subscription_capacity(stream::ANSWERS);
    let client = Box::pin(client.connect(options.addresses()?)).await;
    let client = client.map_err(|error| NatsError::Options(error.to_string()))?;
    let subjects = subject::all(&options.prefix);
    let keeper = Keeper::new(client.clone(), wanted.clone(), subjects, Arc::clone(broker), Arc::clone(health));
    keeper.start().await?;
    broker.set_archive(Arc::new(StreamArchive::new(client, wanted, options.event_bytes, broker)));
    Ok(Some(keeper))
}
