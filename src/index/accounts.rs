//! Budgets for filter work: one account per subscriber, and one shared by all subscribers of an owner.
//!
//! The work of an event's filters is charged to subscribers ([`filter::Payers`](super::filter::Payers) explains to
//! whom, and why that is fair). An account limits the work per event and per second. When it is exhausted, the
//! subscriber's filters are not evaluated for the rest of the event, and the subscriber is reported to the caller
//! ([`Overdrawn`]), which removes it.
//!
//! Contract: pure; the caller sets the current second. Opening and closing an account touches nothing else: units are
//! taken from the owner's account in small portions. One event may use its own limit even if the second has less left.

/// Limits on the work of filters, in units of about a nanosecond. A limit of 4 billion or more per event, or of 30
/// billion or more per second, is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Per event, for one subscriber.
    pub event: u64,
    /// Per second, for one subscriber.
    pub second: u64,
    /// Per second, for all subscribers of one owner.
    pub owner: u64,
}

impl Work {
    /// No limits.
    pub const UNLIMITED: Self = Self { event: u64::MAX, second: u64::MAX, owner: u64::MAX };
}

impl Default for Work {
    fn default() -> Self {
        Self::UNLIMITED
    }
}

/// The limit that a subscriber has exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdrawn {
    /// [`Work::event`].
    Event,
    /// [`Work::second`].
    Second,
    /// [`Work::owner`].
    Owner,
}

/// The minimum number of portions of a second's units; a subscriber takes one portion at a time from its owner's
/// account.
const PORTIONS: u64 = 16;

/// The minimum number of portions of an owner's second: that many subscribers of one owner can each hold a portion that
/// they hardly use.
const OWNER_PORTIONS: u64 = 1 << 16;

#[derive(Debug, Clone, Copy, Default)]
struct Account {
    /// The event and the second that the other fields refer to.
    event: u32,
    second: u32,
    /// Units left for the event.
    left: u32,
    /// Units left of the portion; negative if the last event took more.
    portion: i32,
    /// Portions taken.
    taken: u32,
    /// The owner's account, [`NOBODY`] if there is none; combined with [`PAUSED`] and [`STOPPED`].
    owner: u32,
}

/// What it costs a paused subscriber that one of its filters is passed over.
const PASSED_OVER: i32 = 4;

/// Set in the `owner` of a subscriber that is paused.
const PAUSED: u32 = 1 << 31;

/// Set in the `owner` of a subscriber that has been reported for the event.
const STOPPED: u32 = 1 << 30;

impl Account {
    fn owner(&self) -> u32 {
        self.owner & !(PAUSED | STOPPED)
    }

    fn is_paused(&self) -> bool {
        self.owner & PAUSED != 0
    }
}

/// The owner of subscribers that have none; its account has no limit.
pub(super) const NOBODY: u32 = 0;

/// The account of an owner.
#[derive(Debug, Clone, Copy, Default)]
struct Owner {
    second: u32,
    left: u64,
}

/// Budgets of filter work, by subscriber and by owner, per event and per second.
#[derive(Debug)]
pub(super) struct Accounts {
    work: Work,
    /// A subscriber's units per event.
    event_units: u32,
    /// Units per portion.
    portion: i32,
    /// A subscriber's portions per second.
    portions: u64,
    by_subscriber: Vec<Account>,
    by_owner: Vec<Owner>,
    second: u32,
    event: u32,
    /// The subscribers that exceeded a limit, each once per event.
    overdrawn: Vec<(u32, Overdrawn)>,
    /// Units charged for work other than predicates.
    beside: u64,
    /// Whether all subscribers share one account, that of the first.
    is_common: bool,
}

impl Accounts {
    pub(super) fn new(work: Work) -> Self {
        let (by_subscriber, by_owner, overdrawn) = (Vec::new(), Vec::new(), Vec::new());
        let event_units = u32::try_from(work.event).unwrap_or(u32::MAX);
        let portion = (work.second / PORTIONS).min(work.owner / OWNER_PORTIONS).max(1);
        let portion = i32::try_from(portion).unwrap_or(i32::MAX);
        let portions = if work.second == u64::MAX { u64::MAX } else { work.second / u64::from(portion.unsigned_abs()) };
        let (second, event, beside, is_common) = (1, 0, 0, false);
        Self {
            work,
            event_units,
            portion,
            portions,
            by_subscriber,
            by_owner,
            second,
            event,
            overdrawn,
            beside,
            is_common,
        }
    }

    /// Like [`Accounts::new`], with one account for all subscribers together.
    pub(super) fn common(work: Work) -> Self {
        Self { is_common: true, ..Self::new(work) }
    }

