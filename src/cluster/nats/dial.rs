//! Chooses which server to connect to and when: tries the configured and advertised servers in random order, for ever.
//!
//! Servers with fewer failures come first. The delay between attempts is random, up to a ceiling that doubles, so that
//! nodes that lost the same server do not all reconnect at the same moment. A connection that lasts for less than
//! [`STEADY`] counts as a failure too: a server that accepts and closes at once is not dialled without a delay.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::address::Address;
pub(in crate::cluster) use super::connect::ConnectError;
use super::connect::{ConnectOptions, connect};
use super::login::Login;
use super::session::Session;
use super::tls::Tls;
use crate::backoff::jitter;

/// The first ceiling of the delay between attempts; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The highest ceiling of the delay; other nodes wait for longer than this ([`crate::cluster::gate`]).
pub(in crate::cluster) const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// A connection that lasted for this long counts as good.
const STEADY: Duration = Duration::from_secs(10);

/// Maximum number of known servers.
const MOST: usize = 64;

#[derive(Debug)]
struct Server {
    address: Address,
    failures: u32,
    /// Whether the address was advertised by a server; such addresses are evicted when the list is full.
    named: bool,
}

/// Chooses the next NATS server to connect to, and when.
#[derive(Debug)]
pub(in crate::cluster) struct Dialer {
    servers: Vec<Server>,
    options: ConnectOptions,
    tries: u32,
    /// The address of the latest connection and when it was made.
    made: Option<(Address, Instant)>,
}

impl Dialer {
    /// Creates a dialer for these servers. `name` is the connection's name in the servers' lists.
    pub(in crate::cluster) fn new(addresses: Vec<Address>, login: Arc<Login>, tls: Tls, name: String) -> Self {
        let servers = addresses.into_iter().map(|address| Server { address, failures: 0, named: false });
        Self { servers: servers.collect(), options: ConnectOptions { login, tls, name }, tries: 0, made: None }
    }

    /// Connects, however long it takes, and avoids the server `avoid` if there are others. Calls `failed` with the
    /// error of each failed attempt.
    pub(in crate::cluster) async fn dial(
        &mut self,
        avoid: Option<&Address>,
        failed: impl Fn(&ConnectError),
    ) -> Session {
        self.assess();
        loop {
            if self.tries > 0 {
                sleep(wait(self.tries)).await;
            }
            self.tries = self.tries.saturating_add(1);
            match self.attempt(avoid).await {
                Ok(session) => return session,
                Err(error) => failed(&error),
            }
        }
    }

    /// Rates the latest connection, which is lost or about to be, by how long it lasted.
    fn assess(&mut self) {
        let Some((address, since)) = self.made.take() else { return };
        let was_steady = since.elapsed() >= STEADY;
        if was_steady {
            self.tries = 1;
        }
        if let Some(server) = self.servers.iter_mut().find(|server| server.address.is_same(&address)) {
            server.failures = if was_steady { 0 } else { server.failures.saturating_add(1) };
        }
    }

    async fn attempt(&mut self, avoid: Option<&Address>) -> Result<Session, ConnectError> {
        let at = self.choose(avoid);
        let address = self.servers[at].address.clone();
        let connected = connect(&address, &self.options).await;
        let failures = &mut self.servers[at].failures;
        match connected {
            Ok(session) => {
                self.learn(&address, &session.info.connect_urls);
                self.made = Some((address, Instant::now()));
                Ok(session)
            }
            Err(error) => {
                *failures = failures.saturating_add(1);
                Err(error)
            }
        }
    }

    /// Returns the index of a random server among those with the fewest failures.
    fn choose(&self, avoid: Option<&Address>) -> usize {
        let is_good = |server: &Server| avoid.is_none_or(|avoid| !server.address.is_same(avoid));
        let key = |server: &Server| (!is_good(server), server.failures, getrandom::u32().unwrap_or_default());
        let best = self.servers.iter().enumerate().min_by_key(|(_, server)| key(server));
        best.map_or(0, |(at, _)| at)
    }

    /// Adds the servers that the server `from` advertised.
    pub(in crate::cluster) fn learn(&mut self, from: &Address, named: &[String]) {
        for address in named.iter().filter_map(|text| from.named(text).ok()) {
            if self.servers.iter().any(|server| server.address.is_same(&address)) {
                continue;
            }
            if self.servers.len() >= MOST {
                let worst = self.servers.iter().enumerate().filter(|(_, server)| server.named);
                let Some((at, _)) = worst.max_by_key(|(_, server)| server.failures) else { return };
                self.servers.swap_remove(at);
            }
            self.servers.push(Server { address, failures: 0, named: true });
        }
    }
}

/// Returns a random delay before this attempt.
fn wait(tries: u32) -> Duration {
    jitter(FIRST_WAIT.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialer(addresses: &[&str]) -> Dialer {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Dialer::new(addresses, Arc::default(), Tls::default(), String::new())
    }

    #[test]
    fn waits_are_random_and_bounded() {
        assert!((0..200).all(|_| wait(1) <= FIRST_WAIT));
        let late: Vec<Duration> = (0..200).map(|_| wait(u32::MAX)).collect();
        assert!(late.iter().all(|wait| *wait <= LONGEST_WAIT) && late.iter().any(|wait| *wait > FIRST_WAIT));
    }

    #[test]
    fn who_failed_comes_last_and_who_is_to_be_avoided_only_if_there_is_no_other() {
        let mut dialer = dialer(&["nats://a", "nats://b"]);
        dialer.servers[0].failures = 1;
        assert!((0..50).all(|_| dialer.choose(None) == 1));
        let b: Address = "b".parse().unwrap();
        assert!((0..50).all(|_| dialer.choose(Some(&b)) == 0));
        dialer.servers.truncate(1);
        let a: Address = "a".parse().unwrap();
        assert_eq!(dialer.choose(Some(&a)), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_last_is_a_failure() {
        let mut dialer = dialer(&["nats://a", "nats://b"]);
        let a = dialer.servers[0].address.clone();
        for tries in 1..=8 {
            (dialer.tries, dialer.made) = (tries, Some((a.clone(), Instant::now())));
            tokio::time::advance(STEADY / 2).await;
            dialer.assess();
            assert_eq!((dialer.tries, dialer.servers[0].failures), (tries, tries), "the waits go on growing");
        }
        dialer.made = Some((a, Instant::now()));
        tokio::time::advance(STEADY).await;
        dialer.assess();
        assert_eq!((dialer.tries, dialer.servers[0].failures), (1, 0));
    }

    #[test]
    fn named_servers_are_remembered_once_and_bounded() {
        let mut dialer = dialer(&["tls://a"]);
        let from = dialer.servers[0].address.clone();
        let named: Vec<String> = (0..200).map(|port| format!("10.0.0.1:{}", 1000 + port)).collect();
        dialer.learn(&from, &named);
        dialer.learn(&from, &named[150..]);
        assert_eq!(dialer.servers.len(), MOST);
        assert!(!dialer.servers[0].named, "what is configured stays");
    }
}
