//! Rate limits for password guessing.
//!
//! Only wrong passwords count. Each pair of user and network has a bucket of guesses (5, refilled at 5 per minute).
//! Each network also has a wider bucket (60, refilled at 60 per minute) against attackers who try one password with
//! many names. A network is an IPv4 /24 or an IPv6 /64; the enclosing /56 and /48 get two and four times as much, so an
//! attacker who owns 65,536 networks does not get 65,536 times the guesses. A caller that fails with an empty bucket
//! has to wait, each time twice as long, up to 15 minutes. As a result, of 1,000 wrong passwords in a row only five
//! reach the hasher.
//!
//! A user who has logged in from a network before is limited only by wrong passwords for that user from that /24 or
//! /64, not by guesses of others in the network, nor by guesses from the rest of its /56 or /48.
//!
//! An attempt reserves a guess before it is hashed and returns it unless the password was wrong. So there are never
//! more attempts in progress than guesses left; further callers are asked to wait for those ([`Held::Busy`]).
//!
//! Contract: pure; the caller passes the time of the monotonic clock. Bounded: a new entry beyond [`Limits::entries`]
//! drops the half that was idle longest. Attempts in progress are neither dropped nor counted; the number of
//! connections that are logging in bounds them. Nobody can lock a user out from a network other than the attacker's
//! own.

use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

/// Limits on failed logins; `docs/security.md`, "Limits".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Wrong passwords per minute for one user from one network, and the size of a burst. At least one.
    pub per_minute: u32,
    /// Wrong passwords per minute for one network, over all users.
    pub per_network: u32,
    /// The longest time that a caller has to wait.
    pub longest_wait: Duration,
    /// The maximum number of entries: networks, and pairs of user and network.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_minute: 5, per_network: 60, longest_wait: Duration::from_mins(15), entries: 65_536 }
    }
}

/// A prefix of an address, all of which a single attacker may own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Returns the networks that contain an address, narrowest first, each with its allowance as a multiple of the
/// narrowest one's.
pub(super) fn networks(peer: IpAddr) -> impl Iterator<Item = (Network, u32)> {
    const V4: &[(u8, u32)] = &[(24, 1)];
    const V6: &[(u8, u32)] = &[(64, 1), (56, 2), (48, 4)];
    let peer = peer.to_canonical();
    let prefixes = if peer.is_ipv4() { V4 } else { V6 };
    prefixes.iter().map(move |&(prefix, share)| (Network::of(peer, prefix), share))
}

impl Network {
    fn of(address: IpAddr, prefix: u8) -> Self {
        let address = match address {
            IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & !(u32::MAX >> prefix)).into()),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !(u128::MAX >> prefix)).into()),
        };
        Self { address, prefix }
    }

    /// Returns the narrowest network that contains an address.
    pub(super) fn narrowest(peer: IpAddr) -> Self {
        networks(peer).next().expect("every address is in a network").0
    }

    /// Returns the widest network that contains an address.
    pub(super) fn widest(peer: IpAddr) -> Self {
        networks(peer).last().expect("every address is in a network").0
    }
}

/// The reason why an attempt is not allowed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// There were too many wrong passwords. Blocked for this time, at least a second.
    For(Duration),
    /// Attempts in progress have reserved the remaining guesses, until one of them ends.
    Busy,
}

/// The result of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Right: clears the user's record.
    Right,
    /// Wrong: counts.
    Wrong,
    /// Not determined: does not count.
    Undecided,
}

/// The key of a bucket: a user (by a keyed hash, so that names cannot be chosen to collide) from a network, or the
/// network as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Who {
    user: Option<u64>,
    network: Network,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
    /// Attempts in progress.
    reserved: u32,
    /// Consecutive failures that left the bucket empty.
    strikes: u32,
    blocked_until: Option<Instant>,
}

/// Rate limits for failed logins, by user and by network. Bounded in entries; the caller passes the time.
#[derive(Debug)]
pub(super) struct Throttle {
    limits: Limits,
    buckets: HashMap<Who, Bucket>,
}

impl Throttle {
    /// Creates a throttle without any entries.
    pub(super) fn new(limits: Limits) -> Self {
        let limits = Limits { per_minute: limits.per_minute.max(1), per_network: limits.per_network.max(1), ..limits };
        Self { limits, buckets: HashMap::new() }
    }

