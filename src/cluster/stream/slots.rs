//! Slots: so many replays hold pages at a time, and every principal gets some of them.
//!
//! Contract: a principal is given a slot while it holds fewer than are free. So one alone has at most half of them, a
//! second one half of the rest, and a newcomer finds one free as long as few principals take all they can get. As soon
//! as a slot is free, the principals that wait and may have it take turns; a principal waits for its own replays, and
//! for others only if none is free. One that stops waiting is forgotten.
//!
//! Why no fixed share: a principal with many clients that return at once gets many slots while nobody else needs them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Slots for a number of replays.
#[derive(Debug)]
pub(super) struct ReplaySlots(Arc<Mutex<Queue>>);

/// A slot, which another replay gets once this is dropped.
#[derive(Debug)]
pub(super) struct ReplaySlot {
    queue: Arc<Mutex<Queue>>,
    account: Arc<str>,
}

#[derive(Debug)]
struct Queue {
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
    waiting: BTreeMap<u64, oneshot::Sender<ReplaySlot>>,
    /// Whether it is in the order of turns.
    is_queued: bool,
}

/// A replay that waits, or has stopped waiting.
struct Waiting<'q> {
    queue: &'q Mutex<Queue>,
    account: &'q str,
    ticket: u64,
}

impl ReplaySlots {
    /// Creates slots for this number of replays.
    pub(super) fn new(number: usize) -> Self {
        let (by_account, order) = (HashMap::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(Queue { free: number, next_ticket: 0, by_account, order })))
    }

    /// Waits for a slot for a replay of this account; returns `None` if it got none within `longest`.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the slot, or the turn.
    pub(super) async fn take(&self, account: &str, longest: Duration) -> Option<ReplaySlot> {
        let (sender, slot) = oneshot::channel();
        let ticket = self.0.lock().push(account, sender);
        let _waiting = Waiting { queue: &self.0, account, ticket };
        hand_out(&self.0);
        timeout(longest, slot).await.ok()?.ok()
    }
}

/// Gives the free slots to those that may have them.
fn hand_out(queue: &Arc<Mutex<Queue>>) {
    loop {
        let next = queue.lock().pop();
        let Some((account, sender)) = next else { return };
        // If nobody waits for it any more, it is dropped, and given to the next one.
        drop(sender.send(ReplaySlot { queue: Arc::clone(queue), account }));
    }
}

impl Queue {
    /// Adds a replay behind those of its account, and returns its ticket.
    fn push(&mut self, account: &str, sender: oneshot::Sender<ReplaySlot>) -> u64 {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.by_account.entry(account.into()).or_default().waiting.insert(ticket, sender);
        self.enter(account);
        ticket
    }

    /// Gives an account a turn if it waits and has none yet.
    fn enter(&mut self, account: &str) {
        let Some((account, share)) = self.by_account.get_key_value_mut(account) else { return };
        if !share.waiting.is_empty() && !std::mem::replace(&mut share.is_queued, true) {
            self.order.push_back(Arc::clone(account));
        }
    }

    /// Removes the next replay that may have a slot, and counts its slot.
    fn pop(&mut self) -> Option<(Arc<str>, oneshot::Sender<ReplaySlot>)> {
        // Those that hold as many as are free are skipped: with one free or more, these are no more than there are
        // slots.
        while self.free > 0 {
            let may_take = |account: &Arc<str>| self.by_account.get(account).is_none_or(|share| share.held < self.free);
            let at = self.order.iter().position(may_take)?;
            let account = self.order.remove(at)?;
            let share = self.by_account.get_mut(&account)?;
            share.is_queued = false;
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
        let is_idle = |share: &Share| share.held == 0 && share.waiting.is_empty() && !share.is_queued;
        if self.by_account.get(account).is_some_and(is_idle) {
            self.by_account.remove(account);
        }
    }
}

impl Drop for ReplaySlot {
    fn drop(&mut self) {
        self.queue.lock().release(&self.account);
        hand_out(&self.queue);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut queue = self.queue.lock();
        if let Some(share) = queue.by_account.get_mut(self.account) {
            share.waiting.remove(&self.ticket);
        }
        queue.forget_if_idle(self.account);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::*;

    const LONGEST: Duration = Duration::from_mins(10);

    /// Takes as many slots as an account gets at once.
    fn all(slots: &ReplaySlots, account: &str) -> Vec<ReplaySlot> {
        std::iter::from_fn(|| slots.take(account, LONGEST).now_or_never().flatten()).collect()
    }

    fn accounts(slots: &ReplaySlots) -> usize {
        slots.0.lock().by_account.len()
    }

    #[tokio::test]
    async fn nobody_holds_more_than_are_free() {
        let slots = ReplaySlots::new(16);
        let held = ["a", "b", "c", "d", "e", "f"].map(|account| all(&slots, account));
        assert_eq!(held.each_ref().map(Vec::len), [8, 4, 2, 1, 1, 0]);
        drop(held);
        assert_eq!(all(&slots, "f").len(), 8);
        assert_eq!(accounts(&slots), 0, "nobody is remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn a_principal_waits_for_itself_and_not_for_ever() {
        let slots = ReplaySlots::new(4);
        let mut held = all(&slots, "a");
        let begun = Instant::now();
        assert!(slots.take("a", LONGEST).await.is_none());
        assert_eq!(begun.elapsed(), LONGEST);
        let mut own = Box::pin(slots.take("a", LONGEST));
        assert!(own.as_mut().now_or_never().is_none());
        let other = slots.take("b", LONGEST).now_or_never().flatten();
        assert!(other.is_some(), "others do not wait for it");
        held.pop();
        let own = own.now_or_never().flatten();
        assert!(own.is_some());
        drop((own, other, held));
        assert_eq!(accounts(&slots), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn principals_take_turns() {
        let slots = Arc::new(ReplaySlots::new(1));
        let first = slots.take("a", LONGEST).await;
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for (number, account) in ["a", "a", "a", "b", "a", "c"].into_iter().enumerate() {
            let (slots, served) = (Arc::clone(&slots), Arc::clone(&served));
            tasks.spawn(async move {
                let _slot = slots.take(account, LONGEST).await.unwrap();
                served.lock().push(number);
            });
            tokio::task::yield_now().await;
        }
        drop(first);
        tasks.join_all().await;
        assert_eq!(*served.lock(), [0, 3, 5, 1, 2, 4]);
        assert_eq!(accounts(&slots), 0);
    }

    #[tokio::test]
    async fn who_has_gone_takes_no_slot() {
        let slots = ReplaySlots::new(1);
        let first = slots.take("a", LONGEST).await;
        let [mut early, mut late] = ["b", "b"].map(|account| Box::pin(slots.take(account, LONGEST)));
        assert!(early.as_mut().now_or_never().is_none() && late.as_mut().now_or_never().is_none());
        drop(early);
        drop(first);
        // It has its slot, but nobody takes it any more.
        drop(late);
        assert_eq!(all(&slots, "c").len(), 1);
        assert_eq!(accounts(&slots), 0);
    }
}
