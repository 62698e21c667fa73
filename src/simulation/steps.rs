//! What clients, operators, files and the node do in a step of a run.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::client::{Client, Command, Manner, Reading, Since};
use super::facts::Spec;
use super::node::Node;
use super::rights::USERS;
use super::wire::Wire;
use super::world::{CLIENTS, World};
use crate::broker::history::{self, Position, Start};
use crate::clock::{self, simulated};
use crate::fanout::control::{Control, Newcomer, Wanted};
use crate::fanout::outbox::ConnId;
use crate::index::Measure;
use crate::overflow::Overflow;
use crate::websocket::frame::Encoding;

/// Returns the address of the client with this number.
fn address(client: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], u16::try_from(1025 + client).unwrap()))
}

impl World {
    /// Picks one of those who are still there.
    pub(super) fn any(&mut self) -> Option<usize> {
        if self.clients.is_empty() {
            return None;
        }
        Some(self.random.below(self.clients.len()))
    }

    pub(super) fn read(&mut self) {
        let Some(at) = self.any() else { return };
        let most = self.random.between(1, 4_000);
        let client = &mut self.clients[at];
        client.send(self.random.between(1, 200));
        if client.reading == Reading::Slow {
            client.read(most, &mut self.random);
        }
    }

    pub(super) fn command(&mut self) {
        let Some(at) = self.any() else { return };
        let accepted = self.node.log.lock().facts.len() as u64;
        let client = &mut self.clients[at];
        if !client.speaks() {
            return;
        }
        let (opcode, payload) = client.next_command(accepted, &mut self.random);
        client.say(opcode, &payload, &mut self.random);
        if self.random.percent(70) {
            client.send(usize::MAX);
        }
        let text = String::from_utf8_lossy(&payload).chars().take(60).collect::<String>();
        let number = client.number;
        self.trace.note(format!("client {number}: {text}"));
    }

    pub(super) fn flood(&mut self) {
        let Some(at) = self.any() else { return };
        let accepted = self.node.log.lock().facts.len() as u64;
        let client = &mut self.clients[at];
        if !client.speaks() {
            return;
        }
        client.keeps_up = false;
        for _ in 0..self.random.between(10, 120) {
            if self.random.percent(30) {
                client.say(9, b"flood", &mut self.random);
            } else {
                let (opcode, payload) = client.next_command(accepted, &mut self.random);
                client.say(opcode, &payload, &mut self.random);
            }
        }
        client.send(usize::MAX);
        let number = client.number;
        self.trace.note(format!("client {number} floods"));
    }

    /// Where a client begins that asks for earlier events.
    fn start(&mut self) -> (Start, Since) {
        let log = self.node.log.lock();
        let next = log.facts.len() as u64;
        let sequence = self.random.below(log.facts.len() + 1) as u64;
        let epoch = self.run as u64 + 1;
        let (text, first) = match self.random.below(10) {
            // Of a run that has ended, or that never was.
            0 => (Position { epoch: epoch + 7, sequence }.to_string(), 0),
            1..5 if sequence < next => {
                let time = log.facts[usize::try_from(sequence).unwrap()].time.clone();
                let first = log.facts.iter().position(|fact| fact.time == time).unwrap();
                (time, first as u64)
            }
            _ => (Position { epoch, sequence }.to_string(), sequence),
        };
        drop(log);
        let since: history::Since = text.parse().unwrap();
        let start = self.node.broker.resolve(since, &text, clock::both()).unwrap();
        let has_gap = start.gap.is_some();
        assert!(has_gap || start.sequence <= first, "the replay begins too late: {start:?}");
        // A time selects some events more.
        let first = first.min(start.sequence);
        (start, Since { first, has_gap })
    }

    pub(super) fn connect(&mut self) {
        if self.clients.len() == CLIENTS {
            return;
        }
        let user = self.random.below(USERS);
        let (Some(identity), Some(secret)) = (self.office.identity(user), self.rights.secret(user)) else { return };
        let Some(permit) = self.connection_limit.admit() else { panic!("a permit was not given back") };
        let start = self.random.percent(25).then(|| self.start());
        let encoding = if self.random.percent(12) { Encoding::EventStream } else { Encoding::Plain };
        let overflow = self.random.pick(&Overflow::ALL);
        let shard = self.random.below(self.node.rooms.len());
        let since = start.as_ref().map(|(_, since)| *since);
        let manner = Manner { shard, user, secret, overflow, encoding, since };
        let mut client = Client::new(self.connected, manner);
        self.connected += 1;
        let count = if encoding == Encoding::EventStream { self.random.between(1, 3) } else { self.random.below(3) };
        let specs: Vec<Spec> = (0..count).map(|_| Spec::random(&mut self.random)).collect();
        client.commands.extend(specs.iter().cloned().map(Command::Register));
        client.sent_after = vec![self.node.log.lock().facts.len() as u64; specs.len()];
        if self.random.percent(30) {
            let reading = self.random.pick(&[Reading::Slow, Reading::Stalled]);
            client.set_reading(reading, self.random.between(0, 3_000));
        }
        client.pipe.borrow_mut().is_refused = self.random.percent(2);
        let wire = Wire(Rc::clone(&client.pipe));
        let peer = address(client.number);
        let rights = self.office.authority.rights(&identity).unwrap();
        let newcomer = Newcomer {
            socket: wire,
            head: None,
            early: bytes::Bytes::new(),
            encoding,
            identity,
            rights,
            overflow,
            peer,
            since: start.map(|(start, _)| start),
            warnings: self.random.percent(50),
            registrations: specs.into_iter().map(|spec| spec.text.into()).collect(),
            permit,
        };
        let room = &self.node.rooms[shard];
        room.load.fetch_add(1, Ordering::Relaxed);
        let is_adopted = room.control.try_send(Control::Adopt(Box::new(newcomer))).is_ok();
        assert!(is_adopted, "the control queue is full");
        room.wake();
        self.trace.note(format!("client {} of u{user} connects: {manner:?}", client.number));
        self.clients.push(client);
    }

