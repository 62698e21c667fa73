//! Limits connection events per principal. Anybody who may connect causes two with every connection.
//!
//! A principal may cause [`BURST`] at once and [`RATE`] a second after that. Further events are left out and counted:
//! by a metric, by a log line when it begins, and in the next connection event of that principal (`OmittedEvents`).
//! Only the events are limited, not the connections.
//!
//! Contract: pure; the caller passes the time. Principals that have been quiet for a while are forgotten.

use hashbrown::HashMap;

/// Events at once. Each goes to everybody who watches connections, so a burst is work that one principal causes for all
/// of them: with a thousand, a user without any role held up a hundred watchers on a shard by 60 to 200 ms
/// (docs/benchmarks/hostile-2026-11-28.md).
const BURST: u64 = 100;

/// Events a second.
const RATE: u64 = 10;

/// Microseconds that one event takes of what may come at once.
const COST_US: u64 = 1_000_000 / RATE;

/// Principals beyond which those are looked for that can be forgotten.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
struct Spent {
    /// Until when, in microseconds, the events so far would take at [`RATE`].
    until_us: u64,
    omitted: u64,
}

/// Why an event is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Omitted {
    /// Whether it is the first one since one was made.
    pub(super) first: bool,
}

/// Limits connection events per principal.
#[derive(Debug)]
pub(super) struct Pace {
    principals: HashMap<String, Spent>,
    bound: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { principals: HashMap::new(), bound: MOST }
    }
}

impl Pace {
    /// Asks for one event. Returns how many were left out before it.
    ///
    /// # Errors
    /// [`Omitted`] if it is to be left out.
    pub(super) fn ask(&mut self, principal: &str, now_us: u64) -> Result<u64, Omitted> {
        if self.principals.len() >= self.bound {
            self.principals.retain(|_, spent| spent.until_us > now_us || spent.omitted > 0);
            self.bound = MOST.max(2 * self.principals.len());
        }
        let spent = self.principals.entry_ref(principal).or_default();
        let until_us = spent.until_us.max(now_us) + COST_US;
        if until_us > now_us + BURST * COST_US {
            spent.omitted += 1;
            return Err(Omitted { first: spent.omitted == 1 });
        }
        spent.until_us = until_us;
        Ok(std::mem::take(&mut spent.omitted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_too_many_is_told_of_by_a_count() {
        let mut pace = Pace::default();
        // 6,000 within 30 s, as a client does that does nothing but connect.
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
        assert!(pace.principals.len() <= 2 * MOST);
    }
}
