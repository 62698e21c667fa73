//! A simulated node: the real broker and the real tasks of the cluster, its link to an endpoint, and a record of what
//! it has heard from other nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::settings::Settings;
use crate::broker::Broker;
use crate::broker::export::ExportLimits;
use crate::broker::history::{History, HistoryLimits};
use crate::broker::inbox::{Inbox, inbox};
use crate::clock;
use crate::cluster::nats::op::{Message, Op};
use crate::cluster::peers::NodeId;
use crate::cluster::simulated::{Content, Member, read};
use crate::event::{Draft, Event};
use crate::metrics::{Metrics, Source};
use crate::protocol::gap::{HYDRANT, NATS};

/// The name of an event, from its Key: `p7` was posted, `e7` is from the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Name {
    Posted(u64),
    Endpoint(u64),
}

impl Name {
    fn of(event: &Event) -> Self {
        let number = event.key()[1..].parse().expect("a key of this simulation");
        if event.key().starts_with('p') { Self::Posted(number) } else { Self::Endpoint(number) }
    }

    pub(super) fn event(self, padding: usize) -> Event {
        let (key, kind) = match self {
            Self::Posted(number) => {
                (format!("p{number}"), if number.is_multiple_of(3) { "leases" } else { "machines" })
            }
            Self::Endpoint(number) => (format!("e{number}"), "machines"),
        };
        let object = format!(r#"{{"Pad":"{}"}}"#, "x".repeat(padding));
        let mut draft = Draft::new(kind, "update", &key);
        draft.time = Some("2026-01-01T00:00:00Z".into());
        draft.object = &object;
        draft.seal(Timestamp::UNIX_EPOCH)
    }
}

/// What a node has delivered to its clients.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Event(Name),
    Notice { reason: String, node: Option<NodeId>, events: Option<u64> },
}

impl Entry {
    fn of(event: &Event) -> Self {
        if (event.kind(), event.key()) != (HYDRANT, NATS) {
            return Self::Event(Name::of(event));
        }
        let object: serde_json::Value = serde_json::from_str(event.object()).unwrap();
        let node = object["Node"].as_str().map(|node| NodeId::from_str_radix(node, 16).unwrap());
        let reason = object["Reason"].as_str().unwrap().to_owned();
        Self::Notice { reason, node, events: object["Events"].as_u64() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) entries: Vec<Entry>,
    /// The events that the node itself has accepted, indexed by the numbers that other nodes see.
    pub(super) own: Vec<Name>,
}

/// The texts of all events, which all nodes deliver byte for byte.
pub(super) type Texts = Arc<Mutex<HashMap<Name, String>>>;

/// A record of what a node has heard from another, counted as simply as possible.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) first: u64,
    pub(super) next: u64,
    /// The count of numbers that were skipped.
    pub(super) jumped: u64,
    /// Whether something was heard again, so that skipped events may have come later.
    pub(super) is_resent: bool,
    pub(super) heard: Instant,
    pub(super) numbers: BTreeSet<u64>,
}

/// A link to the endpoint.
#[derive(Debug)]
pub(super) struct Link {
    /// The index of the next event that it delivers, and of its first event.
    pub(super) next: usize,
    pub(super) first: usize,
    /// The time since which its first event waits for those of other nodes.
    pub(super) waits: Option<Instant>,
}

#[allow(clippy::struct_excessive_bools, reason = "each is a state of its own")]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) broker: Arc<Broker>,
    pub(super) inbox: Inbox,
    pub(super) member: Member,
    pub(super) log: Arc<Mutex<Log>>,
    pub(super) link: Option<Link>,
    pub(super) is_connected: bool,
    /// The times at which the connection was last made and last lost.
    pub(super) connected: Instant,
    pub(super) disconnected: Instant,
    /// How often it has connected, and how often it lost a connection that it had noticed.
    pub(super) connections: u64,
    pub(super) breaks: u64,
    pub(super) has_noticed: bool,
    /// The nodes that it knew when it connected.
    pub(super) knew: HashSet<NodeId>,
    pub(super) tracks: BTreeMap<NodeId, Track>,
    /// Records of nodes that have ended or were reported as lost.
    pub(super) finished: Vec<(NodeId, Track)>,
    /// The number of messages heard since the last `received`, and whether some may have had no room.
    waiting: usize,
    pub(super) may_drop: bool,
    /// The number of log entries that have been checked, and how many of them were notices.
    pub(super) looked: usize,
    pub(super) notices: usize,
    pub(super) is_stopping: bool,
}

