//! The websocket codec: RFC 6455 frames and RFC 7692 compression, over memory.
//!
//! [`frame`] writes frames as a server does, [`validator`] validates what a client sends before the parser sees it,
//! [`decode`] turns whole frames into messages, [`extension`] negotiates `permessage-deflate` and [`deflate`] carries
//! it out.
//!
//! Contract: pure. No I/O, no clock, no thread; memory grows with the bytes received and never with a length announced.

pub mod decode;
pub mod deflate;
pub mod extension;
pub mod frame;
pub mod validator;
