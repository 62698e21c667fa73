//! Several nodes that share their events over NATS.
//!
//! Every node publishes the events it accepts itself (from posts, DRP endpoints and the simulated fleet) and sequences
//! those that other nodes publish, so a client of any node receives the events of all nodes. Each node has its own
//! global order; within each of them, the events of any one node keep that node's order. [`send`] and [`receive`] are
//! the two directions, [`peers`] detects losses between nodes, and [`crate::broker::dedup`] drops events that two nodes
//! accepted independently.
//!
//! Contract: local delivery never waits for NATS. Between nodes delivery is at most once (core NATS); losses are
//! reported by `hydrant.gap.nats`, with the number of events if it is known. No event loops: a node publishes only
//! events it accepted itself, asks the server not to echo them, and drops messages that carry its own node name.
//!
//! Why one subscription for all events and not one per registered type: the sequence numbers that reveal losses are per
//! node, not per type, and the history of a node covers all types (ADR 0033). Events that no client has registered for
//! are batched instead ([`gathering`]).
//!
//! If `JetStream` stores the published events, [`stream`] reads replays from it.

mod gate;
mod gathering;
mod health;
mod line;
mod link;
pub mod nats;
mod notices;
mod options;
mod order;
pub mod peers;
mod recalled;
mod receive;
mod runs;
mod send;
#[cfg(test)]
pub(crate) mod simulated;
mod stream;
pub mod subject;
mod waiting;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use health::{Health, Report, StreamReport};
pub use nats::{Login, LoginError, NkeyError, Tls};
pub use options::{NatsError, NatsOptions, secret};
pub use stream::StreamOptions;
pub use stream::ensure::StreamError;

use crate::broker::Broker;
use crate::broker::export::Exports;
use crate::clock;
use crate::tasks;
use gate::Gate;
use gathering::Gathering;
use link::{Link, Status};
use nats::requests::requests;
use receive::Receiver;
use send::Sender;
use stream::StreamArchive;
use stream::ensure::Keeper;
use waiting::{WaitingLimits, waiting};

/// Time to send the last events at shutdown if NATS is slow or unavailable.
const GRACE: Duration = Duration::from_secs(2);

/// The running tasks of the cluster and the health they report.
#[derive(Debug)]
pub struct Running {
    /// End when the stop signal is set.
    pub tasks: Vec<JoinHandle<()>>,
    /// The state of the NATS connection and of the stream.
    pub health: Arc<Health>,
}

/// Starts sharing events. Returns once the client is set up, before it is connected: connecting is retried for ever.
///
/// # Errors
/// [`NatsError`] if the options are invalid.
pub async fn start(
    options: &NatsOptions,
    broker: &Arc<Broker>,
    exports: Exports,
    stop: &watch::Receiver<bool>,
) -> Result<Running, NatsError> {
    let health = Arc::new(Health::new(Arc::clone(broker.metrics()), clock::now()));
    let gate = Arc::<Gate>::default();
    let dialer = options.dialer()?;
    let mut tasks = keep_stream(options, broker, &health, stop).await?;
    let (filler, queue) = waiting(WaitingLimits { messages: options.pending, bytes: options.pending_bytes });
    let (status, connection) = watch::channel(Status::default());
    let receiver = Receiver::new(Arc::clone(broker), (Arc::clone(&gate), Arc::clone(&health)), connection, options);
    let name = (options.node, options.prefix.clone());
    let sender = Sender::new(Arc::clone(broker), exports, name.clone(), Arc::clone(&gate), stop.clone());
    let shared = (gate, Arc::clone(&health), Arc::clone(broker.metrics()));
    let gathering = Gathering::new(broker, filler, &options.prefix, options.linger);
    let link = Link::new((dialer, gathering, sender), shared, status, name);
    tasks.push(tasks::spawn(receiver.run(queue, stop.clone())));
    tasks.push(tasks::spawn(run(link, stop.clone())));
    Ok(Running { tasks, health })
}

/// Runs until everything is sent, and for at most [`GRACE`] after the stop signal.
async fn run(mut link: Link, mut stop: watch::Receiver<bool>) {
    let late = async {
        // The sender of the signal lives as long as the server.
        let _ = stop.changed().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = link.run() => return,
        () = late => {}
    }
    let events = link.give_up();
    tracing::warn!(events, "shutting down: NATS did not accept the last events in time");
}

/// Enables replays from the stream if one is configured, over a separate connection.
async fn keep_stream(
    options: &NatsOptions,
    broker: &Arc<Broker>,
    health: &Arc<Health>,
    stop: &watch::Receiver<bool>,
) -> Result<Vec<JoinHandle<()>>, NatsError> {
    let Some(wanted) = &options.stream else { return Ok(Vec::new()) };
    let (client, asking) = requests(options.dialer()?, options.node);
    let client = Arc::new(client);
    // Ends when nothing can send requests any more, which is when the process ends.
    tasks::spawn(asking.run());
    let subjects = subject::all(&options.prefix);
    let keeper = Keeper::new(Arc::clone(&client), wanted.clone(), subjects, Arc::clone(broker), Arc::clone(health));
    keeper.start().await?;
    broker.set_archive(Arc::new(StreamArchive::new(client, wanted, options.event_bytes, broker)));
    Ok(vec![tasks::spawn(keeper.run(stop.clone()))])
}