    /// Checks whether an attempt is allowed. `user` is a keyed hash of the name; `seen` is whether the user has logged
    /// in from this network with the right password before.
    pub(super) fn check(&self, user: u64, peer: IpAddr, seen: bool, now: Instant) -> Result<(), Held> {
        let mut busy = false;
        let narrowest = Network::narrowest(peer);
        let counts = |(who, _): &(Who, u32)| !seen || (who.user.is_some() && who.network == narrowest);
        for (who, per_minute) in self.counted(user, peer).filter(counts) {
            match self.bucket(&who, per_minute, now).held(per_minute, now) {
                None => {}
                Some(Held::Busy) => busy = true,
                Some(held) => return Err(held),
            }
        }
        if busy { Err(Held::Busy) } else { Ok(()) }
    }

    /// Reserves an attempt; [`Throttle::settle`] ends it.
    pub(super) fn reserve(&mut self, user: u64, peer: IpAddr, seen: bool, now: Instant) -> Result<(), Held> {
        self.check(user, peer, seen, now)?;
        // Read before room is made: to make room for one of them must not cost the others their records.
        let counted = self.counted(user, peer).map(|(who, per_minute)| (who, self.bucket(&who, per_minute, now)));
        for (who, bucket) in counted.collect::<Vec<_>>() {
            make_room(&mut self.buckets, &who, self.limits.entries, Bucket::busy_until);
            self.buckets.insert(who, Bucket { reserved: bucket.reserved + 1, ..bucket });
        }
        Ok(())
    }

    /// Ends an attempt that was reserved.
    pub(super) fn settle(&mut self, user: u64, peer: IpAddr, outcome: Outcome, now: Instant) {
        let longest = self.limits.longest_wait;
        for (who, per_minute) in self.counted(user, peer) {
            let Some(bucket) = self.buckets.get_mut(&who) else { continue };
            bucket.reserved = bucket.reserved.saturating_sub(1);
            match outcome {
                Outcome::Undecided => {}
                Outcome::Wrong => bucket.fail(who.user.is_some(), per_minute, now, longest),
                Outcome::Right if who.user.is_none() => {}
                Outcome::Right if bucket.reserved == 0 => {
                    self.buckets.remove(&who);
                }
                Outcome::Right => *bucket = Bucket { reserved: bucket.reserved, ..Bucket::full(per_minute, now) },
            }
        }
    }

    /// Returns the wrong passwords plus attempts in progress of each network of an address, widest first.
    pub(super) fn loads(&self, peer: IpAddr, now: Instant) -> [u32; 3] {
        let mut loads = [0; 3];
        for (at, (network, share)) in networks(peer).enumerate() {
            let load = self.load(network, self.limits.per_network.saturating_mul(share), now);
            // An IPv4 address has only one network, which stands for all three.
            loads[..3 - at].fill(load);
        }
        loads
    }

    fn load(&self, network: Network, per_minute: u32, now: Instant) -> u32 {
        let bucket = self.bucket(&Who { user: None, network }, per_minute, now);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between zero and the allowance")]
        let spent = (f64::from(per_minute) - bucket.tokens).ceil() as u32;
        spent.saturating_add(bucket.reserved)
    }

    /// Returns every bucket of an attempt, with its allowance.
    fn counted(&self, user: u64, peer: IpAddr) -> impl Iterator<Item = (Who, u32)> + use<> {
        let Limits { per_minute, per_network, .. } = self.limits;
        networks(peer).flat_map(move |(network, share)| {
            [(None, per_network), (Some(user), per_minute)]
                .map(|(user, allowance)| (Who { user, network }, allowance.saturating_mul(share)))
        })
    }

    /// Returns a bucket in its current state.
    fn bucket(&self, who: &Who, per_minute: u32, now: Instant) -> Bucket {
        let known = self.buckets.get(who).copied();
        let full = || Bucket::full(per_minute, now);
        known.map_or_else(full, |bucket| bucket.refilled(per_minute, now, self.limits.longest_wait))
    }
}

impl Bucket {
    fn full(per_minute: u32, now: Instant) -> Self {
        Self { tokens: f64::from(per_minute), at: now, reserved: 0, strikes: 0, blocked_until: None }
    }

    /// Returns the time until which the bucket must be retained; `None` while attempts are in progress.
    fn busy_until(&self) -> Option<Instant> {
        (self.reserved == 0).then(|| self.blocked_until.unwrap_or(self.at))
    }

