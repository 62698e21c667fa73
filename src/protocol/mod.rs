//! The protocol: commands, answers, error bodies and the table of close codes.
//!
//! Pure: text in, text out. Nothing here knows about sockets, shards or the index; whoever executes a command passes
//! the result to [`answer`]. The rules are in `docs/protocol.md`.

pub mod answer;
pub mod close;
pub mod command;
pub mod error;
pub mod gap;
pub mod stream;

pub use close::Close;
pub use command::{Command, CommandError, without_values};
pub use error::DrpError;
