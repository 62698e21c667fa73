//! Places: so many replays hold pages at a time, and every principal gets some of them.
//!
//! Contract: a principal is given a place while it holds fewer than are free. So one alone has at most half of them, a
//! second one half of the rest, and a newcomer finds one free as long as few principals take all they can get. As soon
//! as a place is free, the principals that wait and may have it take turns; a principal waits for its own replays, and
//! for others only if none is free. One that stops waiting is forgotten.
//!
//! Why no fixed share: a principal with many clients that return at once gets many places while nobody else needs them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Places for a number of replays.
#[derive(Debug)]
pub(super) struct Places(Arc<Mutex<Line>>);

/// A place, which another replay gets once this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    line: Arc<Mutex<Line>>,
    account: Arc<str>,
}

#[derive(Debug)]
struct Line {
    free: usize,
    next_ticket: u64,
    by_account: HashMap<Arc<str>, Share>,
    /// The accounts that wait, in the order of their turns; maybe also some that have stopped waiting.
    order: VecDeque<Arc<str>>,
}

/// The share of an account.
#[derive(Debug, Default)]
struct Share {
    held: usize,
    /// Its replays that wait, in their order.
    waiting: BTreeMap<u64, oneshot::Sender<Place>>,
    /// Whether it is in the order of turns.
    is_in_line: bool,
}

/// A replay that waits, or has stopped waiting.
struct Waiting<'l> {
    line: &'l Mutex<Line>,
    account: &'l str,
    ticket: u64,
}

impl Places {
    /// Creates places for this number of replays.
    pub(super) fn new(number: usize) -> Self {
        let (by_account, order) = (HashMap::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(Line { free: number, next_ticket: 0, by_account, order })))
    }

    /// Waits for a place for a replay of this account; returns `None` if it got none within `longest`.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place, or the turn.
    pub(super) async fn take(&self, account: &str, longest: Duration) -> Option<Place> {
        let (sender, place) = oneshot::channel();
        let ticket = self.0.lock().push(account, sender);
        let _waiting = Waiting { line: &self.0, account, ticket };
        hand_out(&self.0);
        timeout(longest, place).await.ok()?.ok()
    }
}

/// Gives the free places to those that may have them.
fn hand_out(line: &Arc<Mutex<Line>>) {
    loop {
        let next = line.lock().pop();
        let Some((account, sender)) = next else { return };
        // If nobody waits for it any more, it is dropped, and given to the next one.
        drop(sender.send(Place { line: Arc::clone(line), account }));
    }
}

impl Line {
    /// Adds a replay behind those of its account, and returns its ticket.
    fn push(&mut self, account: &str, sender: oneshot::Sender<Place>) -> u64 {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.by_account.entry(account.into()).or_default().waiting.insert(ticket, sender);
        self.enter(account);
        ticket
    }

    /// Gives an account a turn if it waits and has none yet.
    fn enter(&mut self, account: &str) {
        let Some((account, share)) = self.by_account.get_key_value_mut(account) else { return };
        if !share.waiting.is_empty() && !std::mem::replace(&mut share.is_in_line, true) {
            self.order.push_back(Arc::clone(account));
        }
    }

    /// Removes the next replay that may have a place, and counts its place.
    fn pop(&mut self) -> Option<(Arc<str>, oneshot::Sender<Place>)> {
        // Those that hold as many as are free are skipped: with one free or more, these are no more than there are
        // places.
        while self.free > 0 {
            let may_take = |account: &Arc<str>| self.by_account.get(account).is_none_or(|share| share.held < self.free);
            let at = self.order.iter().position(may_take)?;
            let account = self.order.remove(at)?;
            let share = self.by_account.get_mut(&account)?;
            share.is_in_line = false;
            let first = share.waiting.pop_first();
            share.held += usize::from(first.is_some());
            self.free -= usize::from(first.is_some());
            self.enter(&account);
            match first {
                Some((_, sender)) => return Some((account, sender)),
                None => self.forget_if_idle(&account),
            }
        }
        None
    }

    fn release(&mut self, account: &str) {
        self.free += 1;
        if let Some(share) = self.by_account.get_mut(account) {
            share.held -= 1;
        }
        self.forget_if_idle(account);
    }

    fn forget_if_idle(&mut self, account: &str) {
        let is_idle = |share: &Share| share.held == 0 && share.waiting.is_empty() && !share.is_in_line;
        if self.by_account.get(account).is_some_and(is_idle) {
            self.by_account.remove(account);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.lock().release(&self.account);
        hand_out(&self.line);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut line = self.line.lock();
        if let Some(share) = line.by_account.get_mut(self.account) {
            share.waiting.remove(&self.ticket);
        }
        line.forget_if_idle(self.account);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::*;

    const LONGEST: Duration = Duration::from_mins(10);

    /// Takes as many places as an account gets at once.
    fn all(places: &Places, account: &str) -> Vec<Place> {
        std::iter::from_fn(|| places.take(account, LONGEST).now_or_never().flatten()).collect()
    }

    fn accounts(places: &Places) -> usize {
        places.0.lock().by_account.len()
    }

    #[tokio::test]
    async fn nobody_holds_more_than_are_free() {
        let places = Places::new(16);
        let held = ["a", "b", "c", "d", "e", "f"].map(|account| all(&places, account));
        assert_eq!(held.each_ref().map(Vec::len), [8, 4, 2, 1, 1, 0]);
        drop(held);
        assert_eq!(all(&places, "f").len(), 8);
        assert_eq!(accounts(&places), 0, "nobody is remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn a_principal_waits_for_itself_and_not_for_ever() {
        let places = Places::new(4);
        let mut held = all(&places, "a");
        let begun = Instant::now();
        assert!(places.take("a", LONGEST).await.is_none());
        assert_eq!(begun.elapsed(), LONGEST);
        let mut own = Box::pin(places.take("a", LONGEST));
        assert!(own.as_mut().now_or_never().is_none());
        let other = places.take("b", LONGEST).now_or_never().flatten();
        assert!(other.is_some(), "others do not wait for it");
        held.pop();
        let own = own.now_or_never().flatten();
        assert!(own.is_some());
        drop((own, other, held));
        assert_eq!(accounts(&places), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn principals_take_turns() {
        let places = Arc::new(Places::new(1));
        let first = places.take("a", LONGEST).await;
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for (number, account) in ["a", "a", "a", "b", "a", "c"].into_iter().enumerate() {
            let (places, served) = (Arc::clone(&places), Arc::clone(&served));
            tasks.spawn(async move {
                let _place = places.take(account, LONGEST).await.unwrap();
                served.lock().push(number);
            });
            tokio::task::yield_now().await;
        }
        drop(first);
        tasks.join_all().await;
        assert_eq!(*served.lock(), [0, 3, 5, 1, 2, 4]);
        assert_eq!(accounts(&places), 0);
    }

    #[tokio::test]
    async fn who_has_gone_takes_no_place() {
        let places = Places::new(1);
        let first = places.take("a", LONGEST).await;
        let [mut early, mut late] = ["b", "b"].map(|account| Box::pin(places.take(account, LONGEST)));
        assert!(early.as_mut().now_or_never().is_none() && late.as_mut().now_or_never().is_none());
        drop(early);
        drop(first);
        // It has its place, but nobody takes it any more.
        drop(late);
        assert_eq!(all(&places, "c").len(), 1);
        assert_eq!(accounts(&places), 0);
    }
}