    #[inline]
    fn of(&mut self, subscriber: u32) -> &mut Account {
        let at = self.at(subscriber);
        &mut self.by_subscriber[at]
    }

    #[inline]
    fn at(&self, subscriber: u32) -> usize {
        if self.is_common { 0 } else { subscriber as usize }
    }

    /// Opens an owner's account and clears what an earlier owner with the same number has spent.
    pub(super) fn open_owner(&mut self, owner: u32) {
        if let Some(account) = self.by_owner.get_mut(owner as usize) {
            *account = Owner::default();
        }
    }

    /// Opens the account of a subscriber of an owner.
    pub(super) fn reset(&mut self, subscriber: u32, owner: u32) {
        let count = self.by_subscriber.len().max(if self.is_common { 1 } else { subscriber as usize + 1 });
        self.by_subscriber.resize(count, Account::default());
        if !self.is_common {
            *self.of(subscriber) = Account { owner, ..Account::default() };
        }
        let count = self.by_owner.len().max(owner as usize + 1);
        self.by_owner.resize(count, Owner::default());
    }

    /// Pauses or resumes a subscriber from the next event on. While paused, no predicate is evaluated for it. Passing
    /// over one costs it a few units, and looking up a field for many like it what that takes ([`Accounts::bill`]), so
    /// that filters of paused subscribers cannot hold up the others for free.
    pub(super) fn pause(&mut self, subscriber: u32, paused: bool) {
        let account = self.of(subscriber);
        account.owner = account.owner & !PAUSED | if paused { PAUSED } else { 0 };
    }

    /// Begins this second; ignores earlier ones.
    pub(super) fn begin_second(&mut self, second: u32) {
        // Never 0, the second of an account that was not used yet.
        self.second = self.second.max(second.saturating_add(1));
    }

    /// Begins another event. Numbers wrap around after four billion: number 1 invalidates all remembered ones.
    pub(super) fn begin_event(&mut self, event: u32) {
        self.event = event;
        if event == 1 {
            self.by_subscriber.iter_mut().for_each(|account| account.event = 0);
        }
    }

    /// Returns how many units a subscriber may spend on a predicate for this event, or `None` if it may spend no more.
    #[inline]
    pub(super) fn open(&mut self, subscriber: u32) -> Option<u64> {
        let (event, second, event_units) = (self.event, self.second, self.event_units);
        let account = self.of(subscriber);
        if account.event != event {
            let units = if account.is_paused() { 0 } else { event_units };
            (account.event, account.left) = (event, units);
            account.owner &= !STOPPED;
        }
        let left = account.left;
        if left == 0 {
            self.refuse(subscriber);
            return None;
        }
        let renew = account.second != second || account.portion <= 0;
        // A portion that was renewed leaves the units of the event as they are.
        (!renew || self.renew(subscriber)).then_some(u64::from(left))
    }

    /// Refuses a subscriber that has no units left for this event. Unless it has been reported, it is charged if it is
    /// paused, and otherwise reported: it may have spent its units exactly.
    #[cold]
    fn refuse(&mut self, subscriber: u32) {
        let second = self.second;
        let account = self.of(subscriber);
        if account.owner & STOPPED != 0 {
            return;
        }
        if !account.is_paused() {
            self.stop(subscriber, Overdrawn::Event);
        } else if (account.second == second && account.portion > 0) || self.renew(subscriber) {
            self.of(subscriber).portion -= PASSED_OVER;
            self.beside += u64::from(PASSED_OVER.unsigned_abs());
        }
    }

    /// Charges a subscriber that was refused for this event, if it is paused and has not been reported; returns whether
    /// it is charged. If that exceeds a limit, it is reported when it is refused again.
    pub(super) fn bill(&mut self, subscriber: u32, units: u64) -> bool {
        let account = self.of(subscriber);
        let is_charged = account.is_paused() && account.owner & STOPPED == 0;
        if is_charged {
            let units = u32::try_from(units).unwrap_or(u32::MAX);
            account.portion = account.portion.saturating_sub_unsigned(units);
        }
        is_charged
    }

    /// Takes the next portion; returns false if there is none.
    #[cold]
    fn renew(&mut self, subscriber: u32) -> bool {
        let at = self.at(subscriber);
        let account = &mut self.by_subscriber[at];
        let owner = &mut self.by_owner[account.owner() as usize];
        if account.second != self.second {
            (account.second, account.taken, account.portion) = (self.second, 0, 0);
        }
        if owner.second != self.second {
            (owner.second, owner.left) = (self.second, self.work.owner);
        }
        let mut overdrawn = None;
        while account.portion <= 0 && overdrawn.is_none() {
            if u64::from(account.taken) >= self.portions {
                overdrawn = Some(Overdrawn::Second);
            } else if owner.left == 0 {
                overdrawn = Some(Overdrawn::Owner);
            } else {
                account.taken = account.taken.saturating_add(1);
                if account.owner() != NOBODY {
                    owner.left = owner.left.saturating_sub(u64::from(self.portion.unsigned_abs()));
                }
                account.portion = account.portion.saturating_add(self.portion);
            }
        }
        if let Some(overdrawn) = overdrawn {
            self.stop(subscriber, overdrawn);
        }
        overdrawn.is_none()
    }

