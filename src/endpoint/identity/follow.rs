//! Learns from the endpoint's event stream what has changed there.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Delegation;
use super::changed::{Changed, Users};
use super::error::IdentityError;
use super::schedule::Schedule;

/// Between two reads, so that events in an endless row do not make an endless row of reads.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// After so many users in a row about whom nothing is heard, it is the endpoint that is silent.
const MOST_SILENT: usize = 3;

/// Users that have been read, but for these.
#[derive(Debug, Default)]
struct Reading {
    left: BTreeSet<String>,
    error: Option<IdentityError>,
    /// How many in a row were not answered for.
    silent: usize,
}

impl Delegation {
    /// Takes note of an event of the endpoint's stream. Neither blocks nor asks anybody.
    ///
    /// Events that somebody posts here are not the endpoint's, and must not be shown to this.
    pub fn saw(&self, kind: &str, action: &str, key: &str) {
        let changed = match (kind, action) {
            ("users", _) => {
                self.users_reported.fetch_add(1, Ordering::AcqRel);
                self.cache.forget_user(key);
                Changed::users([key.to_owned()])
            }
            ("roles" | "tenants", _) => Changed::lists(),
            // A content pack may bring roles, tenants and users, of which nothing else is told.
            ("contents", _) => Changed::contents(),
            ("preferences", _) => Changed::keys(),
            ("hydrant", "gap") => Changed::missed(),
            _ => return,
        };
        self.note(changed);
    }

    /// Has this read again.
    pub(super) fn note(&self, changed: Changed) {
        self.changed.lock().add(changed);
        self.reported.notify_one();
    }

    /// Reads again what has changed, and everything once in a while, until told to stop.
    pub async fn follow(&self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.follow_on() => {}
            // Nobody is left to tell if it fails.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn follow_on(&self) {
        let mut schedule = Schedule::new(self.limits.refresh, Instant::now());
        loop {
            let reported = std::mem::take(&mut *self.changed.lock());
            let changed = schedule.next(reported, Instant::now());
            if changed.missed {
                // Nobody knows what was missed.
                self.cache.doubt();
            }
            if !changed.is_empty() {
                self.read_by(&mut schedule, changed).await;
                tokio::time::sleep(DEBOUNCE).await;
            }
            // Either way it is looked what there is to do.
            let _ = timeout(schedule.wait(Instant::now()), self.reported.notified()).await;
        }
    }

    async fn read_by(&self, schedule: &mut Schedule, changed: Changed) {
        let lists = Changed { users: Users::default(), ..changed };
        let mut reading = Reading::default();
        let read = async {
            if !lists.is_empty() {
                self.read(&lists).await?;
            }
            self.read_users(&changed, &mut reading).await
        };
        if let Err(error) = read.await {
            tracing::warn!(%error, "the endpoint does not tell its users, roles and tenants");
            return schedule.has_failed(changed, Instant::now());
        }
        match &reading.error {
            Some(error) => {
                let left = reading.left.len();
                tracing::warn!(%error, left, "the endpoint does not tell some of its users; they are asked for again");
            }
            None => self.health.read(),
        }
        schedule.has_read(&changed, Changed::users(reading.left), Instant::now());
    }

    /// Users one by one, so that logins in between do not wait for all of them. One about whom the endpoint tells
    /// nothing does not keep the others from being read, the less so the next time, when it comes last.
    async fn read_users(&self, changed: &Changed, reading: &mut Reading) -> Result<(), IdentityError> {
        let accounts = self.authority.accounts();
        let known = accounts.entries().users.keys();
        let names: Vec<&String> = known.filter(|name| changed.users.has(name)).collect();
        let unreadable = self.unreadable.lock().clone();
        let (late, soon): (Vec<&String>, Vec<&String>) =
            names.iter().copied().partition(|name| unreadable.contains(*name));
        for name in soon.into_iter().chain(late) {
            if reading.silent < MOST_SILENT {
                self.read_one(name, reading).await?;
            } else {
                reading.left.insert(name.clone());
            }
        }
        self.unreadable.lock().clone_from(&reading.left);
        Ok(())
    }

    async fn read_one(&self, name: &str, reading: &mut Reading) -> Result<(), IdentityError> {
        match self.read(&Changed::users([name.to_owned()])).await {
            Ok(()) => reading.silent = 0,
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
