//! What an operator can set, and where each setting came from.
//!
//! Flags beat `HYDRANT_*` variables, these beat the TOML file, and that beats the defaults. Every setting is declared
//! once, in `settings.rs`: its name, kind, default, explanation and whether a running server takes a change of it. The
//! structs, the parser, the names of the variables, `hydrant config default` and `docs/configuration.md` all come from
//! that declaration, so none of them can drift from the others.
//!
//! Contract: [`Settings::load`] either returns settings that hold together or *all* that is wrong with them, each with
//! its location (file with line and column, variable or flag). Nothing is bound or created while it runs; it reads the
//! file and looks into the certificates and keys that are named. Unknown keys and unknown `HYDRANT_*` variables are
//! errors, because a typing mistake that is silently ignored looks like a setting that does not work.
//!
//! Why not serde: its first error is its last, and it forgets where a value stood.

#[macro_use]
mod table;

mod check;
mod doc;
mod error;
mod kind;
mod load;
mod nats;
mod pem;
mod proxy;
mod raw;
mod settings;
mod upstream;

pub use doc::{default_file, markdown};
pub use error::{ConfigError, ConfigErrors, Location};
pub use kind::{AuthMode, ClientName, DEMO_MACHINES, DeflateMode, LogFormat, TlsMode, UpstreamTls};
pub use load::{FlagValue, Sources};
pub use raw::{CONFIG_VARIABLE, Row};
pub use settings::{
    Auth, Deflate, Inbox, Limits, Log, Nats, Outbox, Proxy, Replay, Settings, Throttle, Timeouts, Token, Upstream, rows,
};