    fn held(&self, per_minute: u32, now: Instant) -> Option<Held> {
        if let Some(wait) = self.wait(now) {
            return Some(Held::For(wait));
        }
        if self.tokens - f64::from(self.reserved) >= 1.0 {
            return None;
        }
        if self.tokens >= 1.0 {
            return Some(Held::Busy);
        }
        let wait = refill_interval(per_minute).mul_f64(1.0 - self.tokens);
        Some(Held::For(wait.max(Duration::from_secs(1))))
    }

    /// Returns the remaining time of a block.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let left = self.blocked_until?.saturating_duration_since(now);
        (!left.is_zero()).then(|| left.max(Duration::from_secs(1)))
    }

    /// Counts a wrong password. With `strike`, blocks an empty bucket, each time for longer.
    fn fail(&mut self, strike: bool, per_minute: u32, now: Instant, longest: Duration) {
        *self = self.refilled(per_minute, now, longest);
        self.tokens = (self.tokens - 1.0).max(0.0);
        if !strike || self.tokens >= 1.0 {
            return;
        }
        self.strikes = self.strikes.saturating_add(1);
        let wait = refill_interval(per_minute).saturating_mul(1 << self.strikes.min(16)).min(longest);
        self.blocked_until = now.checked_add(wait);
    }

    /// Returns the bucket with the guesses refilled since its last update; unchanged while it is blocked.
    fn refilled(mut self, per_minute: u32, now: Instant, longest: Duration) -> Self {
        if self.wait(now).is_some() {
            return self;
        }
        let since = self.blocked_until.map_or(self.at, |until| until.max(self.at));
        let quiet = now.saturating_duration_since(since);
        if self.blocked_until.take().is_some() {
            self.tokens = 1.0;
        }
        let more = quiet.as_secs_f64() / refill_interval(per_minute).as_secs_f64();
        self.tokens = (self.tokens + more).min(f64::from(per_minute));
        self.at = now;
        if quiet >= longest {
            self.strikes = 0;
        }
        self
    }
}

fn refill_interval(per_minute: u32) -> Duration {
    Duration::from_mins(1) / per_minute
}

