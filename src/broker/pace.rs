//! Limits connection events per account. Everyone who may connect causes two with every connection.
//!
//! An account may cause [`BURST`] at once and [`RATE`] per second after that. Further events are left out and counted:
//! by a metric, by a log line when it begins, and in the next connection event of that account (`OmittedEvents`).
//! Only the events are limited, not the connections.
//!
//! Contract: pure; the caller passes the time. Accounts that have been quiet for a while are forgotten: beyond
//! [`MOST`] first those of which nothing was left out, then the half of the others that was quiet longest, whose counts
//! are lost. Only accounts that have caused events within the last seconds are never forgotten.

use hashbrown::HashMap;

/// The maximum burst. Every watcher of connections receives each event, so one account's burst is work for all of
/// them: with a thousand, a user without any role delayed a hundred watchers on a shard by 60 to 200 ms
/// (docs/benchmarks/hostile-2026-11-28.md).
const BURST: u64 = 100;

/// Events per second.
const RATE: u64 = 10;

/// The cost of one event in microseconds at [`RATE`].
const COST_US: u64 = 1_000_000 / RATE;

/// The number of accounts beyond which idle ones are removed.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
struct Spent {
    /// The time in microseconds at which the events so far are paid off at [`RATE`].
    until_us: u64,
    omitted: u64,
}

/// The refusal of an event that has to be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Omitted {
    /// Whether it is the first one left out since the last event.
    pub(super) first: bool,
}

/// Limits connection events per account.
#[derive(Debug)]
pub(super) struct Pace {
    accounts: HashMap<String, Spent>,
    bound: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { accounts: HashMap::new(), bound: MOST }
    }
}

impl Pace {
    /// Requests one event. Returns the number of events left out before it.
    ///
    /// # Errors
    /// [`Omitted`] if the event has to be left out.
    pub(super) fn ask(&mut self, account: &str, now_us: u64) -> Result<u64, Omitted> {
        if self.accounts.len() >= self.bound {
            self.forget_quiet(now_us);
        }
        let spent = self.accounts.entry_ref(account).or_default();
        let until_us = spent.until_us.max(now_us) + COST_US;
        if until_us > now_us + BURST * COST_US {
            spent.omitted += 1;
            return Err(Omitted { first: spent.omitted == 1 });
        }
        spent.until_us = until_us;
        Ok(std::mem::take(&mut spent.omitted))
    }

    fn forget_quiet(&mut self, now_us: u64) {
        self.accounts.retain(|_, spent| spent.until_us > now_us || spent.omitted > 0);
        if self.accounts.len() > MOST / 2 {
            // Otherwise names that never come again would accumulate.
            let mut times: Vec<u64> = self.accounts.values().map(|spent| spent.until_us).collect();
            let middle = times.len() / 2;
            let (_, &mut median, _) = times.select_nth_unstable(middle);
            self.accounts.retain(|_, spent| spent.until_us > median.min(now_us));
        }
        self.bound = MOST.max(2 * self.accounts.len());
    }

    /// Counts events that were left out for another reason, including those that the last one would have reported.
    pub(super) fn omit(&mut self, account: &str, events: u64) {
        self.accounts.entry_ref(account).or_default().omitted += events;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_too_many_is_told_of_by_a_count() {
        let mut pace = Pace::default();
        // 6,000 within 30 s, as from a client that does nothing but connect.
        let asked: Vec<_> = (0..6000_u64).map(|n| pace.ask("user:a", n * 5000)).collect();
        let made = asked.iter().filter(|asked| asked.is_ok()).count() as u64;
        assert_eq!(made, BURST + 30 * RATE - 1);
        let told: u64 = asked.iter().flatten().sum();
        let left = asked.iter().rev().take_while(|asked| asked.is_err()).count() as u64;
        assert_eq!(made + told + left, 6000);
        assert_eq!(asked.iter().filter(|asked| **asked == Err(Omitted { first: true })).count() as u64, {
            asked.iter().flatten().filter(|told| **told > 0).count() as u64 + u64::from(left > 0)
        });
        assert_eq!(pace.ask("user:b", 30_000_000), Ok(0), "others are not concerned");
        assert_eq!(pace.ask("user:a", 60_000_000), Ok(left));
    }

    #[test]
    fn who_is_quiet_is_forgotten() {
        let mut pace = Pace::default();
        for n in 0..5 * MOST as u64 {
            assert_eq!(pace.ask(&n.to_string(), n * 1000), Ok(0));
        }
        assert!(pace.accounts.len() <= 2 * MOST);
    }

    /// Names may come without end, and each may be owed a count.
    #[test]
    fn who_never_comes_again_is_forgotten_though_a_count_is_owed() {
        let (mut pace, second) = (Pace::default(), 1_000_000);
        let names = 5 * MOST as u64;
        for n in 0..names {
            let (name, now) = (n.to_string(), n * second);
            while pace.ask(&name, now).is_ok() {}
            assert!(pace.accounts.len() <= MOST, "{n}");
        }
        assert_eq!(pace.ask("0", names * second), Ok(0), "forgotten");
        assert_eq!(pace.ask(&(names - 100).to_string(), names * second), Ok(1), "owed to one of the last");
    }
}
