//! Shutting a server down.
//!
//! Contract: everything that was accepted is delivered within `timeouts.drain`: events to clients that read, answers to
//! requests in progress. What is left after that is aborted, with a warning. The probe keeps answering, so the progress
//! is visible. Before draining starts, readiness is withdrawn for `timeouts.lame_duck`: a balancer takes a while to
//! notice, and what it sends in the meantime is served as usual. In that time every answer closes its connection, so
//! that no client keeps one that will be aborted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::{Server, Task};
use crate::tasks;
use crate::transport::listener::FIRST_REQUEST;

/// The time after the deadline by which the shards must have ended; they check their clock only now and then.
const LATE: Duration = Duration::from_secs(2);
/// The time that the listener of the probe has to end, also after the deadline: it is not told before everything else
/// has ended.
const PROBE: Duration = Duration::from_millis(250);

impl Server {
    /// Drains within `timeouts.drain` and returns when all threads and tasks have ended.
    pub async fn stop(mut self) {
        self.ready.store(false, Ordering::Release);
        self.doors.leaving.store(true, Ordering::Release);
        let lame_duck = self.settings.timeouts.lame_duck;
        if !lame_duck.is_zero() {
            tracing::info!(?lame_duck, "no longer ready; still serving, so that balancers can move clients");
            tokio::time::sleep(lame_duck).await;
        }
        // Sending fails only if nobody is left to stop.
        let _ = self.stop.send(true);
        // Requests on connections that were accepted last. Each waits this long for a slot, for its handshake and for
        // its first request.
        tokio::time::sleep(3 * FIRST_REQUEST).await;
        self.api.broker.stop();
        let pool = Arc::clone(&self.api.pool);
        let deadline = Instant::now() + self.settings.timeouts.drain;
        match timeout_at((deadline + LATE).into(), tasks::spawn_blocking(move || pool.drain(deadline))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the thread that drains the shards failed"),
            Err(_) => tracing::error!("the shards did not end in time; they end with the process"),
        }
        for (listening, address) in self.listening.drain(..).zip(&self.addresses) {
            answered(listening, Some(*address), deadline).await;
        }
        let _ = self.stop_probe.send(true);
        if let Some(probing) = self.probing.take() {
            answered(probing, self.probe, deadline.max(Instant::now() + PROBE)).await;
        }
        for task in self.tasks.drain(..) {
            let (what, cut) = (task.what, task.handle.abort_handle());
            if timeout_at(deadline.into(), ended(task)).await.is_err() {
                tracing::warn!(task = what, "aborting a task that did not end in time");
                cut.abort();
            }
        }
        let spans = self.api.broker.spans().clone();
        // It logs its own failure.
        let _ = tasks::spawn_blocking(move || spans.stop(LATE)).await;
    }
}

/// Waits until a listener has answered its requests; aborts it at the deadline.
async fn answered(listening: Task, address: Option<SocketAddr>, deadline: Instant) {
    let cut = listening.handle.abort_handle();
    if timeout_at(deadline.into(), ended(listening)).await.is_err() {
        tracing::warn!(address = address.map(display), "aborting requests that were not answered in time");
        cut.abort();
    }
}

async fn ended(Task { what, handle }: Task) {
    if let Err(error) = handle.await {
        tracing::error!(task = what, %error, "a task failed");
    }
}
