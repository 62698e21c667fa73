//! A client of a run: what it sends, how it reads, and everything that it has received.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use jiff::Timestamp;

use super::facts::Spec;
use super::random::Random;
use super::wire::Pipe;
use crate::overflow::Overflow;
use crate::websocket::frame::Encoding;

/// A message that is answered.
#[derive(Debug, Clone)]
pub(super) enum Command {
    Register(Spec),
    Deregister(String),
    Junk,
}

/// Something that the client has received.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Answer {
        action: String,
        key: String,
        time: Timestamp,
    },
    Event {
        json: String,
        number: Option<u64>,
        original: String,
    },
    /// So many events were dropped from its queue.
    Dropped {
        events: u64,
        from: String,
        to: String,
    },
    /// Events are missing in a replay; their number, if it is known.
    Forgotten {
        events: Option<u64>,
    },
    Close {
        code: u16,
        reason: String,
    },
}

/// Where a replay begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since {
    /// The first event that was asked for, by its number.
    pub(super) first: u64,
    /// Whether a gap was found at once.
    pub(super) has_gap: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// At once.
    Free,
    /// When its turn comes, and no more than a few bytes are buffered.
    Slow,
    /// Not at all.
    Stalled,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) number: usize,
    pub(super) pipe: Rc<RefCell<Pipe>>,
    pub(super) shard: usize,
    pub(super) user: usize,
    pub(super) secret: u8,
    pub(super) overflow: Overflow,
    pub(super) encoding: Encoding,
    pub(super) since: Option<Since>,
    pub(super) reading: Reading,
    /// Whether it has always read at once and never asked for much at a time.
    pub(super) keeps_up: bool,
    /// Its commands in the order in which they are sent.
    pub(super) commands: Vec<Command>,
    /// For each of them, the number of events that its node had accepted before.
    pub(super) sent_after: Vec<u64>,
    /// Bytes that are yet to be sent.
    pub(super) outgoing: VecDeque<u8>,
    /// The position of its shard when it sent its close frame.
    pub(super) closes_at: Option<u64>,
    /// Whether it has gone without a close frame.
    pub(super) is_gone: bool,
    buffer: VecDeque<u8>,
    pub(super) items: Vec<Item>,
    pub(super) is_judged: bool,
}

/// What a new client is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) shard: usize,
    pub(super) user: usize,
    pub(super) secret: u8,
    pub(super) overflow: Overflow,
    pub(super) encoding: Encoding,
    pub(super) since: Option<Since>,
}

impl Client {
    pub(super) fn new(number: usize, manner: Manner) -> Self {
        let Manner { shard, user, secret, overflow, encoding, since } = manner;
        Self {
            number,
            pipe: Rc::default(),
            shard,
            user,
            secret,
            overflow,
            encoding,
            since,
            reading: Reading::Free,
            keeps_up: true,
            commands: Vec::new(),
            sent_after: Vec::new(),
            outgoing: VecDeque::new(),
            closes_at: None,
            is_gone: false,
            buffer: VecDeque::new(),
            items: Vec::new(),
            is_judged: false,
        }
    }

    pub(super) fn speaks(&self) -> bool {
        self.encoding.is_websocket() && !self.is_gone && self.closes_at.is_none() && !self.has_ended()
    }

