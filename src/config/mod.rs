//! What an operator can set, and where each setting came from.
//!
//! Flags beat `HYDRANT_*` variables, these beat the TOML file, and that beats the defaults. Every setting is declared
//! once, in `settings.rs`: its name, kind, default, explanation and whether a running server takes a change of it. The
//! structs, the parser, the names of the variables, `hydrant config default` and `docs/configuration.md` all come from
//! that declaration, so none of them can drift from the others.
//!
//! Contract: [`Settings::load`] either returns settings that hold together or *all* that is wrong with them, each with
//! its place (file with line and column, variable or flag). Nothing is bound or created while it runs; it reads the
//! file and looks whether the named certificate files are there. Unknown keys and unknown `HYDRANT_*` variables are errors, because a
//! typing mistake that is silently ignored looks like a setting that does not work.
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
mod proxy;
mod settings;
mod upstream;

pub use doc::{default_file, markdown};
pub use error::{ConfigError, ConfigErrors, Place};
pub use kind::{AuthMode, ClientName, DeflateMode, LogFormat, TlsMode, UpstreamTls};
pub use load::{FlagValue, Sources};
pub use settings::{
    Auth, Deflate, Inbox, Limits, Log, Nats, Outbox, Proxy, Replay, Row, Settings, Throttle, Timeouts, Token, Upstream,
    rows,
};

/// Machines of the simulated fleet when `--demo` is given bare.
pub const DEMO_MACHINES: u32 = 200;

/// The variable that names the configuration file where `--config` is not given.
pub const CONFIG_VARIABLE: &str = "HYDRANT_CONFIG";
