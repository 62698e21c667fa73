//! Events from DRP endpoints: one websocket for each, followed for ever.
//!
//! A [`Link`] connects, registers, waits for the answers, and hands what comes to the broker. It is a task of its own,
//! so an endpoint that is slow or dead disturbs no other. [`Health`] is what it says of itself to `/readyz`.
//!
//! Contract:
//! - The order of an endpoint's events is kept, each is published once, and Object, Original, Principal and Time pass
//!   as they came. Answers (Type `websocket`) never enter.
//! - Nothing is lost in silence. When a link comes back, the event `hydrant.gap.HOST:PORT` says from when to when
//!   events may be missing; after it the stream is whole again. A message that is not an event is counted. One that is
//!   longer than allowed is left out while it is read, without memory and without the end of the link; a gap of one
//!   event stands in its place.
//! - Notices of gaps are hydrant's own. One that comes from an endpoint counts only if that is a hydrant.
//! - Nothing is dropped when the shards do not follow: reading pauses until there is room. Then the kernel's buffers
//!   fill, and the endpoint decides what becomes of a reader that is slow. What is held here is bounded (see
//!   [`intake`]).
//! - Two hydrants never feed each other: a link to a hydrant is made only if that one stands on a lower tier, so no
//!   circle can be closed (ADR 0008).
//!
//! Why one link for all clients, and not one for each: what an endpoint can bear is the reason for hydrant.

mod health;
mod intake;
mod link;

pub use health::{Health, Report};
pub use link::{Link, LinkSettings, TIER_HEADER};
