//! Several nodes that share their events over NATS.
//!
//! Every node publishes what it takes in itself (posts, DRP endpoints, the simulated fleet) and sequences what the
//! others publish, so clients of any node get the events of all. Each node has an order of its own; in all of them the
//! events of one node stand in that node's order. [`send`] and [`receive`] are the two ways, [`peers`] sees what is
//! lost between them, [`crate::broker::dedup`] drops what two nodes took in both.
//!
//! Contract: delivery on the own node never waits for NATS. Between nodes it is at most once (core NATS): what is lost
//! is told by `hydrant.gap.nats`, with the number of events where it is known. No event goes round in a circle: only
//! what a node took in itself is published, the server is asked not to echo, and a node drops what bears its own name.
//!
//! Why one subscription for everything and not one for each type that clients registered for: the numbers that show
//! losses are those of a node and not of a type, and the history of a node is that of all types (ADR 0033). What nobody
//! has registered for is gathered instead ([`gathering`]).
//!
//! Where `JetStream` keeps what is published, [`stream`] reads replays from it.

mod gate;
mod gathering;
mod health;
mod link;
pub mod nats;
mod notices;
mod options;
mod order;
pub mod peers;
mod receive;
mod send;
mod stream;
pub mod subject;
mod waiting;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use health::{Health, Report, StreamReport};
pub use nats::{Login, LoginError, Tls};
pub use options::{NatsError, NatsOptions, secret};
pub use stream::StreamOptions;
pub use stream::ensure::StreamError;

use crate::broker::Broker;
use crate::broker::export::Exports;
use crate::clock;
use gate::Gate;
use gathering::Gathering;
use link::{Link, Status};
use nats::requests::requests;
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
    let (health, gate) = (Arc::new(Health::new(clock::now())), Arc::new(Gate::default()));
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
    tasks.push(tokio::spawn(receiver.run(queue, stop.clone())));
    tasks.push(tokio::spawn(run(link, stop.clone())));
    Ok(Running { tasks, health })
}

/// Runs until everything is sent; when told to stop, for a while only.
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
    tracing::warn!(events, "NATS did not take the last events in time");
}

/// Has replays read from the stream, if there shall be one, over a connection of their own.
async fn keep_stream(
    options: &NatsOptions,
    broker: &Arc<Broker>,
    health: &Arc<Health>,
    stop: &watch::Receiver<bool>,
) -> Result<Vec<JoinHandle<()>>, NatsError> {
    let Some(wanted) = &options.stream else { return Ok(Vec::new()) };
    let (client, asking) = requests(options.dialer()?, options.node);
    let client = Arc::new(client);
    // It ends when nobody can ask any more, which is when the process does.
    tokio::spawn(asking.run());
    let subjects = subject::all(&options.prefix);
    let keeper = Keeper::new(Arc::clone(&client), wanted.clone(), subjects, Arc::clone(broker), Arc::clone(health));
    keeper.start().await?;
    broker.set_archive(Arc::new(StreamArchive::new(client, wanted, options.event_bytes, broker)));
    Ok(vec![tokio::spawn(keeper.run(stop.clone()))])
}
