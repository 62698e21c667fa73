//! A run of two to four nodes and a NATS server: what happens in its steps, and how time passes.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Runtime;

use super::bus::Bus;
use super::judge;
use super::node::{Entry, Link, Name, Node, Texts};
use crate::broker::inbox::InboxLimits;
use crate::clock::{self, simulated};
use crate::cluster::peers::NodeId;
use crate::metrics::Source;
use crate::simulation::random::Random;

/// The number of last steps that are kept.
const TRACE: usize = 60;

/// Maximum length of a message for the server, and the length of an object whose event exceeds it, in bytes.
const MAX_PAYLOAD: usize = 4096;
const TOO_LONG: usize = 5000;

/// Maximum number of seconds that a node holds its queue for other nodes after it has connected.
const HOLD: i64 = 10;

/// Seconds after which a silent node is reported as lost.
const SILENCE: i64 = 10;

/// The number of notices that a node reports at once and one by one.
const NOTICES: usize = 30;

/// The time between two checks of a node.
const LOOK: Duration = Duration::from_millis(200);

/// The settings of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) nodes: usize,
    pub(super) inbox: InboxLimits,
    /// The number of batches that may wait to be sent, and of messages that may wait to be sequenced.
    pub(super) exports: usize,
    pub(super) pending: usize,
    /// Whether clients want only some types, so that the other events may wait.
    pub(super) is_picky: bool,
    /// Whether nothing fails.
    pub(super) is_fair: bool,
}

