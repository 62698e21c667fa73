//! Decides which client must receive which event of the simulated fleet, and checks whether it did.
//!
//! The interests of a client are evaluated here a second time, directly on the objects and without the broker's index
//! or filters, so that errors in these are noticed. Contract: no input causes a panic. The hashes of the last [`PAST`]
//! fully delivered events are stored, so that a duplicate, or a delivery to a client that is not interested, is not
//! mistaken for a foreign event.

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash as _, Hasher as _};
use std::time::Instant;

use hydrant::demo::DemoEvent;
use hydrant::event::Draft;
use hydrant::json;

use crate::check::Counts;
use crate::latency::Latencies;

/// Number of fully delivered events that are still recognized.
const PAST: usize = 65_536;

/// The interest of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Interest {
    /// One machine and its jobs.
    Machine(String),
    /// Every event.
    All,
    /// Machines that enter another stage.
    StageChanged,
    /// Jobs that fail.
    JobFailed,
    /// Updates of machines that are stopped.
    Stopped,
}

impl Interest {
    /// Returns the registrations.
    pub(super) fn specs(&self) -> Vec<String> {
        match self {
            Self::Machine(key) => vec![format!("machines.*.{key}"), format!("machine_jobs.*.{key}")],
            Self::All => vec!["*.*.*".to_owned()],
            Self::StageChanged => vec!["machines.update.*.Stage=Changed()".to_owned()],
            Self::JobFailed => vec!["jobs.update.*.State=Eq(failed)".to_owned()],
            Self::Stopped => vec!["machines.update.*.Not(Runnable=Eq(true))".to_owned()],
        }
    }

    fn wants(&self, event: &DemoEvent) -> bool {
        let is = |kind, action| event.kind == kind && event.action == action;
        match self {
            Self::Machine(key) => machine_of(event).as_deref() == Some(key),
            Self::All => true,
            Self::StageChanged => {
                is("machines", "update") && field(&event.object, "Stage") != field(&event.original, "Stage")
            }
            Self::JobFailed => is("jobs", "update") && field(&event.object, "State") == Some("\"failed\""),
            Self::Stopped => is("machines", "update") && field(&event.object, "Runnable") == Some("false"),
        }
    }
}

fn field<'o>(object: &'o str, name: &str) -> Option<&'o str> {
    json::members(object).find(|member| member.name() == name).map(|member| member.value)
}

/// Returns the machine of an event, for clients that watch one machine.
fn machine_of(event: &DemoEvent) -> Option<String> {
    match event.kind {
        "machines" => Some(event.key.clone()),
        "jobs" => Some(json::as_string(field(&event.object, "Machine")?)?.into_owned()),
        _ => None,
    }
}

/// An event, and everything about it that can be found out before it is published.
#[derive(Debug)]
pub(super) struct Prepared {
    event: DemoEvent,
    hash: u64,
    /// The clients that must receive it.
    receivers: Vec<usize>,
}

/// An event that is being delivered.
#[derive(Debug)]
struct Sent {
    event: DemoEvent,
    hash: u64,
    due: Instant,
    outstanding: usize,
    /// The first verified copy.
    copy: Option<Box<[u8]>>,
}

#[derive(Debug, Default)]
struct Client {
    due: VecDeque<u64>,
    /// Skipped events; lost unless they still arrive.
    late: Vec<u64>,
    /// Whether it has lost its connection.
    gone: bool,
}

/// Decides independently of hydrant which client must receive which event, and checks deliveries.
#[derive(Debug)]
pub(super) struct Expectations {
    runners: HashMap<String, usize>,
    others: Vec<(usize, Interest)>,
    clients: Vec<Client>,
    sent: VecDeque<Sent>,
    /// Number of the first event in `sent`.
    base: u64,
    past: Past,
    /// Deliveries that have not arrived.
    pub(super) outstanding: u64,
    pub(super) counts: Counts,
    pub(super) latencies: Latencies,
    pub(super) first_error: Option<String>,
}

impl Expectations {
    pub(super) fn new(interests: &[Interest], latencies: Latencies) -> Self {
        let (mut runners, mut others) = (HashMap::new(), Vec::new());
        for (client, interest) in interests.iter().enumerate() {
            match interest {
                Interest::Machine(key) => drop(runners.insert(key.clone(), client)),
                other => others.push((client, other.clone())),
            }
        }
        Self {
            runners,
            others,
            clients: interests.iter().map(|_| Client::default()).collect(),
            sent: VecDeque::new(),
            base: 0,
            past: Past::default(),
            outstanding: 0,
            counts: Counts::default(),
            latencies,
            first_error: None,
        }
    }

    /// Finds out who must receive an event.
    pub(super) fn prepare(&self, event: DemoEvent) -> Prepared {
        let runner = machine_of(&event).and_then(|key| self.runners.get(&key).copied());
        let others = self.others.iter().filter(|(_, interest)| interest.wants(&event)).map(|(client, _)| *client);
        Prepared { hash: hash(&event.draft()), receivers: others.chain(runner).collect(), event }
    }