    /// A client closes its connection, ends it, or breaks it.
    pub(super) fn part(&mut self) {
        let Some(at) = self.any() else { return };
        let how = self.random.below(3);
        self.part_with(at, how);
    }

    pub(super) fn part_with(&mut self, at: usize, how: usize) {
        let client = &mut self.clients[at];
        if client.is_gone || client.closes_at.is_some() {
            return;
        }
        match how {
            0 if client.speaks() => {
                client.send(usize::MAX);
                client.say(8, &1000_u16.to_be_bytes(), &mut self.random);
                client.send(usize::MAX);
                client.closes_at = Some(self.node.rooms[client.shard].driver.parts.shard.position());
            }
            1 => {
                client.is_gone = true;
                client.pipe.borrow_mut().end();
            }
            _ => {
                client.is_gone = true;
                client.pipe.borrow_mut().reset();
            }
        }
        let number = client.number;
        self.trace.note(format!("client {number} parts ({how})"));
    }

    /// A client reads faster or slower from now on.
    pub(super) fn pace(&mut self) {
        let Some(at) = self.any() else { return };
        let reading = self.random.pick(&[Reading::Free, Reading::Free, Reading::Slow, Reading::Stalled]);
        let room = self.random.between(0, 3_000);
        self.clients[at].set_reading(reading, room);
        let number = self.clients[at].number;
        self.trace.note(format!("client {number} reads: {reading:?}"));
    }

    pub(super) fn change_rights(&mut self) {
        let mut rights = (*self.rights).clone();
        self.office.change(&mut rights, &mut self.random);
        self.rights = Arc::new(rights);
        for room in &self.node.rooms {
            room.review.store(true, Ordering::Relaxed);
            room.wake();
        }
        let text = format!("{:?}", self.rights);
        self.trace.note(text);
    }

    pub(super) fn wait(&mut self) {
        let most = self.random.pick(&[200, 200, 3_000, 8_000]);
        let millis = self.random.between(1, most) as u64;
        simulated::pass(Duration::from_millis(millis));
        self.trace.note(format!("{millis} ms pass"));
    }

    pub(super) fn parse(&mut self) {
        let room = &self.node.rooms[self.random.below(self.node.rooms.len())];
        if room.parser.parse_next(&self.settings.index.filter) {
            room.wake();
        }
    }

    /// An operator asks for something; sometimes nobody waits for the answer.
    pub(super) fn ask(&mut self) {
        let at = self.random.below(self.node.rooms.len());
        let peer = address(self.random.below(40));
        let control = match self.random.below(6) {
            0 => {
                let registration = (self.random.below(2) == 0).then(|| Box::from("machines.*.*"));
                Control::List(registration, self.reply())
            }
            1 => Control::Delete(self.conn_from(at, peer), Wanted::at(peer), self.reply()),
            2 if peer.port().is_multiple_of(2) => Control::Find(Wanted::at(peer), self.reply()),
            2 => Control::Inspect(self.conn_from(at, peer), Wanted::at(peer), self.reply()),
            3 => Control::Survey(Measure::Deliveries, self.reply()),
            4 => Control::Seen(self.reply()),
            _ => Control::Types(vec![Box::from("machines")].into()),
        };
        let is_sent = self.node.rooms[at].control.try_send(control).is_ok();
        assert!(is_sent, "the control queue is full");
        self.node.rooms[at].wake();
    }

    /// Returns the number of the connection from an address at a shard; that of any other if there is none.
    fn conn_from(&self, shard: usize, peer: SocketAddr) -> ConnId {
        let is_it = |client: &&Client| client.shard == shard && address(client.number) == peer;
        let token = self.clients.iter().find(is_it).and_then(|client| client.pipe.borrow().token);
        ConnId(u32::try_from(token.unwrap_or_default()).unwrap())
    }

    fn reply<T: 'static>(&mut self) -> oneshot::Sender<T> {
        let (reply, answer) = oneshot::channel();
        if self.random.percent(70) {
            self.answers.push(Box::new(answer));
        }
        reply
    }

    /// The node dies and comes back with nothing.
    pub(super) fn die(&mut self) {
        if self.random.percent(60) {
            return;
        }
        self.trace.note("the node dies".to_owned());
        for client in &mut self.clients {
            client.read(usize::MAX, &mut self.random);
            client.pipe.borrow_mut().reset();
        }
        self.judge_all(false);
        self.clients.clear();
        self.run += 1;
        self.node = Node::start(self.run as u64 + 1, &self.settings, &self.office, &self.rights);
        self.check_permits();
    }
}