impl Settings {
    fn random(random: &mut Random) -> Self {
        let is_fair = random.percent(20);
        let often = |random: &mut Random, small: [usize; 2], large: usize| {
            if is_fair || random.percent(60) { large } else { random.between(small[0], small[1]) }
        };
        Self {
            nodes: random.between(2, 4),
            inbox: InboxLimits { events: often(random, [20, 100], 10_000), bytes: 64 << 20 },
            exports: often(random, [3, 20], 10_000),
            pending: often(random, [20, 200], 10_000),
            is_picky: random.percent(30),
            is_fair,
        }
    }
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) settings: Settings,
    pub(super) nodes: Vec<Node>,
    pub(super) bus: Bus,
    pub(super) texts: Texts,
    /// The events of all nodes, including those that are gone.
    pub(super) own: BTreeMap<NodeId, Vec<Name>>,
    /// Events that have a cause to be missing: the receiver, the sender, and the number.
    pub(super) lost: HashSet<(NodeId, NodeId, u64)>,
    /// Events that never left their node: the node and the number.
    pub(super) unsent: HashSet<(NodeId, u64)>,
    /// The events that the endpoint has sent. It repeats only events from `floor` on, because a new link cannot know
    /// what the endpoint sent before.
    pub(super) sent: Vec<u64>,
    floor: usize,
    /// Posted events that are not sent because they are too long.
    pub(super) long: HashSet<u64>,
    posted: u64,
    joined: u64,
    is_up: bool,
    runtime: Runtime,
    pub(super) trace: VecDeque<String>,
    pub(super) digest: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        simulated::begin();
        simulated::set_step(Duration::from_nanos(500));
        let mut random = Random::new(seed ^ 0x0dde_5eed);
        let settings = Settings::random(&mut random);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let mut world = Self {
            random,
            settings,
            nodes: Vec::new(),
            bus: Bus::default(),
            texts: Texts::default(),
            own: BTreeMap::new(),
            lost: HashSet::new(),
            unsent: HashSet::new(),
            sent: Vec::new(),
            floor: 0,
            long: HashSet::new(),
            posted: 0,
            joined: 0,
            is_up: true,
            runtime,
            trace: VecDeque::new(),
            digest: 0,
        };
        world.note(format!("{settings:?}"));
        (0..settings.nodes).for_each(|at| world.join(at < 2));
        // They get to know each other.
        world.pass(3_000);
        world
    }

    pub(super) fn note(&mut self, step: String) {
        for byte in step.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.trace.len() == TRACE {
            self.trace.remove(1);
        }
        self.trace.push_back(step);
    }

    pub(super) fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
            let passes = self.random.below(3_000) as u64;
            simulated::pass(Duration::from_micros(passes));
        }
        self.rest();
        judge::judge(self);
    }

    fn step(&mut self) {
        let fair_steps = 88;
        let chance = if self.settings.is_fair { self.random.below(fair_steps) } else { self.random.below(100) };
        match chance {
            0..16 => self.post(),
            16..24 => self.send(),
            24..32 => self.follow(),
            32..48 => self.write(),
            48..60 => self.serve(),
            60..72 => self.deliver(),
            72..80 => self.tend_one(),
            80..84 => self.drain_one(),
            84..88 => {
                let most = self.random.pick(&[100, 500, 3_000]);
                let millis = self.random.between(1, most) as u64;
                self.pass(millis);
            }
            88..92 => self.cut_one(),
            92..94 => self.stall(),
            94..95 => self.fail(),
            95..97 => self.recover(),
            97..98 => self.kill(),
            98..99 => self.end(),
            _ => self.rejoin(),
        }
    }

    fn any(&mut self) -> Option<usize> {
        (!self.nodes.is_empty()).then(|| self.random.below(self.nodes.len()))
    }

    fn post(&mut self) {
        let Some(at) = self.any() else { return };
        let is_large = self.random.percent(10);
        let count = if is_large { self.random.between(20, 60) } else { self.random.between(1, 4) } as u64;
        let names = self.posted..self.posted + count;
        self.posted += count;
        let mut events = Vec::new();
        for number in names {
            let is_long = !self.settings.is_fair && self.random.percent(1);
            let padding = if is_long { TOO_LONG } else { self.random.below(60) };
            if is_long {
                self.long.insert(number);
            }
            events.push(Name::Posted(number).event(padding));
        }
        let node = &self.nodes[at];
        let (before, first) = (node.broker.metrics().nats.lost()[0], node.log.lock().own.len() as u64);
        let is_accepted = node.broker.publish(events, Source::Post).is_ok();
        self.left_out(at, first, before);
        self.note(format!("{count} posted at {}: {is_accepted}", self.nodes[at].id));
    }

    /// Records the events that had no room in the queue to other nodes: a whole batch, or none.
    fn left_out(&mut self, at: usize, first: u64, before: u64) {
        let node = &self.nodes[at];
        let (after, end) = (node.broker.metrics().nats.lost()[0], node.log.lock().own.len() as u64);
        if after > before {
            assert_eq!(after - before, end - first, "a batch is left out as a whole");
            self.unsent.extend((first..end).map(|number| (node.id, number)));
        }
    }

    /// Makes the endpoint send an event, sometimes one that it has sent before.
    fn send(&mut self) {
        let known = self.sent.len() - self.floor;
        let again = (known > 0 && self.random.percent(30)).then(|| self.sent[self.floor + self.random.below(known)]);
        self.sent.push(again.unwrap_or(self.sent.len() as u64));
    }

    fn follow(&mut self) {
        let Some(at) = self.any() else { return };
        let most = self.random.between(1, 4);
        self.follow_at(at, most);
    }

    fn follow_at(&mut self, at: usize, most: usize) {
        let node = &mut self.nodes[at];
        let (before, first) = (node.broker.metrics().nats.lost()[0], node.log.lock().own.len() as u64);
        node.follow(&self.sent, most);
        self.left_out(at, first, before);
    }

    fn write(&mut self) {
        let Some(at) = self.any() else { return };
        self.write_at(at);
    }

    /// Makes a node write what is due. If the node finds its server silent, the connection is cut.
    fn write_at(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !node.is_connected {
            return;
        }
        match node.member.write() {
            Some(bytes) => self.bus.write(node.id, bytes),
            None => self.cut(at),
        }
    }

    fn serve(&mut self) {
        let Some(at) = self.any() else { return };
        let most = self.random.between(1, 10);
        self.serve_at(at, most);
    }

    fn serve_at(&mut self, at: usize, most: usize) {
        let (id, now) = (self.nodes[at].id, clock::now());
        for forwarded in self.bus.serve(id, most).into_iter().filter(|forwarded| forwarded.is_event) {
            for node in self.nodes.iter().filter(|node| node.id != id && !forwarded.to.contains(&node.id)) {
                self.lost.insert((node.id, forwarded.from, forwarded.number));
                let from = &self.nodes[at];
                let is_held = from.knew.contains(&node.id)
                    && node.disconnected <= from.connected
                    && now.duration_since(from.connected).as_secs() < HOLD;
                assert!(
                    !is_held || from.is_stopping,
                    "{} sends event {} although {} has not come back",
                    from.id,
                    forwarded.number,
                    node.id
                );
            }
        }
    }

    fn deliver(&mut self) {
        let Some(at) = self.any() else { return };
        let most = self.random.between(1, 20);
        self.deliver_at(at, most);
    }

    fn deliver_at(&mut self, at: usize, most: usize) {
        let node = &mut self.nodes[at];
        for _ in 0..most {
            let Some(op) = self.bus.deliver(node.id) else { break };
            node.hear(op, self.settings.pending);
        }
    }

    fn tend_one(&mut self) {
        let Some(at) = self.any() else { return };
        self.tend(at);
    }

    /// Makes a node sequence what it has received and check its links, while its shard drains the inbox.
    fn tend(&mut self, at: usize) {
        let Node { member, inbox, .. } = &mut self.nodes[at];
        self.runtime.block_on(async {
            let work = async {
                member.receive().await;
                member.look().await;
            };
            let shard = async {
                loop {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    while inbox.next().is_some() {}
                }
            };
            tokio::select! {
                biased;
                () = work => {}
                () = shard => {}
            }
        });
        self.nodes[at].received();
        self.nodes[at].has_noticed |= self.nodes[at].is_connected;
        self.hear_notices(at);
    }

    /// Checks new notices at once, because the result depends on the time.
    fn hear_notices(&mut self, at: usize) {
        let now = clock::now();
        let node = &mut self.nodes[at];
        let new: Vec<Entry> = node.log.lock().entries[node.looked..].to_vec();
        node.looked += new.len();
        for entry in new {
            let Entry::Notice { reason, node: about, .. } = &entry else { continue };
            assert!(!self.settings.is_fair, "nothing has failed: {entry:?}");
            self.digest ^= reason.len() as u64;
            node.notices += 1;
            // Many notices are told late, or several as one.
            let is_exact = node.notices <= NOTICES && !node.may_drop;
            match about {
                Some(about) if reason == "node lost" => {
                    let silence = node.tracks.get(about).map(|track| now.duration_since(track.heard).as_secs());
                    let is_silent = silence.is_some_and(|silence| silence >= SILENCE);
                    assert!(is_silent || !is_exact, "{about} is said to be lost: heard {silence:?} s ago");
                    node.finish(*about);
                }
                // Several notices in one: those who are silent may be among them.
                None if reason != "disconnected" => {
                    let is_silent = |heard: Timestamp| now.duration_since(heard).as_secs() >= SILENCE;
                    let silent = node.tracks.iter().filter(|(_, track)| is_silent(track.heard));
                    let silent: Vec<NodeId> = silent.map(|(id, _)| *id).collect();
                    silent.into_iter().for_each(|id| node.finish(id));
                }
                _ => {}
            }
        }
    }

    fn drain_one(&mut self) {
        let Some(at) = self.any() else { return };
        self.nodes[at].drain();
    }

    fn cut_one(&mut self) {
        let Some(at) = self.any() else { return };
        self.note(format!("the connection of {} breaks", self.nodes[at].id));
        self.cut(at);
    }

    /// Breaks a connection. Messages in transit to the node are lost.
    fn cut(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !node.is_connected {
            return;
        }
        (node.is_connected, node.disconnected) = (false, clock::now());
        node.breaks += u64::from(node.has_noticed);
        for message in self.bus.cut(node.id) {
            let (from, number, _) = crate::cluster::simulated::read(&message);
            self.lost.insert((node.id, from, number));
        }
        node.member.disconnect();
    }

    fn connect(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.is_connected || !self.is_up {
            return;
        }
        node.knew = node.member.known();
        self.bus.connect(node.id);
        node.member.connect(MAX_PAYLOAD);
        (node.is_connected, node.connected) = (true, clock::now());
        node.connections += 1;
        node.has_noticed = false;
    }

    fn stall(&mut self) {
        let Some(at) = self.any() else { return };
        self.note(format!("the connection of {} stalls", self.nodes[at].id));
        self.bus.stall(self.nodes[at].id);
    }

    /// Kills the server.
    fn fail(&mut self) {
        self.note("the NATS server dies".to_owned());
        self.is_up = false;
        (0..self.nodes.len()).for_each(|at| self.cut(at));
    }

    fn recover(&mut self) {
        self.is_up = true;
        self.bus.unstall();
    }

    /// Kills a node.
    fn kill(&mut self) {
        if self.nodes.len() < 2 {
            return;
        }
        let at = self.random.below(self.nodes.len());
        self.note(format!("{} dies", self.nodes[at].id));
        self.gone(at);
    }

    fn gone(&mut self, at: usize) {
        let node = self.nodes.remove(at);
        self.bus.cut(node.id);
        let own = std::mem::take(&mut node.log.lock().own);
        // What the server has not had is lost with it.
        let never = (0..own.len() as u64).filter(|number| !self.bus.seen.contains(&(node.id, *number)));
        self.unsent.extend(never.map(|number| (node.id, number)));
        self.own.insert(node.id, own);
    }

    /// Shuts a node down gracefully: it sends everything that it has accepted, if there is a server.
    fn end(&mut self) {
        if self.nodes.len() < 2 {
            return;
        }
        let at = self.random.below(self.nodes.len());
        self.note(format!("{} ends", self.nodes[at].id));
        let node = &mut self.nodes[at];
        node.broker.stop();
        node.member.stop();
        node.is_stopping = true;
        for _ in 0..100 {
            self.write_at(at);
            self.serve_at(at, usize::MAX);
            self.deliver_at(at, usize::MAX);
        }
        let node = &mut self.nodes[at];
        if node.is_connected && node.member.unsent() == 0 {
            let bytes = node.member.goodbye();
            self.bus.write(node.id, bytes);
            self.serve_at(at, usize::MAX);
        }
        self.gone(at);
    }

    /// Adds a node without state, if one is missing.
    fn rejoin(&mut self) {
        if self.nodes.len() < self.settings.nodes {
            let follows = self.random.percent(50);
            self.join(follows);
        }
    }

    fn join(&mut self, follows: bool) {
        self.joined += 1;
        let (next, first) = (self.sent.len(), self.sent.len());
        let waits = (self.joined > self.settings.nodes as u64).then(clock::now);
        if follows {
            self.floor = self.sent.len();
        }
        let link = follows.then_some(Link { next, first, waits });
        self.nodes.push(Node::new(self.joined, &self.settings, link, &self.texts));
        self.connect(self.nodes.len() - 1);
        self.note(format!("{} joins", self.joined));
    }

    /// Lets time pass. All nodes do what is due.
    pub(super) fn pass(&mut self, millis: u64) {
        self.pass_in(millis, LOOK);
    }

    fn pass_in(&mut self, millis: u64, slice: Duration) {
        let mut left = Duration::from_millis(millis);
        while !left.is_zero() {
            let slice = left.min(slice);
            left -= slice;
            simulated::pass(slice);
            self.slice();
        }
        self.note(format!("{millis} ms pass"));
    }

    fn slice(&mut self) {
        for at in 0..self.nodes.len() {
            if !self.nodes[at].is_connected && self.random.percent(30) {
                self.connect(at);
            }
            if self.random.percent(2) {
                self.bus.ping(self.nodes[at].id);
            }
            self.write_at(at);
            self.serve_at(at, usize::MAX);
        }
        for at in 0..self.nodes.len() {
            self.deliver_at(at, usize::MAX);
            self.tend(at);
            self.nodes[at].drain();
        }
    }

    /// Ends all failures and lets the run come to rest. Queues are held for up to 10 s; when their events come, inboxes
    /// may be full, and no node is reported as lost within 10 s after that.
    fn rest(&mut self) {
        self.recover();
        (0..self.nodes.len()).for_each(|at| self.connect(at));
        for millis in [4_000, 4_000, 4_000, 12_000] {
            (0..self.nodes.len()).for_each(|at| self.follow_at(at, usize::MAX));
            self.pass_in(millis, 2 * LOOK);
        }
        for node in &self.nodes {
            let own = node.log.lock().own.clone();
            self.own.insert(node.id, own);
        }
    }
}

/// Counts how often each event is in a list.
pub(super) fn counts(names: impl Iterator<Item = u64>) -> HashMap<u64, usize> {
    let mut counts = HashMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    counts
}
