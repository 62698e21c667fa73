//! Holds back those who guess passwords.
//!
//! Each pair of user and network (IPv4 /24, IPv6 /64) has a bucket of attempts (5, refilled 5 a minute). An attempt takes one
//! before it is hashed; a right password empties the record. Whoever fails with an empty bucket waits, each time twice as
//! long, up to 15 minutes. So 1,000 wrong passwords in a row reach the hasher five times.
//!
//! Each network has a wider bucket besides (60, refilled 60 a minute), for those who try one password with many names.
//!
//! Contract: pure, told the time, bounded: beyond [`Limits::entries`] the entry that was quiet longest makes room. A user
//! cannot be locked out from another network than the attacker's own.

use std::net::IpAddr;
use std::time::Duration;

use hashbrown::HashMap;
use jiff::Timestamp;

/// What is allowed; `docs/security.md`, "Limits".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attempts a minute for one user from one network; also how many may come at once. At least one.
    pub per_minute: u32,
    /// Attempts a minute for one network, whatever the user.
    pub per_network: u32,
    /// The longest wait.
    pub longest_wait: Duration,
    /// How many pairs are remembered.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_minute: 5, per_network: 60, longest_wait: Duration::from_mins(15), entries: 16_384 }
    }
}

/// An address without what one host can choose by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(peer: IpAddr) -> Self {
        match peer.to_canonical() {
            IpAddr::V4(v4) => Self(IpAddr::V4((v4.to_bits() & !0xff).into())),
            IpAddr::V6(v6) => Self(IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into())),
        }
    }
}

/// Whose attempts are counted: a user (by a keyed hash, so that names cannot be chosen to collide) from a network, or
/// the network altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Who {
    user: Option<u64>,
    network: Network,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
    /// How often in a row a failure found the bucket empty.
    strikes: u32,
    blocked_until: Option<Timestamp>,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Throttle {
    limits: Limits,
    buckets: HashMap<Who, Bucket>,
}

impl Throttle {
    /// A throttle that has seen nothing.
    pub(super) fn new(limits: Limits) -> Self {
        let limits = Limits { per_minute: limits.per_minute.max(1), per_network: limits.per_network.max(1), ..limits };
        Self { limits, buckets: HashMap::new() }
    }

    /// Takes one attempt. `user` is a keyed hash of the name.
    ///
    /// # Errors
    /// How long to wait, if there is none to take.
    pub(super) fn attempt(&mut self, user: u64, peer: IpAddr, now: Timestamp) -> Result<(), Duration> {
        let network = Network::from(peer);
        self.take(Who { user: None, network }, self.limits.per_network, now)?;
        let taken = self.take(Who { user: Some(user), network }, self.limits.per_minute, now);
        if taken.is_err() {
            self.give_back(network);
        }
        taken
    }

    /// The attempt was a wrong password.
    pub(super) fn failed(&mut self, user: u64, peer: IpAddr, now: Timestamp) {
        let who = Who { user: Some(user), network: Network::from(peer) };
        let refill = refill_interval(self.limits.per_minute);
        let longest = self.limits.longest_wait;
        let Some(bucket) = self.buckets.get_mut(&who).filter(|bucket| bucket.tokens < 1.0) else { return };
        bucket.strikes = bucket.strikes.saturating_add(1);
        let wait = refill.saturating_mul(1 << bucket.strikes.min(16)).min(longest);
        bucket.blocked_until = now.checked_add(wait).ok();
    }

    /// The attempt was the right password: the user's record is cleared and the network gets its attempt back.
    pub(super) fn passed(&mut self, user: u64, peer: IpAddr) {
        let network = Network::from(peer);
        self.buckets.remove(&Who { user: Some(user), network });
        self.give_back(network);
    }

    /// Nobody could tell whether the attempt was right: it does not count.
    pub(super) fn undecided(&mut self, user: u64, peer: IpAddr) {
        let network = Network::from(peer);
        self.give_back(network);
        if let Some(bucket) = self.buckets.get_mut(&Who { user: Some(user), network }) {
            bucket.tokens += 1.0;
        }
    }

    /// Only what is hashed and wrong counts against a network.
    fn give_back(&mut self, network: Network) {
        if let Some(bucket) = self.buckets.get_mut(&Who { user: None, network }) {
            bucket.tokens += 1.0;
        }
    }