/// Makes room for a key in a full table, unless the table has that key already: keeps half of `entries`, those with the
/// latest times. Entries without a time are in use; they stay and do not count, because otherwise many of them would
/// evict all others.
pub(super) fn make_room<K: Eq + Hash, V>(
    table: &mut HashMap<K, V>,
    key: &K,
    entries: usize,
    time: impl Fn(&V) -> Option<Instant>,
) {
    if table.len() < entries.max(1) || table.contains_key(key) {
        return;
    }
    let mut idle: Vec<Instant> = table.values().filter_map(&time).collect();
    if idle.len() < entries.max(1) {
        return;
    }
    let last = idle.len() - entries / 2 - 1;
    let (_, &mut bound, _) = idle.select_nth_unstable(last);
    table.retain(|_, value| time(value).is_none_or(|time| time > bound));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::simulated;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn at(seconds: i64) -> Instant {
        simulated::at(seconds).instant
    }

    /// Tries a wrong password at each second of `seconds` and returns the number of passwords hashed.
    fn wrong(throttle: &mut Throttle, peer: IpAddr, seconds: impl Iterator<Item = i64>) -> usize {
        seconds
            .filter(|&second| {
                let taken = throttle.reserve(1, peer, false, at(second)).is_ok();
                if taken {
                    throttle.settle(1, peer, Outcome::Wrong, at(second));
                }
                taken
            })
            .count()
    }

    fn told(throttle: &Throttle, user: u64, peer: IpAddr, second: i64) -> u64 {
        match throttle.check(user, peer, false, at(second)) {
            Err(Held::For(wait)) => wait.as_secs(),
            other => panic!("{other:?}"),
        }
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
            let wait = i64::try_from(told(&throttle, 1, PEER, now)).unwrap();
            waits.push(wait);
            assert!(throttle.check(1, PEER, false, at(now + wait - 1)).is_err());
            now += wait;
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
            throttle.reserve(1, PEER, false, at(second)).unwrap();
            throttle.settle(1, PEER, Outcome::Right, at(second));
        }
    }

    #[test]
    fn only_wrong_ones_count_however_many_are_under_way() {
        let mut throttle = Throttle::new(Limits::default());
        let begin =
            |throttle: &mut Throttle| (0..100).take_while(|_| throttle.reserve(1, PEER, false, at(0)).is_ok()).count();
        for outcome in [Outcome::Right, Outcome::Undecided, Outcome::Right] {
            assert_eq!(begin(&mut throttle), 5, "no more at once than guesses are left");
            assert_eq!(throttle.check(1, PEER, false, at(0)), Err(Held::Busy), "and nobody is told to go away");
            (0..5).for_each(|_| throttle.settle(1, PEER, outcome, at(0)));
        }
        assert_eq!(begin(&mut throttle), 5);
        (0..5).for_each(|_| throttle.settle(1, PEER, Outcome::Wrong, at(0)));
        assert_eq!(told(&throttle, 1, PEER, 0), 24, "five at once are no worse than five in a row");
    }

    #[test]
    fn the_last_guess_may_be_made_and_who_waits_for_its_outcome_is_not_told_to_go_away() {
        let mut throttle = Throttle::new(Limits { per_minute: 2, ..Limits::default() });
        assert_eq!(wrong(&mut throttle, PEER, std::iter::once(0)), 1);
        assert_eq!(throttle.reserve(1, PEER, false, at(0)), Ok(()), "one is left");
        assert_eq!(throttle.check(1, PEER, false, at(0)), Err(Held::Busy), "it may be right");
        throttle.settle(1, PEER, Outcome::Wrong, at(0));
        assert_eq!(told(&throttle, 1, PEER, 0), 60);
    }

    #[test]
    fn others_are_not_disturbed() {
        let mut throttle = Throttle::new(Limits::default());
        wrong(&mut throttle, PEER, std::iter::repeat_n(0, 100));
        assert!(throttle.check(1, "192.0.2.250".parse().unwrap(), false, at(0)).is_err(), "same /24");
        assert!(throttle.check(2, PEER, false, at(0)).is_ok(), "another user");
        for elsewhere in ["192.0.3.7", "127.0.0.1", "2001:db8::1"] {
            assert!(throttle.check(1, elsewhere.parse().unwrap(), false, at(0)).is_ok(), "{elsewhere}");
        }
        let neighbour: IpAddr = "2001:db8::1".parse().unwrap();
        wrong(&mut throttle, neighbour, std::iter::repeat_n(0, 100));
        for (address, free) in [("2001:db8::ffff:ffff:ffff:ffff", false), ("2001:db8:0:1::1", true)] {
            assert_eq!(
                throttle.check(1, address.parse().unwrap(), false, at(0)).is_ok(),
                free,
                "{address}: a /64 is one network"
            );
        }
        let mapped: IpAddr = "::ffff:192.0.2.9".parse().unwrap();
        assert!(throttle.check(1, mapped, false, at(0)).is_err(), "IPv4 in IPv6 is the same network");
    }

    #[test]
    fn who_has_many_networks_is_no_crowd() {
        let mut throttle = Throttle::new(Limits::default());
        let inside = |n: u16| IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 7, n, 0, 0, 0, 1));
        let hashed: usize = (0..1000).map(|n| wrong(&mut throttle, inside(n), std::iter::repeat_n(0, 10))).sum();
        assert_eq!(hashed, 20, "of one user from one /48, and ten from a /56 of it");
        let names = (0..1000).filter(|&user| {
            let peer = inside(u16::try_from(user).unwrap());
            let taken = throttle.reserve(user + 2, peer, false, at(0)).is_ok();
            if taken {
                throttle.settle(user + 2, peer, Outcome::Wrong, at(0));
            }
            taken
        });
        assert_eq!(names.count(), 240 - 20);
        assert!(throttle.check(1, "2001:db8:8::1".parse().unwrap(), false, at(0)).is_ok(), "another /48");
    }

    #[test]
    fn a_user_who_was_seen_is_not_held_back_by_guesses_from_its_neighbours() {
        let mut throttle = Throttle::new(Limits::default());
        let at_home: IpAddr = "2001:db8:7:1::1".parse().unwrap();
        for neighbour in ["2001:db8:7:2::1", "2001:db8:7:3::1", "2001:db8:7:1000::1", "2001:db8:7:2000::1"] {
            wrong(&mut throttle, neighbour.parse().unwrap(), std::iter::repeat_n(0, 10));
        }
        assert!(throttle.check(1, at_home, false, at(0)).is_err(), "the /48 has had its guesses");
        assert_eq!(throttle.check(1, at_home, true, at(0)), Ok(()));
        assert_eq!(throttle.reserve(1, at_home, true, at(0)), Ok(()));
        throttle.settle(1, at_home, Outcome::Wrong, at(0));
        for _ in 0..4 {
            throttle.reserve(1, at_home, true, at(0)).unwrap();
            throttle.settle(1, at_home, Outcome::Wrong, at(0));
        }
        assert!(throttle.check(1, at_home, true, at(0)).is_err(), "its own /64 counts");
    }

    #[test]
    fn many_names_from_one_network_are_held_back_too() {
        let mut throttle = Throttle::new(Limits::default());
        for user in 0..1000 {
            if throttle.reserve(user, PEER, false, at(0)).is_ok() {
                throttle.settle(user, PEER, Outcome::Wrong, at(0));
            }
        }
        assert_eq!(throttle.loads(PEER, at(0)), [60; 3]);
        assert_eq!(told(&throttle, 1000, PEER, 0), 1);
        assert_eq!(throttle.loads("192.0.3.1".parse().unwrap(), at(0)), [0; 3]);
        assert!(throttle.check(1000, PEER, true, at(0)).is_ok(), "who was seen there before is none of them");
    }

    #[test]
    fn the_table_is_bounded() {
        let mut throttle = Throttle::new(Limits { entries: 100, ..Limits::default() });
        wrong(&mut throttle, PEER, std::iter::repeat_n(0, 5));
        for n in 0..1000_u32 {
            let peer = IpAddr::V4((n << 8).into());
            let second = i64::from(n) / 100;
            throttle.reserve(2, peer, false, at(second)).unwrap();
            throttle.settle(2, peer, Outcome::Wrong, at(second));
            assert!(throttle.buckets.len() <= 101, "and the second of an attempt in progress");
        }
        assert!(throttle.check(1, PEER, false, at(10)).is_err(), "one that is blocked stays longest");
    }

    #[test]
    fn who_is_in_a_full_table_already_costs_nobody_a_record() {
        let mut throttle = Throttle::new(Limits { entries: 4, ..Limits::default() });
        let elsewhere: IpAddr = "198.51.100.1".parse().unwrap();
        assert_eq!(wrong(&mut throttle, PEER, std::iter::repeat_n(0, 3)), 3);
        throttle.reserve(2, elsewhere, false, at(1)).unwrap();
        throttle.settle(2, elsewhere, Outcome::Wrong, at(1));
        assert_eq!(throttle.buckets.len(), 4);
        throttle.reserve(2, elsewhere, false, at(2)).unwrap();
        throttle.settle(2, elsewhere, Outcome::Wrong, at(2));
        assert_eq!(wrong(&mut throttle, PEER, std::iter::repeat_n(2, 10)), 2, "three of five were used");
    }

    #[test]
    fn a_new_name_in_a_full_table_does_not_clear_the_record_of_its_network() {
        let mut throttle = Throttle::new(Limits { per_network: 3, entries: 3, ..Limits::default() });
        assert_eq!(wrong(&mut throttle, PEER, std::iter::repeat_n(0, 2)), 2);
        let elsewhere: IpAddr = "198.51.100.1".parse().unwrap();
        throttle.reserve(2, elsewhere, false, at(1)).unwrap();
        throttle.settle(2, elsewhere, Outcome::Undecided, at(1));
        assert_eq!(throttle.buckets.len(), 4);
        assert_eq!(throttle.reserve(3, PEER, false, at(1)), Ok(()));
        assert_eq!(throttle.reserve(4, PEER, false, at(1)), Err(Held::Busy), "the third of three is under way");
    }

    /// Attempts in progress cannot be dropped. Many of them must not evict all other records.
    #[test]
    fn a_full_table_of_attempts_in_progress_drops_only_the_oldest_records() {
        let mut throttle = Throttle::new(Limits { entries: 16, ..Limits::default() });
        wrong(&mut throttle, PEER, std::iter::repeat_n(0, 5));
        for n in 0..20_u8 {
            assert_eq!(throttle.reserve(2, [203, 0, n, 1].into(), false, at(1)), Ok(()));
            assert_eq!(told(&throttle, 1, PEER, 1), 23, "with {n} others in progress");
        }
        assert!(throttle.buckets.len() >= 40, "none of the attempts is dropped");
        for n in 0..20_u8 {
            throttle.settle(2, [203, 0, n, 1].into(), Outcome::Wrong, at(1));
        }
        throttle.reserve(3, PEER, false, at(2)).unwrap();
        assert!(throttle.buckets.len() <= 16, "{} are left when they are over", throttle.buckets.len());
    }
}
