//! The websocket codec: RFC 6455 frames and RFC 7692 compression, over memory.
//!
//! [`frame`] writes frames as a server does, [`validator`] validates what a client sends before the parser sees it,
//! [`decode`] turns whole frames into messages, [`extension`] negotiates `permessage-deflate` and [`deflate`] carries
//! it out.
//!
//! Contract: pure. No I/O, no clock, no thread; memory grows with the bytes received and never with a length announced.
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use hydrant::websocket::decode::{Message, decode};
//! use hydrant::websocket::deflate::Inflater;
//! use hydrant::websocket::frame::{Encoding, from_client};
//! use hydrant::websocket::validator::FrameValidator;
//!
//! let bytes = from_client("register machines.*.*");
//! let (first, rest) = bytes.split_at(7);
//!
//! // Bytes may arrive in any pieces. A unit is emitted when it is complete.
//! let (mut validator, mut inflater) = (FrameValidator::new(Encoding::Plain), Inflater::default());
//! let mut messages = Vec::new();
//! for piece in [first, rest] {
//!     validator.feed(piece, 1024, |unit| {
//!         messages.push(decode(unit, 1024, &mut inflater));
//!         ControlFlow::Continue(())
//!     })?;
//! }
//! assert_eq!(messages, [Ok(Message::Text("register machines.*.*".to_owned()))]);
//! # Ok::<(), hydrant::websocket::validator::FrameError>(())
//! ```

pub mod decode;
pub mod deflate;
pub mod extension;
pub mod frame;
pub mod validator;
