//! Models of every hand-over between threads, run by loom through all interleavings (up to three preemptions).
//!
//! | hand-over | what is the product's own source | what is modelled |
//! |---|---|---|
//! | inbox and wake-up | `src/broker/alarm.rs` | the queue, the poll |
//! | control queue | | the queue, the poll |
//! | change of rights | | the flag, the state, the poll |
//! | budget of all outboxes | `src/fanout/outbox/budget.rs` | two shards with three frames |
//! | drain | `src/broker/alarm.rs` | the sequencer's lock, the queues, the poll |
//!
//! Every model has a broken twin, as the protocol would be with one step forgotten or two of them swapped. The program
//! fails if a model finds something, or if a twin passes.

use std::collections::VecDeque;

use loom::sync::atomic::{self, AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// The product's sources, with loom's atomics in place of the standard library's.
#[path = "../../../src/broker/alarm.rs"]
mod alarm;
#[allow(dead_code, reason = "the product uses more of it")]
#[path = "../../../src/fanout/outbox/budget.rs"]
mod budget;

use alarm::Alarm;
use budget::Budget;

/// What mio's poll and waker are: a wake-up is kept until the next poll.
#[derive(Default)]
struct Poll {
    is_woken: Mutex<bool>,
    woken: Condvar,
}

impl Poll {
    fn wake(&self) {
        *self.is_woken.lock().unwrap() = true;
        self.woken.notify_one();
    }

    fn sleep(&self) {
        let mut is_woken = self.is_woken.lock().unwrap();
        while !*is_woken {
            is_woken = self.woken.wait(is_woken).unwrap();
        }
        *is_woken = false;
    }
}

/// A queue that is no hand-over by itself: its order is that of the channel, its lock hides nothing from loom.
#[derive(Default)]
struct Queue<T>(Mutex<VecDeque<T>>);

impl<T> Queue<T> {
    fn push(&self, item: T) {
        self.0.lock().unwrap().push_back(item);
    }

    fn pop(&self) -> Option<T> {
        self.0.lock().unwrap().pop_front()
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

#[derive(Default)]
struct Shard {
    poll: Poll,
    alarm: Alarm,
    /// The number of queued batches.
    waiting: AtomicUsize,
    inbox: Queue<u32>,
    control: Queue<()>,
    /// Rights have changed.
    review: AtomicBool,
    /// The version of the rights in force.
    rights: AtomicUsize,
    /// The sequencer's lock: whether it has stopped.
    stopped: Mutex<bool>,
}

impl Shard {
    /// Queues a batch and rings the bell, as `src/broker/inbox.rs` does.
    fn post(&self, batch: u32) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.inbox.push(batch);
        if self.waiting.load(Ordering::Acquire) > 0 && self.alarm.ring() {
            self.poll.wake();
        }
    }

    fn take(&self) -> Option<u32> {
        let batch = self.inbox.pop()?;
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        Some(batch)
    }
}

/// Two batches; the shard takes both, and sleeps only if there is none. Twin: it looks before it asks to be woken.
fn inbox(broken: bool) {
    let shard = Arc::new(Shard::default());
    let sequencer = Arc::clone(&shard);
    let producer = thread::spawn(move || {
        for batch in 0..2 {
            sequencer.post(batch);
        }
    });
    let mut taken = Vec::new();
    while taken.len() < 2 {
        if broken {
            taken.extend(std::iter::from_fn(|| shard.take()));
            shard.alarm.rearm();
        } else {
            shard.alarm.rearm();
            taken.extend(std::iter::from_fn(|| shard.take()));
        }
        if taken.len() < 2 {
            shard.poll.sleep();
        }
    }
    assert_eq!(taken, [0, 1]);
    producer.join().unwrap();
}

/// Two callers ask for something; the shard answers one request at a time. Twin: the caller wakes it before it asks.
fn control(broken: bool) {
    let shard = Arc::new(Shard::default());
    let callers = [(); 2].map(|()| {
        let port = Arc::clone(&shard);
        thread::spawn(move || {
            if broken {
                port.poll.wake();
                port.control.push(());
            } else {
                port.control.push(());
                port.poll.wake();
            }
        })
    });
    let mut answered = 0;
    while answered < 2 {
        // As the event loop does: what is left keeps it awake.
        if shard.control.is_empty() {
            shard.poll.sleep();
        }
        answered += usize::from(shard.control.pop().is_some());
    }
    callers.map(|caller| caller.join().unwrap());
}

/// Rights change twice; the shard ends with the last ones. Twin: it takes the mark away after it has read the rights.
fn rights(broken: bool) {
    let shard = Arc::new(Shard::default());
    let authority = Arc::clone(&shard);
    let changes = thread::spawn(move || {
        for version in 1..=2 {
            authority.rights.store(version, Ordering::Release);
            authority.review.swap(true, Ordering::AcqRel);
            authority.poll.wake();
        }
    });
    let mut known = 0;
    while known < 2 {
        if broken {
            if shard.review.load(Ordering::Acquire) {
                known = shard.rights.load(Ordering::Acquire);
                shard.review.store(false, Ordering::Release);
            }
        } else if shard.review.swap(false, Ordering::AcqRel) {
            known = shard.rights.load(Ordering::Acquire);
        }
        if known < 2 {
            shard.poll.sleep();
        }
    }
    changes.join().unwrap();
}

/// One of two shards that hold the same large frame and a small one each.
fn keep_budget(budget: &Budget, holders: &AtomicUsize, number: usize, broken: bool) {
    const LARGE: i64 = 100;
    let (mut has_large, mut has_small) = (true, true);
    for _ in 0..2 {
        let rounds = budget.rounds();
        // Twin: as it was before loom found it.
        let may_shed =
            if broken { budget.is_exceeded() && budget.has_been_looked_at(number) } else { budget.may_shed(number) };
        if may_shed {
            budget.shed(number);
            if std::mem::take(&mut has_large) {
                // The last holder frees it.
                if holders.fetch_sub(1, Ordering::AcqRel) == 1 {
                    budget.add(-LARGE);
                }
            } else {
                has_small = false;
            }
        }
        budget.looked(number, rounds);
    }
    assert!(has_small, "a small outbox is shed although the large ones suffice");
}

/// Both shards shed; nobody sheds the small frame because the other has not let go of the large one yet. Twin: a shard
/// looks whether the limit is exceeded before it looks whether the other has shed, not after.
fn shedding(broken: bool) {
    let budget = Arc::new(Budget::new(50, 2));
    budget.add(120);
    let holders = Arc::new(AtomicUsize::new(2));
    let other = {
        let (budget, holders) = (Arc::clone(&budget), Arc::clone(&holders));
        thread::spawn(move || keep_budget(&budget, &holders, 1, broken))
    };
    keep_budget(&budget, &holders, 0, broken);
    other.join().unwrap();
}

/// An event is posted while the server ends: if it was accepted, it is delivered. Twin: the shard looks for events
/// before it hears that it shall end.
fn drain(broken: bool) {
    let shard = Arc::new(Shard::default());
    let [post, server] = [(); 2].map(|()| Arc::clone(&shard));
    let poster = thread::spawn(move || {
        let stopped = post.stopped.lock().unwrap();
        if *stopped {
            return 0;
        }
        post.post(7);
        drop(stopped);
        1
    });
    let server = thread::spawn(move || {
        *server.stopped.lock().unwrap() = true;
        server.control.push(());
        server.poll.wake();
    });
    let (mut delivered, mut is_draining) = (0, false);
    loop {
        shard.alarm.rearm();
        let was_empty = shard.inbox.is_empty();
        is_draining |= shard.control.pop().is_some();
        if !broken {
            delivered += std::iter::from_fn(|| shard.take()).count();
        }
        let is_empty = if broken { was_empty } else { shard.inbox.is_empty() };
        if is_draining && is_empty {
            break;
        }
        if broken {
            delivered += std::iter::from_fn(|| shard.take()).count();
        }
        if !is_draining {
            shard.poll.sleep();
        }
    }
    server.join().unwrap();
    assert_eq!(poster.join().unwrap(), delivered, "an accepted event is delivered");
}

/// Runs a model through all interleavings, and returns how many there were.
fn explore(model: fn(bool), broken: bool) -> usize {
    // Not loom's: it is none of the model's threads that count.
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&runs);
    let mut all = loom::model::Builder::new();
    all.preemption_bound = Some(3);
    all.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        model(broken);
    });
    runs.load(Ordering::Relaxed)
}

fn main() {
    let models: [(&str, fn(bool)); 5] =
        [("inbox", inbox), ("control", control), ("rights", rights), ("budget", shedding), ("drain", drain)];
    // A twin has a process of its own: a panic of loom may end it.
    if let Some(twin) = std::env::args().nth(1) {
        let (_, model) = models.into_iter().find(|(name, _)| *name == twin).expect("the name of a model");
        explore(model, true);
        return;
    }
    let mut passed = Vec::new();
    for (name, model) in models {
        let begun = std::time::Instant::now();
        let runs = explore(model, false);
        let this = std::env::current_exe().expect("the path of this program");
        let twin = std::process::Command::new(this).arg(name).stderr(std::process::Stdio::null()).status();
        let is_found = !twin.expect("the program can be started again").success();
        println!(
            "{name}: holds in {runs} interleavings; its broken twin is {} ({:?})",
            if is_found { "found" } else { "missed" },
            begun.elapsed()
        );
        if !is_found {
            passed.push(name);
        }
    }
    assert!(passed.is_empty(), "broken twins are not found: {}", passed.join(", "));
}