    /// Charges a predicate and returns the units charged. `left` is what remains of the units from [`Accounts::open`];
    /// `enough` whether they sufficed.
    #[inline]
    pub(super) fn close(&mut self, subscriber: u32, left: u64, enough: bool) -> u32 {
        let account = self.of(subscriber);
        let left = u32::try_from(left).unwrap_or(u32::MAX).min(account.left);
        let spent = account.left - left;
        account.portion = account.portion.saturating_sub_unsigned(spent);
        account.left = left;
        if !enough {
            self.stop(subscriber, Overdrawn::Event);
        }
        spent
    }

    /// Charges a subscriber for work other than predicates; returns false if it may spend no more.
    pub(super) fn charge(&mut self, subscriber: u32, units: u64) -> bool {
        let Some(left) = self.open(subscriber) else { return false };
        self.close(subscriber, left.saturating_sub(units), left >= units);
        self.beside += units;
        left >= units
    }

    /// Returns the units charged so far for work other than predicates.
    pub(super) fn beside(&self) -> u64 {
        self.beside
    }

    #[cold]
    fn stop(&mut self, subscriber: u32, overdrawn: Overdrawn) {
        let account = self.of(subscriber);
        account.left = 0;
        account.owner |= STOPPED;
        self.overdrawn.push((subscriber, overdrawn));
    }

