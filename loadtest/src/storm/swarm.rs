//! Many clients that all reconnect at once, on one thread.
//!
//! A client that fails tries again after a pause that doubles from 0.1 s to 3 s, with a jitter of half of it in both
//! directions, as well-behaved clients do; the first try is immediate. Contract: bounded by the given deadline; a try
//! that takes longer than [`TRY`] counts as failed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use serde::Serialize;

use super::client::{Client, Phase};
use crate::endpoint::Endpoint;
use crate::sockets;

/// Time limit for one try.
const TRY: Duration = Duration::from_secs(20);

/// Pauses between tries: the first, and the longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Maximum number of tries that begin before the others are looked after: a client that is connected sends its request
/// at once, however many others are still to connect.
const BEGUN_PER_TURN: usize = 64;

/// Interval at which tries are checked for exceeding their limit.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The clients, and how many of them are in the phases that are asked for in every turn: to count them each time would
/// cost the square of their number.
#[derive(Debug)]
struct Crowd {
    clients: Vec<Client>,
    under_way: usize,
    back: usize,
}

impl Crowd {
    fn new(count: usize) -> Self {
        Self { clients: (0..count).map(Client::new).collect(), under_way: 0, back: 0 }
    }

    /// Does something with a client that may change its phase.
    fn change<T>(&mut self, index: usize, change: impl FnOnce(&mut Client) -> T) -> T {
        let client = &mut self.clients[index];
        let counted = |client: &Client| [client.is_under_way(), client.phase == Phase::Back].map(usize::from);
        let before = counted(client);
        let result = change(client);
        let after = counted(client);
        self.under_way = self.under_way + after[0] - before[0];
        self.back = self.back + after[1] - before[1];
        result
    }
}

/// The result of a storm.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Reconnection {
    /// Seconds until each client was back and registered, in ascending order; clients that are not back are missing.
    pub(super) back: Vec<f64>,
    /// Failed tries and lost connections, by kind.
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) tries: u64,
}

#[derive(Debug)]
pub(super) struct ReconnectSwarm {
    endpoint: Endpoint,
    crowd: Crowd,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    /// Number of tries of all clients so far, from which loopback addresses are derived.
    tries: usize,
    at_once: usize,
    /// The clients to try next, by time.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    errors: BTreeMap<String, u64>,
}

impl ReconnectSwarm {
    /// Creates `count` disconnected clients; at most `at_once` handshakes are in progress at a time.
    pub(super) fn new(endpoint: &Endpoint, count: usize, at_once: usize) -> Result<Self> {
        Ok(Self {
            endpoint: endpoint.clone(),
            crowd: Crowd::new(count),
            poll: Poll::new().context("cannot create a poll")?,
            events: Events::with_capacity(4_096),
            buffer: vec![0; 64 << 10],
            tries: 0,
            at_once: if at_once == 0 { count } else { at_once },
            due: BinaryHeap::new(),
            errors: BTreeMap::new(),
        })
    }

    /// Disconnects all clients without a close.
    pub(super) fn disconnect_all(&mut self) {
        (0..self.crowd.clients.len()).for_each(|index| self.crowd.change(index, Client::leave));
    }

    /// Returns the number of clients that are back.
    pub(super) fn back(&self) -> usize {
        self.crowd.back
    }

    /// Reconnects all disconnected clients, and those that are disconnected meanwhile, until `is_lost` returns that no
    /// more connections will be lost and all clients are back, at most for `timeout`. `progress` is called with the
    /// number of clients that are back.
    pub(super) fn reconnect_all(
        &mut self,
        timeout: Duration,
        is_lost: &dyn Fn() -> bool,
        progress: &dyn Fn(u64),
    ) -> Result<Reconnection> {
        let begin = Instant::now();
        (self.errors, self.due) = (BTreeMap::new(), BinaryHeap::new());
        let before = self.tries;
        let mut back: Vec<Option<f64>> = vec![None; self.crowd.clients.len()];
        for (index, client) in self.crowd.clients.iter_mut().enumerate() {
            client.tries = 0;
            if client.phase == Phase::Away {
                self.due.push(Reverse((begin, index)));
            }
        }
        let mut looked = begin;
        while begin.elapsed() < timeout && !(is_lost() && self.back() == self.crowd.clients.len()) {
            let pause = if self.begin_due() { Duration::ZERO } else { Duration::from_millis(10) };
            self.turn(pause, &mut |index| back[index] = Some(begin.elapsed().as_secs_f64()))?;
            if looked.elapsed() > POLL_INTERVAL {
                looked = Instant::now();
                self.give_up_slow();
                progress(self.back() as u64);
            }
        }
        let is_back = |(index, client): (usize, &Client)| back[index].filter(|_| client.phase == Phase::Back);
        let mut back: Vec<f64> = self.crowd.clients.iter().enumerate().filter_map(is_back).collect();
        back.sort_by(f64::total_cmp);
        Ok(Reconnection { back, errors: std::mem::take(&mut self.errors), tries: (self.tries - before) as u64 })
    }

