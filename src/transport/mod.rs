//! Sockets.

pub mod decode;
pub mod guard;