    /// Records that an event is about to be published, and was due at `due`. Returns the clients that must receive it.
    pub(super) fn publish(&mut self, prepared: Prepared, due: Instant) -> Vec<usize> {
        let number = self.base + self.sent.len() as u64;
        let Prepared { event, hash, mut receivers } = prepared;
        receivers.retain(|&client| !self.clients[client].gone);
        for &client in &receivers {
            self.clients[client].due.push_back(number);
        }
        self.outstanding += receivers.len() as u64;
        self.sent.push_back(Sent { event, hash, due, outstanding: receivers.len(), copy: None });
        self.forget();
        receivers
    }

    fn sent(&mut self, number: u64) -> Option<&mut Sent> {
        let at = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.sent.get_mut(at)
    }

    /// Records that client `client` received a text message at `now`.
    pub(super) fn arrived(&mut self, client: usize, text: &[u8], now: Instant) {
        let next = self.clients[client].due.front().copied();
        let is_next = next.and_then(|number| self.sent(number)).is_some_and(|sent| sent.copy.as_deref() == Some(text));
        if let (true, Some(number)) = (is_next, next) {
            self.clients[client].due.pop_front();
            self.settle(number, now);
        } else {
            self.examine(client, text, now);
        }
    }

    fn settle(&mut self, number: u64, now: Instant) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.counts.received += 1;
        let Some(sent) = self.sent(number) else { return };
        sent.outstanding = sent.outstanding.saturating_sub(1);
        let latency = now.saturating_duration_since(sent.due);
        self.latencies.record(latency);
        self.forget();
    }

    fn forget(&mut self) {
        while self.sent.front().is_some_and(|sent| sent.outstanding == 0) {
            if let Some(sent) = self.sent.pop_front() {
                self.past.add(sent.hash);
            }
            self.base += 1;
        }
    }

    /// Examines the first copy of an event, a message that is wrong, or one from elsewhere.
    fn examine(&mut self, client: usize, text: &[u8], now: Instant) {
        let Some(draft) = std::str::from_utf8(text).ok().and_then(|text| Draft::read(text).ok()) else {
            self.counts.corrupt += 1;
            return;
        };
        let state = &self.clients[client];
        let is = |number: &u64| self.is(*number, &draft);
        if let Some(at) = state.due.iter().position(is) {
            self.skip(client, at);
            self.take_first(client, text, now);
        } else if let Some(at) = state.late.iter().position(is) {
            let number = self.clients[client].late.swap_remove(at);
            self.counts.reordered += 1;
            self.settle(number, now);
        } else if self.past.has(hash(&draft)) || self.sent.iter().any(|sent| same(&sent.event, &draft)) {
            self.counts.duplicates += 1;
        } else if state.due.iter().any(|&number| self.is_of(number, &draft)) {
            self.counts.corrupt += 1;
        } else {
            self.counts.foreign += 1;
        }
    }

    fn is(&self, number: u64, draft: &Draft<'_>) -> bool {
        let at = number.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.sent.get(at)).is_some_and(|sent| same(&sent.event, draft))
    }

    /// Returns whether the message has type, action and key of that event, which it should have been.
    fn is_of(&self, number: u64, draft: &Draft<'_>) -> bool {
        let at = number.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        let event = at.and_then(|at| self.sent.get(at)).map(|sent| &sent.event);
        event.is_some_and(|event| draft.key == event.key && draft.kind == event.kind && draft.action == event.action)
    }

    fn skip(&mut self, client: usize, count: usize) {
        let state = &mut self.clients[client];
        state.late.extend(state.due.drain(..count));
    }

    fn take_first(&mut self, client: usize, text: &[u8], now: Instant) {
        let Some(number) = self.clients[client].due.pop_front() else { return };
        if let Some(sent) = self.sent(number) {
            sent.copy.get_or_insert_with(|| text.into());
        }
        self.settle(number, now);
    }

    /// Records that client `client` has lost its connection.
    pub(super) fn lost(&mut self, client: usize, reason: &str) {
        self.counts.closed += 1;
        self.first_error.get_or_insert_with(|| reason.to_owned());
        let state = std::mem::replace(&mut self.clients[client], Client { gone: true, ..Client::default() });
        for number in state.due.into_iter().chain(state.late) {
            self.counts.lost += 1;
            self.outstanding = self.outstanding.saturating_sub(1);
            if let Some(sent) = self.sent(number) {
                sent.outstanding = sent.outstanding.saturating_sub(1);
            }
        }
        self.forget();
    }

    /// Expects nothing of a client that an earlier run has lost.
    pub(super) fn leave_out(&mut self, client: usize) {
        self.clients[client].gone = true;
    }

    /// Ends the run: what is missing is lost.
    pub(super) fn give_up(&mut self) {
        self.counts.lost += self.outstanding;
        self.outstanding = 0;
    }
}

/// Hashes of events that no client waits for any longer.
#[derive(Debug, Default)]
struct Past {
    order: VecDeque<u64>,
    /// The number of times that each hash is in `order`.
    all: HashMap<u64, u32>,
}