    /// Receives for `time`, so that no connection times out.
    pub(super) fn rest(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(Duration::from_millis(100), &mut |_| {})?;
        }
        Ok(())
    }

    /// Begins up to [`BEGUN_PER_TURN`] tries that are due. Returns whether more are due.
    fn begin_due(&mut self) -> bool {
        let most = self.tries + BEGUN_PER_TURN;
        while let Some(Reverse((when, index))) = self.due.peek().copied() {
            if when > Instant::now() || self.crowd.under_way >= self.at_once {
                return false;
            }
            if self.tries == most {
                return true;
            }
            self.due.pop();
            self.tries += 1;
            let begun = self.crowd.change(index, |client| client.begin(&self.endpoint, self.tries));
            if let Err(failure) = begun.and_then(|()| self.watch(index)) {
                self.failed(index, failure);
            }
        }
        false
    }

    fn watch(&self, index: usize) -> Result<(), String> {
        let Some(stream) = &self.crowd.clients[index].stream else { return Ok(()) };
        let fd = stream.socket().as_raw_fd();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut SourceFd(&fd), Token(index), interest).map_err(|e| e.to_string())
    }

    fn failed(&mut self, index: usize, failure: String) {
        let was_back = self.crowd.clients[index].phase == Phase::Back;
        let kind = if was_back { format!("lost ({failure})") } else { failure };
        *self.errors.entry(kind).or_default() += 1;
        let tries = self.crowd.change(index, |client| {
            client.leave();
            if was_back {
                client.tries = 0;
            }
            client.tries
        });
        let pause = if was_back { Duration::ZERO } else { pause(index, tries) };
        self.due.push(Reverse((Instant::now() + pause, index)));
    }

    /// Waits for events and advances the clients concerned.
    fn turn(&mut self, timeout: Duration, on_back: &mut dyn FnMut(usize)) -> Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(1));
        sockets::wait(&mut self.poll, &mut events, timeout)?;
        for event in &events {
            let index = event.token().0;
            let back = self.crowd.back;
            match self.crowd.change(index, |client| client.advance(&mut self.buffer)) {
                Err(failure) => self.failed(index, failure),
                Ok(()) if self.crowd.back > back => on_back(index),
                Ok(()) => {}
            }
        }
        self.events = events;
        Ok(())
    }

    fn give_up_slow(&mut self) {
        let is_slow = |client: &Client| client.is_under_way() && client.since.elapsed() > TRY;
        let slow: Vec<usize> =
            (0..self.crowd.clients.len()).filter(|&index| is_slow(&self.crowd.clients[index])).collect();
        for index in slow {
            self.failed(index, "the handshake did not end in time".to_owned());
        }
    }
}

/// Returns how long client `index` waits after try number `tries`.
fn pause(index: usize, tries: u32) -> Duration {
    let whole = PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(8)).min(PAUSE_MAX);
    let scattered = (index as u64).wrapping_add(u64::from(tries) << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54;
    // From half to one and a half of the whole pause.
    whole / 2 + whole.mul_f64(f64::from(u32::try_from(scattered).unwrap_or(0)) / 1_024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A turn looks at the clients that are due, and at no others: whoever is back or waits costs nothing.
    #[test]
    fn the_counts_follow_every_change_of_a_phase() {
        let mut crowd = Crowd::new(5);
        let steps = [
            (0, Phase::Connecting),
            (1, Phase::Connecting),
            (0, Phase::Upgrading),
            (0, Phase::Registering(1)),
            (0, Phase::Back),
            (2, Phase::Back),
            (1, Phase::Away),
            (0, Phase::Back),
            (2, Phase::Connecting),
            (0, Phase::Away),
        ];
        for (index, phase) in steps {
            crowd.change(index, |client| client.phase = phase);
            let count = |is: fn(&Client) -> bool| crowd.clients.iter().filter(|client| is(client)).count();
            let counted = (count(Client::is_under_way), count(|client| client.phase == Phase::Back));
            assert_eq!((crowd.under_way, crowd.back), counted, "{index} {phase:?}");
        }
    }

    /// Only as many handshakes as are allowed at once, and no more than a turn's share of tries, although all are due.
    #[test]
    fn a_turn_begins_its_share_of_what_is_due() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let endpoint = Endpoint::new(&url, crate::tls::Trust::Nobody, None).unwrap();
        for (at_once, begun, more) in [(0, BEGUN_PER_TURN, true), (10, 10, false)] {
            let mut swarm = ReconnectSwarm::new(&endpoint, 100, at_once).unwrap();
            let now = Instant::now();
            swarm.due = (0..100).map(|index| Reverse((now, index))).collect();
            assert_eq!((swarm.begin_due(), swarm.tries, swarm.crowd.under_way), (more, begun, begun));
        }
    }

    #[test]
    fn pauses_double_and_are_spread() {
        for tries in 1..12 {
            let whole = (PAUSE * (1 << (tries - 1).min(8))).min(PAUSE_MAX);
            let pauses: Vec<Duration> = (0..500).map(|index| pause(index, tries)).collect();
            let (min, max) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
            assert!(*min >= whole / 2 && *min < whole * 6 / 10, "{tries}: {min:?}");
            assert!(*max <= whole * 3 / 2 && *max > whole * 14 / 10, "{tries}: {max:?}");
        }
    }
}
