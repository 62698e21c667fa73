//! Learns from the endpoint's event stream what has changed there.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant as Moment};

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Delegation;
use super::changed::{Changed, Users};
use super::error::IdentityError;
use super::schedule::{APART, Schedule};
use crate::clock;

/// Minimum interval between two reads, so that a steady stream of events does not cause a steady stream of reads.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Number of consecutive users without an answer after which the endpoint itself counts as silent.
const MOST_SILENT: usize = 3;

/// The result of reading users.
#[derive(Debug, Default)]
struct Reading {
    left: BTreeSet<String>,
    /// What else must be read again soon.
    again: Changed,
    error: Option<IdentityError>,
    /// Number of consecutive users that were not answered.
    silent: usize,
}

/// What events report while users are read.
#[derive(Debug)]
struct Meanwhile {
    waiting: Changed,
    /// When lists were read last, at most.
    lists_at: Moment,
}

impl Meanwhile {
    fn new() -> Self {
        Self { waiting: Changed::default(), lists_at: clock::instant() }
    }

    /// Returns one thing to read of what is `reported`. What was reported together is read before anything else, so
    /// that no name waits for ever; lists are read when they are due.
    fn next(&mut self, reported: &mut Changed) -> Changed {
        if self.waiting.is_empty() {
            self.waiting = reported.take_single();
        }
        let now = clock::instant();
        if now.saturating_duration_since(self.lists_at) >= APART && (reported.roles || reported.tenants) {
            self.lists_at = now;
            self.waiting.add(reported.take_lists());
        }
        self.waiting.take_one()
    }
}

impl Delegation {
    /// Records an event of the endpoint's stream. Neither blocks nor sends requests.
    ///
    /// Events that clients post here are not the endpoint's and must not be passed to this.
    pub fn saw(&self, kind: &str, action: &str, key: &str) {
        if matches!((kind, action), ("users" | "contents", _) | ("hydrant", "gap")) {
            // Before anything is forgotten, so that no login caches an older answer afterwards.
            self.users_reported.fetch_add(1, Ordering::AcqRel);
        }
        let changed = match (kind, action) {
            ("users", _) => {
                self.cache.forget_user(key);
                // The service's own user is read with the lists: it may see more or less of them than before, and of
                // the events about them.
                if self.is_own(key) { Changed::lists() } else { Changed::users([key.to_owned()]) }
            }
            ("roles" | "tenants", _) => Changed::lists(),
            // A content pack may bring roles, tenants and users without further events.
            ("contents", _) => Changed::contents(),
            ("preferences", _) => Changed::keys(),
            ("hydrant", "gap") => Changed::missed(),
            _ => return,
        };
        self.note(changed);
    }

    /// Schedules what has changed to be read again.
    pub(super) fn note(&self, changed: Changed) {
        self.changed.lock().add(changed);
        self.reported.notify_one();
    }

    /// Schedules what a login could not read to be retried.
    pub(super) fn retry_later(&self, left: Changed) {
        if !left.is_empty() {
            self.again.lock().add(left);
            self.reported.notify_one();
        }
    }

    /// Reads what has changed, and everything at intervals, until the stop signal.
    pub async fn follow(&self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.follow_on() => {}
            // A failure means that the sender is gone: stop too.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn follow_on(&self) {
        let mut schedule = Schedule::new(self.limits.refresh, Instant::now());
        loop {
            schedule.retry_later(std::mem::take(&mut *self.again.lock()), Instant::now());
            let reported = std::mem::take(&mut *self.changed.lock());
            let changed = schedule.next(reported, Instant::now());
            if changed.missed {
                // It is unknown what was missed.
                self.cache.doubt();
            }
            if !changed.is_empty() {
                self.read_by(&mut schedule, changed).await;
                tokio::time::sleep(DEBOUNCE).await;
            }
            // Whether notified or timed out, the schedule decides what to do next.
            let _ = timeout(schedule.wait(Instant::now()), self.reported.notified()).await;
        }
    }

    pub(super) async fn read_by(&self, schedule: &mut Schedule, mut changed: Changed) {
        let lists = Changed { users: Users::default(), ..changed };
        let mut reading = Reading::default();
        let read = async {
            if !lists.is_empty() {
                reading.again = self.read(&lists).await?;
            }
            self.read_users(&changed, &mut reading).await
        };
        if let Err(error) = read.await {
            tracing::warn!(%error, "cannot read the endpoint's users, roles and tenants");
            changed.add(reading.again);
            return schedule.has_failed(changed, Instant::now());
        }
        match &reading.error {
            Some(error) => self.lines.unread_users(error, reading.left.len()),
            None => self.health.read(),
        }
        reading.again.add(Changed::users(reading.left));
        schedule.has_read(&changed, reading.again, Instant::now());
    }

    /// Reads users one by one, so that logins do not wait for all of them. A user whose account cannot be read does not
    /// keep the others from being read, and is read last the next time. Before each, one thing is read of what events
    /// have reported since: who is removed or loses a right must not keep it until all users are read, and no event
    /// makes that take more than twice as long.
    async fn read_users(&self, changed: &Changed, reading: &mut Reading) -> Result<(), IdentityError> {
        let accounts = self.authority.accounts();
        // The service's own user is read with the lists.
        let is_read = |name: &String| changed.roles && changed.tenants && self.is_own(name);
        let known = accounts.entries().users.keys();
        let names: Vec<&String> = known.filter(|name| changed.users.has(name) && !is_read(name)).collect();
        let unreadable = self.unreadable.lock().clone();
        let (late, soon): (Vec<&String>, Vec<&String>) =
            names.iter().copied().partition(|name| unreadable.contains(*name));
        let mut meanwhile = Meanwhile::new();
        let read = async {
            for name in soon.into_iter().chain(late) {
                if reading.silent < MOST_SILENT {
                    self.read_reported(&mut meanwhile, reading).await?;
                    self.read_one(name, reading).await?;
                } else {
                    reading.left.insert(name.clone());
                }
            }
            Ok::<(), IdentityError>(())
        };
        let result = read.await;
        if !meanwhile.waiting.is_empty() {
            self.note(meanwhile.waiting);
        }
        if result.is_ok() {
            self.unreadable.lock().clone_from(&reading.left);
        }
        result
    }

    /// Reads one thing of what events have reported, if there is any.
    async fn read_reported(&self, meanwhile: &mut Meanwhile, reading: &mut Reading) -> Result<(), IdentityError> {
        let is_known = |name: &String| self.authority.accounts().entries().users.contains_key(name);
        let next = loop {
            let next = meanwhile.next(&mut self.changed.lock());
            if next.users.named().all(is_known) {
                break next;
            }
        };
        let result = match next.users.named().next() {
            Some(name) => self.read_one(name, reading).await,
            None if next.is_empty() => Ok(()),
            None => self.read(&next).await.map(|again| reading.again.add(again)),
        };
        if result.is_err() {
            meanwhile.waiting.add(next);
        }
        result
    }

    async fn read_one(&self, name: &str, reading: &mut Reading) -> Result<(), IdentityError> {
        match self.read(&Changed::users([name.to_owned()])).await {
            Ok(again) => {
                reading.silent = 0;
                reading.again.add(again);
            }
            Err(error) if error.is_everybodys() && !error.is_silence() => return Err(error),
            Err(error) => {
                reading.silent = if error.is_silence() { reading.silent + 1 } else { 0 };
                reading.left.insert(name.to_owned());
                reading.error.get_or_insert(error);
            }
        }
        Ok(())
    }
}