    /// Returns whether the server has sent its last frame, or the socket is gone.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.items.last(), Some(Item::Close { .. })) || self.pipe.borrow().is_dropped
    }

    /// Returns the registrations that it has asked for and not taken back.
    pub(super) fn wanted(&self) -> Vec<&Spec> {
        let mut wanted: Vec<&Spec> = Vec::new();
        for command in &self.commands {
            match command {
                Command::Register(spec) => wanted.push(spec),
                Command::Deregister(text) => wanted.retain(|spec| spec.text != *text),
                Command::Junk => {}
            }
        }
        wanted
    }

    /// Makes up a command and puts it into words.
    pub(super) fn next_command(&mut self, after: u64, random: &mut Random) -> (u8, Vec<u8>) {
        self.sent_after.push(after);
        let (command, opcode, text) = match random.below(10) {
            0 => (Command::Junk, 1, "REGISTER a.b.c".to_owned()),
            1 => (Command::Junk, 2, "binary".to_owned()),
            2..5 => {
                let wanted = self.wanted();
                let text = match wanted.len() {
                    0 => "machines.*.nobody".to_owned(),
                    count => wanted[random.below(count)].text.clone(),
                };
                (Command::Deregister(text.clone()), 1, format!("deregister {text}"))
            }
            _ => {
                let spec = Spec::random(random);
                let text = format!("register {}", spec.text);
                (Command::Register(spec), 1, text)
            }
        };
        self.commands.push(command);
        // A small outbox has no room for more answers at a time.
        self.keeps_up &= self.unanswered() <= 6;
        (opcode, text.into_bytes())
    }

    /// Queues a message, in one frame or in several with a ping in between.
    pub(super) fn say(&mut self, opcode: u8, payload: &[u8], random: &mut Random) {
        if opcode >= 8 || random.percent(80) {
            self.outgoing.extend(masked(0x80 | opcode, payload, random));
            return;
        }
        let (first, rest) = payload.split_at(random.below(payload.len() + 1));
        self.outgoing.extend(masked(opcode, first, random));
        if random.percent(50) {
            self.outgoing.extend(masked(0x89, b"ping", random));
        }
        self.outgoing.extend(masked(0x80, rest, random));
    }

    /// Sends up to `most` bytes.
    pub(super) fn send(&mut self, most: usize) {
        let count = most.min(self.outgoing.len());
        let bytes: Vec<u8> = self.outgoing.drain(..count).collect();
        if !bytes.is_empty() {
            self.pipe.borrow_mut().send(&bytes);
        }
    }

    pub(super) fn set_reading(&mut self, reading: Reading, room: usize) {
        self.reading = reading;
        self.keeps_up &= reading == Reading::Free;
        let room = (reading != Reading::Free).then_some(room);
        self.pipe.borrow_mut().set_room(room);
    }

    /// Reads up to `most` bytes, and answers pings.
    pub(super) fn read(&mut self, most: usize, random: &mut Random) {
        let bytes = self.pipe.borrow_mut().receive(most);
        self.buffer.extend(bytes);
        loop {
            self.buffer.make_contiguous();
            let (bytes, _) = self.buffer.as_slices();
            let length = if self.encoding.is_websocket() { frame(bytes) } else { message(bytes) };
            let Some(length) = length else { break };
            let whole: Vec<u8> = self.buffer.drain(..length).collect();
            if self.encoding.is_websocket() {
                self.hear(&whole, random);
            } else {
                self.hear_message(std::str::from_utf8(&whole).unwrap());
            }
        }
    }

    fn hear(&mut self, frame: &[u8], random: &mut Random) {
        assert!(!matches!(self.items.last(), Some(Item::Close { .. })), "nothing follows the close frame");
        let payload = &frame[header(frame)..];
        match frame[0] {
            0x81 => self.hear_text(std::str::from_utf8(payload).unwrap()),
            0x88 => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                let reason = String::from_utf8(payload[2..].to_vec()).unwrap();
                self.items.push(Item::Close { code, reason });
                if self.closes_at.is_none() {
                    self.outgoing.extend(masked(0x88, &payload[..2], random));
                }
            }
            0x89 => self.outgoing.extend(masked(0x8A, payload, random)),
            0x8A => {}
            other => panic!("a frame that begins with {other:#x}"),
        }
    }

    /// Hears a message of an event stream.
    fn hear_message(&mut self, message: &str) {
        let line = |name: &str| message.lines().find_map(|line| line.strip_prefix(name));
        match (line("event: "), line("data: ")) {
            (Some("close"), Some(data)) => {
                let object: serde_json::Value = serde_json::from_str(data).unwrap();
                let code = u16::try_from(object["Code"].as_u64().unwrap()).unwrap();
                self.items.push(Item::Close { code, reason: object["Reason"].as_str().unwrap().to_owned() });
            }
            (_, Some(data)) => self.hear_text(data),
            _ => assert_eq!(message, ":\n\n"),
        }
    }

    fn hear_text(&mut self, text: &str) {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let (kind, action, key, object) = (field("Type"), field("Action"), field("Key"), &value["Object"]);
        let string = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
        self.items.push(match (kind.as_str(), action.as_str()) {
            ("websocket", _) => Item::Answer { action, key, time: field("Time").parse().unwrap() },
            ("hydrant", "gap") if key == "queue" => {
                Item::Dropped { events: object["Events"].as_u64().unwrap(), from: string("From"), to: string("To") }
            }
            ("hydrant", "gap") if key == "replay" => Item::Forgotten { events: object["Events"].as_u64() },
            _ => Item::Event {
                json: text.to_owned(),
                number: object["N"].as_u64(),
                original: value["Original"].to_string(),
            },
        });
    }

    fn unanswered(&self) -> usize {
        self.commands.len() - self.items.iter().filter(|item| matches!(item, Item::Answer { .. })).count()
    }

    /// Returns how many bytes of an incomplete frame have come.
    pub(super) fn unread(&self) -> usize {
        self.buffer.len()
    }
}

/// The bit that says that a mask follows.
const MASKED: u8 = 0x80;

/// Says that the length follows in two bytes.
const LONG: u8 = 0x7e;

fn masked(first: u8, payload: &[u8], random: &mut Random) -> Vec<u8> {
    let mut frame = vec![first];
    if let Ok(length @ 0..126) = u8::try_from(payload.len()) {
        frame.push(MASKED | length);
    } else {
        frame.push(MASKED | LONG);
        frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    }
    let mask = u32::try_from(random.below(1 << 32)).unwrap().to_be_bytes();
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Returns the length of the header of a server's frame.
fn header(frame: &[u8]) -> usize {
    match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

/// Returns the length of the first frame if all of it is there.
fn frame(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < 2 || bytes.len() < header(bytes) {
        return None;
    }
    let payload = match bytes[1] {
        126 => usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        127 => usize::try_from(u64::from_be_bytes(bytes[2..10].try_into().unwrap())).unwrap(),
        length => usize::from(length),
    };
    let length = header(bytes) + payload;
    (bytes.len() >= length).then_some(length)
}

/// Returns the length of the first message of an event stream if all of it is there.
fn message(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair == b"\n\n").map(|at| at + 2)
}
