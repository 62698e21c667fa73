//! A client's bytes, in any pieces: nothing panics, the pieces do not matter, no message is longer than the limit, and
//! what a client of ours writes is read as it was written.

#![no_main]

use std::ops::ControlFlow;

use hydrant::websocket::decode::{Message, decode};
use hydrant::websocket::deflate::Inflater;
use hydrant::websocket::frame::{Encoding, from_client};
use hydrant::websocket::validator::{FrameError, FrameValidator};
use libfuzzer_sys::fuzz_target;

/// Maximum payload of a message, in bytes.
const LIMIT: usize = 2048;

/// Returns the messages that come in pieces of `piece` bytes, and how it ended.
fn read(bytes: &[u8], piece: usize, inflater: &mut Inflater) -> (Vec<Option<Message>>, Option<FrameError>) {
    let (mut validator, mut messages) = (FrameValidator::new(Encoding::Deflate), Vec::new());
    for input in bytes.chunks(piece) {
        let fed = validator.feed(input, LIMIT, |unit| {
            messages.push(match decode(unit, LIMIT, inflater) {
                Ok(Message::Long(message)) => message.decode(inflater).ok(),
                message => message.ok(),
            });
            ControlFlow::Continue(())
        });
        if let Err(error) = fed {
            return (messages, Some(error));
        }
    }
    (messages, None)
}

fn length(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) => bytes.len(),
        Message::Pong | Message::Close(_) => 0,
        Message::Long(_) => unreachable!("decoded when it was read"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut inflater = Inflater::default();
    let whole = read(bytes, bytes.len().max(1), &mut inflater);
    assert!(whole.0.iter().flatten().all(|message| length(message) <= LIMIT));
    for piece in [1, 3] {
        assert_eq!(read(bytes, piece, &mut inflater), whole, "in pieces of {piece}");
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.len() <= LIMIT
    {
        let (messages, error) = read(&from_client(text), 5, &mut inflater);
        assert_eq!((messages, error), (vec![Some(Message::Text(text.to_owned()))], None));
    }
});
