//! What clients and publishers send to a system: DRP's protocol, NATS or MQTT, each over a websocket.
//!
//! Implements only what the same work needs of each: subscribing, receiving, and publishing without an acknowledgement
//! of each event, but with a request after each batch, whose answer marks its end. Pure: bytes in, bytes out.
//!
//! Why not client libraries: a reader that costs more than the server under test measures itself, and the costs of
//! three libraries would differ.

mod mqtt;
mod nats;

use anyhow::{Result, ensure};

use crate::frame::{Frame, Opcode};
use crate::payload::Payloads;

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wire {
    /// Digital Rebar Provision's: text messages, one event each.
    Drp,
    /// A stream of NATS protocol lines in binary messages.
    Nats,
    /// A stream of MQTT 3.1.1 packets in binary messages.
    Mqtt,
}

/// A message from the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'b> {
    /// An event's text; with [`Wire::Drp`] also answers to commands, which have the form of events.
    Event(&'b [u8]),
    /// The answer to a subscription, or to the request after a batch.
    Answered,
    /// A keep-alive request from the peer, which must be answered with [`Wire::alive`].
    Question,
}

impl Wire {
    /// Returns the path of the websocket.
    pub fn path(self) -> &'static str {
        match self {
            Self::Drp => "/api/v3/ws",
            Self::Nats => "/",
            Self::Mqtt => "/mqtt",
        }
    }

    /// Returns the additional header lines of the upgrade.
    pub fn upgrade(self) -> &'static str {
        match self {
            Self::Drp | Self::Nats => "",
            Self::Mqtt => "Sec-WebSocket-Protocol: mqtt\r\n",
        }
    }

    /// Returns the opcode of messages.
    pub fn opcode(self) -> Opcode {
        match self {
            Self::Drp => Opcode::Text,
            Self::Nats | Self::Mqtt => Opcode::Binary,
        }
    }

    /// Returns the first message of a connection; empty for some protocols. With [`Wire::Mqtt`] the client has no name:
    /// the server assigns one.
    pub fn greeting(self, name: &str) -> Vec<u8> {
        match self {
            Self::Drp => Vec::new(),
            Self::Nats => nats::connect(name),
            Self::Mqtt => mqtt::connect(),
        }
    }

    /// Returns the subscription to `spec` (type.action.key with `*`) as number `number` of this connection. Its answer
    /// is [`Incoming::Answered`] or, with [`Wire::Drp`], an event.
    pub fn subscribe(self, spec: &str, number: u16) -> Vec<u8> {
        match self {
            Self::Drp => format!("register {spec}").into_bytes(),
            Self::Nats => format!("SUB {spec} {number}\r\nPING\r\n").into_bytes(),
            Self::Mqtt => mqtt::subscribe(spec, number),
        }
    }

    /// Returns the answer to [`Incoming::Question`].
    pub fn alive(self) -> &'static [u8] {
        match self {
            Self::Nats => b"PONG\r\n",
            Self::Drp | Self::Mqtt => b"",
        }
    }

    /// Returns the bytes that publish some events in one write, followed by the request whose answer tells that they
    /// were accepted. With [`Wire::Drp`] they are the body of a POST, which is always answered.
    pub fn batch(self, payloads: &Payloads, events: std::ops::Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for sequence in events {
            let event = payloads.sealed(sequence);
            match self {
                Self::Drp => {
                    bytes.extend_from_slice(event.json().as_bytes());
                    bytes.push(b'\n');
                }
                Self::Nats => nats::publish(&subject(&event, '.'), event.json(), &mut bytes),
                Self::Mqtt => mqtt::publish(&subject(&event, '/'), event.json(), &mut bytes),
            }
        }
        bytes.extend_from_slice(self.question());
        bytes
    }

    /// Returns the request that is answered with [`Incoming::Answered`] once everything before it has been accepted;
    /// empty with [`Wire::Drp`].
    pub fn question(self) -> &'static [u8] {
        match self {
            Self::Drp => b"",
            Self::Nats => b"PING\r\n",
            Self::Mqtt => &mqtt::PING,
        }
    }

    /// Splits whole messages off the beginning of a stream; returns their number of bytes. Not useful for
    /// [`Wire::Drp`], whose messages are websocket messages.
    ///
    /// # Errors
    /// Fails if the peer reports an error, or if the bytes are not its protocol.
    pub fn split(self, bytes: &[u8], on: &mut dyn FnMut(Incoming<'_>) -> Result<()>) -> Result<usize> {
        match self {
            Self::Drp => {
                on(Incoming::Event(bytes))?;
                Ok(bytes.len())
            }
            Self::Nats => nats::split(bytes, on),
            Self::Mqtt => mqtt::split(bytes, on),
        }
    }

    /// Checks that a data frame is one that this protocol's servers send.
    pub(crate) fn check(self, frame: &Frame<'_>, deflate: bool) -> Result<()> {
        ensure!(
            deflate || !frame.deflated,
            "the server sent a compressed frame although compression was not negotiated"
        );
        let whole = frame.is_last && frame.opcode == self.opcode();
        // A stream may be split anywhere, except inside a compressed message.
        let piece =
            self != Self::Drp && !frame.deflated && matches!(frame.opcode, Opcode::Binary | Opcode::Continuation);
        ensure!(whole || piece, "the server sent a {:?} frame, or a part of one", frame.opcode);
        Ok(())
    }
}