    /// Removes and returns a subscriber that exceeded a limit.
    pub(super) fn take_overdrawn(&mut self) -> Option<(u32, Overdrawn)> {
        self.overdrawn.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(work: Work, owners: &[u32]) -> Accounts {
        let mut accounts = Accounts::new(work);
        for (subscriber, owner) in (0..).zip(owners) {
            accounts.reset(subscriber, *owner);
        }
        accounts.begin_event(1);
        accounts
    }

    /// Returns how many events at this cost a subscriber can pay for.
    fn affords(accounts: &mut Accounts, subscriber: u32, units: u64) -> usize {
        let first = accounts.event + 1;
        let pays = |event| {
            accounts.begin_event(event);
            let Some(left) = accounts.open(subscriber) else { return false };
            accounts.close(subscriber, left - units, true);
            true
        };
        (first..first + 100_000).map(pays).take_while(|paid| *paid).count()
    }

    #[test]
    fn an_event_has_a_bound() {
        let mut accounts = accounts(Work { event: 100, ..Work::UNLIMITED }, &[0]);
        assert_eq!(accounts.open(0), Some(100));
        accounts.close(0, 40, true);
        assert_eq!(accounts.open(0), Some(40));
        accounts.close(0, 0, false);
        assert_eq!(accounts.open(0), None);
        assert_eq!(accounts.take_overdrawn(), Some((0, Overdrawn::Event)));
        assert_eq!(accounts.take_overdrawn(), None, "once");
        accounts.begin_event(2);
        assert_eq!(accounts.open(0), Some(100));
    }

    #[test]
    fn a_second_has_a_bound_and_the_next_one_begins_anew() {
        let mut accounts = accounts(Work { event: 1_000, second: 16_000, owner: u64::MAX }, &[1]);
        for second in 2..5 {
            accounts.begin_second(second);
            assert_eq!(affords(&mut accounts, 0, 100), 160);
            assert_eq!(accounts.take_overdrawn(), Some((0, Overdrawn::Second)));
        }
    }

    #[test]
    fn who_spends_exactly_all_is_told_when_it_needs_more_and_only_then() {
        let mut accounts = accounts(Work { event: 100, ..Work::UNLIMITED }, &[0]);
        for event in 1..4 {
            accounts.begin_event(event);
            assert!(accounts.charge(0, 60) && accounts.charge(0, 40));
            assert_eq!(accounts.take_overdrawn(), None, "it has all that it asked for");
            if event > 1 {
                assert!(!accounts.charge(0, 1) && !accounts.charge(0, 1) && accounts.open(0).is_none());
                assert_eq!(accounts.take_overdrawn(), Some((0, Overdrawn::Event)));
                assert_eq!(accounts.take_overdrawn(), None, "once");
            }
        }
    }

    /// All runners of a fleet may be one principal; each of them costs little.
    #[test]
    fn many_subscribers_of_one_owner_who_ask_little_are_all_served() {
        let work = Work { event: 10_000_000, second: 200_000_000, owner: 400_000_000 };
        let mut accounts = accounts(work, &vec![1; 10_000]);
        for subscriber in 0..10_000 {
            let left = accounts.open(subscriber).unwrap_or_else(|| panic!("{subscriber} is refused"));
            accounts.close(subscriber, left - 100, true);
        }
        assert_eq!(accounts.take_overdrawn(), None);
    }

    #[test]
    fn a_common_account_bounds_all_together() {
        let mut accounts = Accounts::common(Work { event: 100, ..Work::UNLIMITED });
        (0..3).for_each(|subscriber| accounts.reset(subscriber, NOBODY));
        for event in 1..4 {
            accounts.begin_event(event);
            assert_eq!(accounts.open(0), Some(100));
            accounts.close(0, 40, true);
            assert_eq!((accounts.open(1), accounts.open(2)), (Some(40), Some(40)));
            accounts.close(2, 0, false);
            assert_eq!((accounts.open(0), accounts.open(1)), (None, None));
            assert_eq!(accounts.take_overdrawn(), Some((2, Overdrawn::Event)));
            assert_eq!(accounts.take_overdrawn(), None);
        }
    }

    #[test]
    fn who_is_paused_pays_little_and_its_owner_has_the_rest() {
        let mut accounts = accounts(Work { event: 1_000, second: 16_000, owner: 16_000 }, &[1, 1]);
        accounts.pause(0, true);
        assert_eq!(affords(&mut accounts, 0, 100), 0);
        assert_eq!(accounts.take_overdrawn(), None);
        assert_eq!(affords(&mut accounts, 1, 100), 160, "and its owner has nearly all of its units");
        accounts.pause(0, false);
        accounts.begin_second(9);
        assert_eq!(affords(&mut accounts, 0, 100), 160);
    }

    /// Many filters of connections that lag would otherwise hold up every event for nothing.
    #[test]
    fn passing_over_the_filters_of_who_is_paused_has_a_bound() {
        let mut accounts = accounts(Work { event: 1_000, second: 16_000, owner: u64::MAX }, &[1]);
        accounts.pause(0, true);
        for second in 2..4 {
            accounts.begin_second(second);
            accounts.begin_event(second);
            let is_passed_over = |_: &u32| accounts.open(0).is_none() && accounts.overdrawn.is_empty();
            let passed_over = (0..10_000).take_while(is_passed_over).count();
            assert_eq!(passed_over, 4_000, "of 4 units each");
            assert_eq!(accounts.take_overdrawn(), Some((0, Overdrawn::Second)));
            assert_eq!(accounts.take_overdrawn(), None, "once");
        }
        assert_eq!(accounts.beside(), 2 * 4_000 * 4);
    }

    #[test]
    fn who_is_paused_is_billed_and_reported_when_it_is_refused_again() {
        let mut accounts = accounts(Work { event: 1_000, second: 16_000, owner: u64::MAX }, &[1, 1]);
        accounts.pause(0, true);
        assert_eq!((accounts.open(0), accounts.bill(0, 15_990)), (None, true));
        assert_eq!((accounts.open(0), accounts.take_overdrawn()), (None, None));
        assert_eq!((accounts.open(0), accounts.take_overdrawn()), (None, None));
        assert_eq!((accounts.open(0), accounts.take_overdrawn()), (None, Some((0, Overdrawn::Second))));
        assert!(!accounts.bill(0, 1), "it has been reported");
        assert!(!accounts.bill(1, 1), "it could have paid");
    }

    #[test]
    fn an_owner_does_not_pay_for_another_that_had_its_number() {
        let mut accounts = accounts(Work { event: 1_000, second: 16_000, owner: 8_000 }, &[1]);
        assert_eq!(affords(&mut accounts, 0, 100), 80);
        assert_eq!(accounts.take_overdrawn(), Some((0, Overdrawn::Owner)));
        accounts.open_owner(1);
        accounts.reset(0, 1);
        assert_eq!(affords(&mut accounts, 0, 100), 80);
    }

    #[test]
    fn an_owner_has_a_bound_for_all_its_subscribers() {
        let mut accounts = accounts(Work { event: 1_000, second: 16_000, owner: 24_000 }, &[1, 1, 2]);
        assert_eq!(affords(&mut accounts, 0, 100), 160);
        assert_eq!(accounts.take_overdrawn(), Some((0, Overdrawn::Second)));
        assert_eq!(affords(&mut accounts, 1, 100), 80);
        assert_eq!(accounts.take_overdrawn(), Some((1, Overdrawn::Owner)));
        assert_eq!(affords(&mut accounts, 2, 100), 160, "another owner has nothing to do with it");
    }
}