impl Node {
    pub(super) fn new(id: NodeId, settings: &Settings, link: Option<Link>, texts: &Texts) -> Self {
        let history = History::new(HistoryLimits { events: 10, bytes: 1 << 16 }, id, clock::now());
        let broker = Arc::new(Broker::new(Arc::new(Metrics::new()), clock::instant(), history));
        let (sender, inbox) = inbox(settings.inbox, || ());
        broker.attach(sender);
        broker.interest().set(0, settings.is_picky.then(|| vec!["leases".to_owned()]));
        let exports = broker.share(ExportLimits { batches: settings.exports, bytes: 64 << 20 }, 10_000);
        let log = Arc::<Mutex<Log>>::default();
        let (noted, texts) = (Arc::clone(&log), Arc::clone(texts));
        broker.observe(move |event, source, _| observe(event, source, &mut noted.lock(), &texts));
        let member = Member::new(&broker, exports, id, settings.pending);
        let now = clock::instant();
        Self {
            id,
            broker,
            inbox,
            member,
            log,
            link,
            is_connected: false,
            connected: now,
            disconnected: now,
            connections: 0,
            breaks: 0,
            has_noticed: false,
            knew: HashSet::new(),
            tracks: BTreeMap::new(),
            finished: Vec::new(),
            waiting: 0,
            may_drop: false,
            looked: 0,
            notices: 0,
            is_stopping: false,
        }
    }

    /// Passes on an operation of the server, and counts a message.
    pub(super) fn hear(&mut self, op: Op, pending: usize) {
        if let Op::Message(message) = &op {
            self.waiting += 1;
            self.may_drop |= self.waiting > pending;
            self.count(message);
        }
        self.member.hear(op);
    }

    fn count(&mut self, message: &Message) {
        let ((from, number, content), now) = (read(message), clock::instant());
        if content == Content::Greeting {
            self.tracks.entry(from).and_modify(|track| track.heard = now);
            return;
        }
        let track = self.tracks.entry(from).or_insert_with(|| Track {
            first: number,
            next: number,
            jumped: 0,
            is_resent: false,
            heard: now,
            numbers: BTreeSet::new(),
        });
        track.heard = now;
        track.is_resent |= number < track.next;
        track.jumped += number.saturating_sub(track.next);
        track.next = track.next.max(number);
        match content {
            Content::Event => {
                track.next = track.next.max(number + 1);
                track.numbers.insert(number);
            }
            Content::Goodbye => self.finish(from),
            Content::Heartbeat | Content::Greeting => {}
        }
    }

    /// Records that another node has ended, or was reported as lost.
    pub(super) fn finish(&mut self, node: NodeId) {
        self.finished.extend(self.tracks.remove(&node).map(|track| (node, track)));
    }

    /// Records that everything heard has been received.
    pub(super) fn received(&mut self) {
        self.waiting = 0;
    }

    /// Returns the number of events that had no room in the queue to other nodes, and the number of all its own events.
    pub(super) fn exported(&self) -> (u64, u64) {
        (self.broker.metrics().nats.lost()[0], self.log.lock().own.len() as u64)
    }

    pub(super) fn drain(&self) {
        while self.inbox.next().is_some() {}
    }

    /// Reads up to `most` events from the link to the endpoint.
    pub(super) fn follow(&mut self, sent: &[u64], most: usize) {
        /// Seconds that a new link waits for the events that other nodes had before it.
        const PATIENCE: u64 = 2;
        let Some(link) = &mut self.link else { return };
        let end = sent.len().min(link.next.saturating_add(most));
        if link.next == end {
            return;
        }
        let (first, now) = (Name::Endpoint(sent[link.next]).event(0), clock::instant());
        if let Some(since) = link.waits
            && self.broker.waits_for_others(&first, now)
            && now.saturating_duration_since(since).as_secs() < PATIENCE
        {
            return;
        }
        let events = sent[link.next..end].iter().map(|number| Name::Endpoint(*number).event(0)).collect();
        if self.broker.publish_or_return(events, Source::Upstream).is_ok() {
            (link.next, link.waits) = (end, None);
        }
    }
}

fn observe(event: &Event, source: Source, log: &mut Log, texts: &Texts) {
    let entry = Entry::of(event);
    if let Entry::Event(name) = entry {
        let mut texts = texts.lock();
        let text = texts.entry(name).or_insert_with(|| event.json().to_owned());
        assert_eq!(text, event.json(), "{name:?} arrives byte for byte");
        if source.leaves_the_node() {
            log.own.push(name);
        }
    }
    log.entries.push(entry);
}