impl Past {
    fn add(&mut self, hash: u64) {
        *self.all.entry(hash).or_default() += 1;
        self.order.push_back(hash);
        if self.order.len() > PAST
            && let Some(oldest) = self.order.pop_front()
            && let Entry::Occupied(mut count) = self.all.entry(oldest)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    fn has(&self, hash: u64) -> bool {
        self.all.contains_key(&hash)
    }
}

fn hash(draft: &Draft<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&draft.kind, &draft.action, &draft.key, draft.object, draft.original).hash(&mut hasher);
    hasher.finish()
}

fn same(event: &DemoEvent, draft: &Draft<'_>) -> bool {
    draft.key == event.key
        && draft.kind == event.kind
        && draft.action == event.action
        && draft.object == event.object
        && draft.original == event.original
}

#[cfg(test)]
mod tests {
    use super::*;
    use hydrant::demo::Fleet;

    fn interests() -> Vec<Interest> {
        let mut fleet = Fleet::new(1, 3);
        while !fleet.is_set_up() {
            fleet.step();
        }
        let mut interests: Vec<Interest> = fleet.machine_keys().map(Interest::Machine).collect();
        interests.extend([Interest::All, Interest::StageChanged, Interest::JobFailed, Interest::Stopped]);
        interests
    }

    fn publish(expectations: &mut Expectations, event: DemoEvent) {
        let prepared = expectations.prepare(event);
        expectations.publish(prepared, Instant::now());
    }

    /// Two events with everything that is needed to deliver them.
    fn two() -> (Expectations, Vec<Vec<u8>>) {
        let mut expectations = Expectations::new(&[Interest::All], Latencies::new().unwrap());
        let mut fleet = Fleet::new(1, 3);
        let mut texts = Vec::new();
        for _ in 0..2 {
            let event = fleet.step();
            texts.push(event.draft().seal(hydrant::clock::now()).json().as_bytes().to_vec());
            publish(&mut expectations, event);
        }
        (expectations, texts)
    }

    #[test]
    fn everybody_is_expected_to_get_some_and_the_portal_all() {
        let mut expectations = Expectations::new(&interests(), Latencies::new().unwrap());
        let mut fleet = Fleet::new(1, 3);
        for _ in 0..3_000 {
            publish(&mut expectations, fleet.step());
        }
        let due: Vec<usize> = expectations.clients.iter().map(|client| client.due.len()).collect();
        assert_eq!(due[3], 3_000);
        assert!(due.iter().all(|&count| count > 0), "{due:?}");
        assert!(due[5] < 100 && due[6] < 100 && due[4] < 1_000, "{due:?}");
    }

    #[test]
    fn what_comes_in_order_is_clean_and_forgotten() {
        let (mut expectations, texts) = two();
        for text in &texts {
            expectations.arrived(0, text, Instant::now());
        }
        assert_eq!(expectations.counts, Counts { received: 2, ..Counts::default() });
        assert_eq!((expectations.outstanding, expectations.sent.len()), (0, 0));
        expectations.arrived(0, br#"{"Type":"connections","Action":"create"}"#, Instant::now());
        assert_eq!(expectations.counts.foreign, 1);
    }

    #[test]
    fn the_past_is_known_again_and_bounded() {
        let (mut expectations, texts) = two();
        for text in [&texts[0], &texts[1], &texts[0]] {
            expectations.arrived(0, text, Instant::now());
        }
        assert_eq!(expectations.counts, Counts { received: 2, duplicates: 1, ..Counts::default() });
        let mut past = Past::default();
        for hash in 0..=PAST as u64 {
            past.add(hash);
        }
        assert!(!past.has(0) && past.has(1) && past.all.len() == PAST && past.order.len() == PAST);
    }

    #[test]
    fn a_wrong_order_a_repetition_and_a_loss_are_counted() {
        let (mut expectations, texts) = two();
        expectations.arrived(0, &texts[1], Instant::now());
        expectations.arrived(0, &texts[1], Instant::now());
        assert_eq!((expectations.counts.duplicates, expectations.outstanding), (1, 1));
        expectations.arrived(0, &texts[0], Instant::now());
        assert_eq!((expectations.counts.reordered, expectations.counts.received), (1, 2));
        let (mut expectations, texts) = two();
        expectations.arrived(0, &texts[1], Instant::now());
        expectations.give_up();
        assert_eq!(expectations.counts, Counts { received: 1, lost: 1, ..Counts::default() });
    }

    #[test]
    fn a_lost_connection_loses_what_was_under_way_and_no_more() {
        let (mut expectations, _) = two();
        let before = expectations.prepare(Fleet::new(2, 1).step());
        expectations.lost(0, "gone");
        assert!(expectations.publish(before, Instant::now()).is_empty(), "also if it was prepared before");
        publish(&mut expectations, Fleet::new(2, 1).step());
        assert_eq!(expectations.counts, Counts { lost: 2, closed: 1, ..Counts::default() });
        assert_eq!((expectations.outstanding, expectations.sent.len()), (0, 0));
    }
}
