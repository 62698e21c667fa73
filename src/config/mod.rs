//! What an operator can configure, and where each setting came from.
//!
//! Flags take precedence over `HYDRANT_*` variables, these over the TOML file, and that over the defaults. Every
//! setting is declared once, in `settings.rs` or `telemetry.rs`: its name, kind, default, explanation, and whether a
//! running server applies a change. The structs, the parser, the names of the variables, `hydrant config default` and
//! `docs/configuration.md` are all generated from that declaration, so they cannot drift apart.
//!
//! Contract: [`Settings::load`] returns either consistent settings or *all* errors in them, each with its location
//! (file with line and column, variable or flag). Loading binds and creates nothing; it reads the file and inspects
//! the certificates and keys that are named. Unknown keys and unknown `HYDRANT_*` variables are errors, because a
//! silently ignored typo looks like a setting that does not work.
//!
//! Why not serde: it stops at the first error and does not know the location of a value.

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
mod telemetry;
mod upstream;

pub use doc::{default_file, markdown};
pub use error::{ConfigError, ConfigErrors, Location};
pub use kind::{AuthMode, ClientName, DEMO_MACHINES, DeflateMode, LogFormat, TlsMode, UpstreamTls};
pub use load::{FlagValue, Sources};
pub use raw::{CONFIG_VARIABLE, Row};
pub use settings::{
    Auth, Deflate, Inbox, Limits, Nats, Outbox, Proxy, Replay, Settings, Throttle, Timeouts, Token, Upstream, rows,
};
pub use telemetry::{Log, Otel};
