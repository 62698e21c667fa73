//! Events from DRP endpoints: one websocket per endpoint, followed for ever.
//!
//! A [`Link`] connects, registers, waits for the answers, and passes events to the broker. It is a task of its own, so
//! a slow or dead endpoint does not affect the others. [`Health`] is its state for `/readyz`.
//!
//! Contract:
//! - The order of an endpoint's events is kept, each is published once, and Object, Original, Principal and Time pass
//!   unchanged. Answers (Type `websocket`) are never published.
//! - No loss is silent. When a link is back, the event `hydrant.gap.HOST:PORT` reports the interval in which events
//!   may be missing; after it the stream is complete again. A gap of one event is reported in place of an event that
//!   hydrant does not accept. A message that is longer than allowed is skipped while it is read, without using memory
//!   and without ending the link, and reported in the same way. A message that is not an event is counted.
//! - Gap notices are hydrant's own. One that arrives from an endpoint counts only if that endpoint is a hydrant.
//! - Nothing is dropped when the shards are slow: reading pauses until there is room. Then the kernel's buffers fill,
//!   and the endpoint decides what to do with a slow reader. What is held here is bounded (see [`intake`]).
//! - Two hydrants never feed each other: a link to a hydrant is only made if that one is on a lower tier, so there can
//!   be no cycle (ADR 0014).
//!
//! Why one link for all clients and not one per client: the limited capacity of an endpoint is the reason for hydrant.

mod health;
mod intake;
mod link;

pub use health::{Health, Report};
pub use link::{Link, LinkSettings, TIER_HEADER};
