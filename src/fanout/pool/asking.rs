//! What the control plane asks the shards, and how long it waits for their answers.
//!
//! Contract: a request that a shard does not answer fails as a whole: no list lacks a part, and no connection is called
//! unknown that a shard may have. Several connections may have one address, behind proxies that speak no PROXY
//! protocol: then all requests mean the same one, the first of the first shard that has one ([`Pool::find`]).

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot::{self, Receiver, Sender};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Pool, PoolError, Port};
use crate::broker::connection::Connection;
use crate::fanout::control::{Control, Wanted};
use crate::fanout::outbox::ConnId;
use crate::fanout::report::{Inspection, Registration};
use crate::index::{Measure, Seen};

/// Longest wait for the answer of a shard, which takes milliseconds unless the shard is stuck.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

/// The same for a connection that a caller asks for by its address.
pub(super) const SEARCH: Duration = Duration::from_secs(5);

/// The same for an answer that callers can do without.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// Where a connection was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub(super) shard: usize,
    pub(super) conn: ConnId,
}

impl Pool {
    /// Returns the current state of every websocket and stream, or of those that have the registration with this text.
    ///
    /// # Errors
    /// A shard did not answer.
    pub async fn connections(&self, registration: Option<&str>) -> Result<Vec<Connection>, PoolError> {
        let mut all = Vec::new();
        for port in &self.ports {
            let found = port.ask(ANSWER, |reply| Control::List(registration.map(Box::from), reply)).await?;
            all.extend(found.into_iter().flatten());
        }
        Ok(all)
    }

    /// Finds a connection in the first shard that has it; returns `None` if there is none. A shard that does not answer
    /// soon is left out if another one has it: one that is stuck must not hide the connections of the others.
    ///
    /// # Errors
    /// No shard has it, and one that may have it did not answer.
    pub async fn find(&self, wanted: &Wanted) -> Result<Option<Found>, PoolError> {
        #[cfg(test)]
        if self.hides_connections.load(Ordering::Relaxed) > 0 {
            self.hides_connections.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        let (mut asked, mut nothing) = (Vec::new(), Ok(None));
        for (number, port) in self.ports.iter().enumerate() {
            match port.begin(|reply| Control::Find(wanted.clone(), reply)) {
                Ok(answer) => asked.push((number, answer)),
                Err(error) => nothing = Err(error),
            }
        }
        let begun = Instant::now();
        for longest in [SOON, SEARCH] {
            let mut late = Vec::new();
            for (shard, mut answer) in asked {
                match timeout_at(begun + longest, &mut answer).await {
                    Ok(Ok(Some(conn))) => return Ok(Some(Found { shard, conn })),
                    Ok(Ok(None)) => {}
                    Ok(Err(_)) => nothing = Err(PoolError::Unanswered),
                    Err(_) => late.push((shard, answer)),
                }
            }
            asked = late;
        }
        if asked.is_empty() { nothing } else { Err(PoolError::Unanswered) }
    }

    /// Closes a websocket or stream that was found and returns its last state, or `None` if it has gone meanwhile.
    ///
    /// # Errors
    /// The shard did not answer.
    pub async fn delete(&self, found: Found, wanted: &Wanted) -> Result<Option<Connection>, PoolError> {
        self.ports[found.shard].ask(SEARCH, |reply| Control::Delete(found.conn, wanted.clone(), reply)).await
    }

    /// Returns a connection that was found with its registrations, or `None` if it has gone meanwhile.
    ///
    /// # Errors
    /// The shard did not answer.
    pub async fn inspect(&self, found: Found, wanted: &Wanted) -> Result<Option<Inspection>, PoolError> {
        self.ports[found.shard].ask(SEARCH, |reply| Control::Inspect(found.conn, wanted.clone(), reply)).await
    }

    /// Returns the busiest registrations of each shard by this measure.
    ///
    /// # Errors
    /// A shard did not answer.
    pub async fn registrations(&self, measure: Measure) -> Result<Vec<Registration>, PoolError> {
        let mut all = Vec::new();
        for port in &self.ports {
            all.append(&mut port.ask(ANSWER, |reply| Control::Survey(measure, reply)).await?);
        }
        Ok(all)
    }

    /// Returns the names seen in events, from a shard that answers soon: every shard receives all events. `None` if
    /// none does. The one that has answered last is asked first, so that one that is stuck is waited for only once.
    pub async fn seen(&self) -> Option<Seen> {
        #[cfg(test)]
        if self.hides_names.load(Ordering::Relaxed) {
            return None;
        }
        let first = self.knowing.load(Ordering::Relaxed);
        for number in (first..self.ports.len()).chain(0..first) {
            match self.ports[number].ask(SOON, Control::Seen).await {
                Ok(seen) => {
                    self.knowing.store(number, Ordering::Relaxed);
                    return Some(seen);
                }
                Err(error) => tracing::debug!(%error, "cannot read the names seen in events"),
            }
        }
        None
    }
}

impl Port {
    /// Sends a request; the answer comes through the channel.
    fn begin<T>(&self, request: impl FnOnce(Sender<T>) -> Control) -> Result<Receiver<T>, PoolError> {
        let (reply, answer) = oneshot::channel();
        self.send(request(reply)).map_err(|_| PoolError::Unanswered)?;
        Ok(answer)
    }

    /// Sends a request and waits so long for the answer.
    async fn ask<T>(&self, longest: Duration, request: impl FnOnce(Sender<T>) -> Control) -> Result<T, PoolError> {
        // The caller may hold a turn that others wait for.
        timeout(longest, self.begin(request)?).await?.map_err(|_| PoolError::Unanswered)
    }
}