    fn take(&mut self, who: Who, per_minute: u32, now: Timestamp) -> Result<(), Duration> {
        self.make_room(&who);
        let full = Bucket { tokens: f64::from(per_minute), at: now, strikes: 0, blocked_until: None };
        let longest = self.limits.longest_wait;
        let bucket = self.buckets.entry(who).or_insert(full);
        if let Some(wait) = bucket.wait(now, longest) {
            return Err(wait);
        }
        bucket.refill(per_minute, now, longest);
        if bucket.tokens < 1.0 {
            return Err(refill_interval(per_minute).mul_f64(1.0 - bucket.tokens).max(Duration::from_secs(1)));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    fn make_room(&mut self, who: &Who) {
        if self.buckets.len() < self.limits.entries || self.buckets.contains_key(who) {
            return;
        }
        let quietest = self.buckets.iter().min_by_key(|(_, bucket)| bucket.blocked_until.unwrap_or(bucket.at));
        if let Some(quietest) = quietest.map(|(who, _)| *who) {
            self.buckets.remove(&quietest);
        }
    }
}

impl Bucket {
    /// How long it is blocked. A wall clock that was set back must not block for longer than the longest wait.
    fn wait(&self, now: Timestamp, longest: Duration) -> Option<Duration> {
        let left = Duration::try_from(self.blocked_until?.duration_since(now)).ok()?;
        (!left.is_zero()).then(|| left.min(longest).max(Duration::from_secs(1)))
    }

    fn refill(&mut self, per_minute: u32, now: Timestamp, longest: Duration) {
        let since = self.blocked_until.map_or(self.at, |until| until.max(self.at));
        let quiet = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        if self.blocked_until.take().is_some() {
            self.tokens = 1.0;
        }
        let more = quiet.as_secs_f64() / refill_interval(per_minute).as_secs_f64();
        self.tokens = (self.tokens + more).min(f64::from(per_minute));
        self.at = now;
        if quiet >= longest {
            self.strikes = 0;
        }
    }
}

fn refill_interval(per_minute: u32) -> Duration {
    Duration::from_mins(1) / per_minute
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    /// Tries a wrong password at each second of `seconds` and counts how many are hashed.
    fn wrong(throttle: &mut Throttle, peer: IpAddr, seconds: impl Iterator<Item = i64>) -> usize {
        seconds
            .filter(|&second| {
                let taken = throttle.attempt(1, peer, at(second)).is_ok();
                if taken {
                    throttle.failed(1, peer, at(second));
                }
                taken
            })
            .count()
    }

    #[test]
    fn a_thousand_wrong_passwords_are_hardly_hashed() {
        assert_eq!(wrong(&mut Throttle::new(Limits::default()), PEER, std::iter::repeat_n(0, 1000)), 5);
        let slowly = wrong(&mut Throttle::new(Limits::default()), PEER, (0..10_000).map(|n| n / 10));
        assert!(slowly <= 12, "{slowly} in 1,000 seconds");
        let a_day = wrong(&mut Throttle::new(Limits::default()), PEER, 0..86_400);
        assert!(a_day <= 5 + 7 + 96, "{a_day} in a day: one a quarter of an hour once it has got there");
    }

    #[test]
    fn the_wait_is_told_and_doubles() {
        let mut throttle = Throttle::new(Limits::default());
        wrong(&mut throttle, PEER, std::iter::repeat_n(0, 5));
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let wait = throttle.attempt(1, PEER, at(now)).unwrap_err().as_secs();
            waits.push(wait);
            assert!(throttle.attempt(1, PEER, at(now + i64::try_from(wait).unwrap() - 1)).is_err());
            now += i64::try_from(wait).unwrap();
            assert_eq!(wrong(&mut throttle, PEER, std::iter::once(now)), 1);
        }
        assert_eq!(waits, [24, 48, 96, 192, 384, 768, 900, 900]);
    }

    #[test]
    fn the_right_password_clears_the_record() {
        let mut throttle = Throttle::new(Limits::default());
        for round in 0..200 {
            let second = 10 * round;
            wrong(&mut throttle, PEER, std::iter::repeat_n(second, 4));
            throttle.attempt(1, PEER, at(second)).unwrap();
            throttle.passed(1, PEER);
        }
    }

    #[test]
    fn others_are_not_disturbed() {
        let mut throttle = Throttle::new(Limits::default());
        wrong(&mut throttle, PEER, std::iter::repeat_n(0, 100));
        assert!(throttle.attempt(1, "192.0.2.250".parse().unwrap(), at(0)).is_err(), "same /24");
        assert!(throttle.attempt(2, PEER, at(0)).is_ok(), "another user");
        for elsewhere in ["192.0.3.7", "127.0.0.1", "2001:db8::1"] {
            assert!(throttle.attempt(1, elsewhere.parse().unwrap(), at(0)).is_ok(), "{elsewhere}");
        }
        let neighbour: IpAddr = "2001:db8::1".parse().unwrap();
        wrong(&mut throttle, neighbour, std::iter::repeat_n(0, 100));
        for (address, free) in [("2001:db8::ffff:ffff:ffff:ffff", false), ("2001:db8:0:1::1", true)] {
            assert_eq!(
                throttle.attempt(1, address.parse().unwrap(), at(0)).is_ok(),
                free,
                "{address}: a /64 is one network"
            );
        }
        let mapped: IpAddr = "::ffff:192.0.2.9".parse().unwrap();
        assert!(throttle.attempt(1, mapped, at(0)).is_err(), "IPv4 in IPv6 is the same network");
    }

    #[test]
    fn many_names_from_one_network_are_held_back_too() {
        let mut throttle = Throttle::new(Limits::default());
        let tried = (0..1000).filter(|&user| throttle.attempt(user, PEER, at(0)).is_ok()).count();
        assert_eq!(tried, 60);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut throttle = Throttle::new(Limits { entries: 100, ..Limits::default() });
        wrong(&mut throttle, PEER, std::iter::repeat_n(0, 5));
        for n in 0..1000_u32 {
            let peer = IpAddr::V4((n << 8).into());
            let _ = throttle.attempt(2, peer, at(i64::from(n) / 100));
            assert!(throttle.buckets.len() <= 100 + 1);
        }
        assert!(throttle.attempt(1, PEER, at(10)).is_err(), "one that is blocked stays longest");
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_lock_out_for_good() {
        let mut throttle = Throttle::new(Limits::default());
        wrong(&mut throttle, PEER, std::iter::repeat_n(3600, 5));
        let wait = throttle.attempt(1, PEER, at(0)).unwrap_err();
        assert!(wait <= Duration::from_mins(15));
    }
}
