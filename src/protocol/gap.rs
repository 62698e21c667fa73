//! The names of gap notices: Type `hydrant`, Action `gap`, and a Key that says where the gap is.
//!
//! A notice replaces events in the stream that a connection does not receive. All four kinds are named here, so that
//! the code that writes them and the code that recognizes them agree: `hydrant.gap.queue` (an outbox overflowed),
//! `hydrant.gap.replay` (the history no longer holds the events), `hydrant.gap.nats` (lost between nodes) and
//! `hydrant.gap.HOST:PORT` (the link to an endpoint was down).

/// The Type of hydrant's own notices.
pub const HYDRANT: &str = "hydrant";

/// The Action of a gap notice.
pub const GAP: &str = "gap";

/// The Key of a gap caused by the overflow of a connection's own queue.
pub const QUEUE: &str = "queue";

/// The Key of a gap in a replay.
pub const REPLAY: &str = "replay";

/// The Key of a gap between nodes.
pub const NATS: &str = "nats";
