//! Attacks by connections that do not read, read slowly, request the history, or connect and disconnect.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::socket::Socket;
use super::worker::Worker;
use crate::endpoint::Endpoint;

/// How long connections that do not read are kept before they are replaced.
const HOLD: Duration = Duration::from_secs(3);

/// Number of commands per connection whose answers are not read.
const UNREAD: usize = 2_000;

/// Never reads: neither the answers to its commands nor the events about its own connections.
pub(super) fn deaf(worker: &Worker, policy: &str) -> Result<()> {
    let endpoint = worker.guest().clone().with_query(&format!("overflow={policy}"));
    let mut sockets = Vec::new();
    while sockets.len() < worker.connections() && !worker.is_over() {
        let mut socket = Socket::open(&endpoint, worker)?;
        worker.count("connected");
        socket.shrink()?;
        let commands = (0..UNREAD).map(|at| format!("register connections,machines.*.*,{at}"));
        if socket.send(commands).is_err() {
            worker.count("no more commands accepted");
        }
        sockets.push(socket);
    }
    worker.ready();
    let begin = Instant::now();
    while begin.elapsed() < HOLD && !worker.is_over() {
        worker.pause(Duration::from_millis(50));
    }
    Ok(())
}

/// Requests conflation and reads a little at a time. Half of the threads generate the events, by connecting and
/// disconnecting.
pub(super) fn conflate(worker: &Worker) -> Result<()> {
    if !worker.number.is_multiple_of(2) {
        return connects(worker);
    }
    let endpoint = worker.guest().clone().with_query("overflow=conflate");
    let mut sockets = Vec::new();
    while sockets.len() < 2 * worker.connections() && !worker.is_over() {
        let mut socket = Socket::open(&endpoint, worker)?;
        worker.count("connected");
        socket.shrink()?;
        socket.send(["register connections.*.*".to_owned(), "register *.*.*".to_owned()])?;
        sockets.push(socket);
    }
    worker.ready();
    while !worker.is_over() {
        for socket in &mut sockets {
            socket.read_once(Duration::from_millis(1), worker)?;
        }
        worker.pause(Duration::from_millis(100));
    }
    Ok(())
}

/// Requests everything that is retained, through several filters, and disconnects.
pub(super) fn replays(worker: &Worker) -> Result<()> {
    let endpoint = worker.guest().clone().with_query("since=2000-01-01T00:00:00Z");
    let mut socket = Socket::open(&endpoint, worker)?;
    socket.send((0..8).map(|at| format!("register *.*.*.Object=Re(x+{at}y+z)")))?;
    socket.read(Duration::from_secs(1), 8, worker)?;
    worker.count("replay requested");
    Ok(())
}

/// Requests everything that is retained, and reads nothing of it.
pub(super) fn deaf_replays(worker: &Worker) -> Result<()> {
    let endpoint = worker.guest().clone().with_query("since=2000-01-01T00:00:00Z");
    let mut sockets = Vec::new();
    while sockets.len() < worker.connections() && !worker.is_over() {
        let mut socket = Socket::open(&endpoint, worker)?;
        worker.count("connected");
        socket.shrink()?;
        socket.send(["register connections,machines.*.*".to_owned()])?;
        sockets.push(socket);
    }
    worker.ready();
    let begin = Instant::now();
    while begin.elapsed() < HOLD && !worker.is_over() {
        worker.pause(Duration::from_millis(50));
    }
    Ok(())
}

/// Connects and disconnects.
pub(super) fn connects(worker: &Worker) -> Result<()> {
    open(worker.guest(), worker)
}

fn open(endpoint: &Endpoint, worker: &Worker) -> Result<()> {
    let mut socket = Socket::open(endpoint, worker)?;
    worker.count("connected");
    socket.send(["register connections.*.*".to_owned()])
}