/// Joins type, action and key by the protocol's separator.
fn subject(event: &hydrant::event::Event, between: char) -> String {
    format!("{}{between}{}{between}{}", event.kind(), event.action(), event.key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Spread;

    /// Returns what an echoing server would send, as (event texts, answers).
    fn heard(wire: Wire, bytes: &[u8]) -> Result<(Vec<String>, usize, usize)> {
        let (mut events, mut answers) = (Vec::new(), 0);
        let used = wire.split(bytes, &mut |heard| {
            match heard {
                Incoming::Event(text) => events.push(String::from_utf8_lossy(text).into_owned()),
                Incoming::Answered | Incoming::Question => answers += 1,
            }
            Ok(())
        })?;
        Ok((events, answers, used))
    }

    #[test]
    fn mqtt_publications_are_read_as_they_were_written_however_they_are_cut() {
        let payloads = Payloads::new(512, "u", Spread::All).unwrap();
        let bytes = Wire::Mqtt.batch(&payloads, 3..5);
        // Clients do not receive PINGREQ; the rest is what a server would send.
        let bytes = &bytes[..bytes.len() - 2];
        let (events, answers, used) = heard(Wire::Mqtt, bytes).unwrap();
        assert_eq!((events.len(), answers, used), (2, 0, bytes.len()));
        assert_eq!(events[0].len(), 512);
        for cut in [0, 1, 2, 3, 10, bytes.len() / 2 - 1] {
            assert_eq!(heard(Wire::Mqtt, &bytes[..cut]).unwrap(), (Vec::new(), 0, 0), "{cut}");
        }
    }

    #[test]
    fn mqtt_answers_and_refusals() {
        assert_eq!(heard(Wire::Mqtt, &[0x20, 2, 0, 0, 0x90, 3, 0, 1, 0, 0xD0, 0]).unwrap().1, 2);
        assert!(heard(Wire::Mqtt, &[0x20, 2, 0, 5]).unwrap_err().to_string().contains('5'));
        assert!(heard(Wire::Mqtt, &[0x90, 3, 0, 1, 0x80]).is_err());
        assert!(heard(Wire::Mqtt, &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]).is_err());
    }

    #[test]
    fn nats_messages_are_read_however_they_are_cut() {
        let stream =
            b"INFO {}\r\nPONG\r\nMSG bench.update.1 1 5\r\nhello\r\nMSG a 2 _INBOX.1 2\r\nhi\r\nPING\r\n+OK\r\nMSG";
        let (events, answers, used) = heard(Wire::Nats, stream).unwrap();
        assert_eq!(events, ["hello", "hi"]);
        assert_eq!((answers, used), (2, stream.len() - 3));
        let message = b"MSG bench.update.1 1 5\r\nhello\r\n";
        for cut in 0..message.len() {
            assert_eq!(heard(Wire::Nats, &message[..cut]).unwrap(), (Vec::new(), 0, 0), "{cut}");
        }
    }

    #[test]
    fn nats_complaints_and_junk_are_errors() {
        let error = heard(Wire::Nats, b"-ERR 'Slow Consumer'\r\n").unwrap_err().to_string();
        assert!(error.contains("Slow Consumer"), "{error}");
        for junk in [b"MSG a\r\n".as_slice(), b"HELLO\r\n", b"MSG a 1 99999999999\r\n", b"MSG a 1 2\r\nhixx"] {
            assert!(heard(Wire::Nats, junk).is_err(), "{junk:?}");
        }
    }

    #[test]
    fn a_batch_of_nats_ends_with_a_question() {
        let payloads = Payloads::new(512, "u", Spread::All).unwrap();
        let text = String::from_utf8(Wire::Nats.batch(&payloads, 0..2)).unwrap();
        assert!(text.starts_with("PUB bench.update.000000000000 512\r\n{\"Time\"") && text.ends_with("}\r\nPING\r\n"));
        assert_eq!(text.matches("PUB ").count(), 2);
    }
}
