//! What clients say and hear: commands, answers, error bodies and the close table.
//!
//! Pure: text in, text out. Nothing here knows a socket, a shard or the index; whoever carries a command out tells
//! [`answer`] what came of it. The rules are those of `docs/protocol.md`.

pub mod answer;
pub mod close;
pub mod command;
pub mod error;
pub mod gap;
pub mod stream;

pub use close::Close;
pub use command::{Command, CommandError, without_values};
pub use error::DrpError;
