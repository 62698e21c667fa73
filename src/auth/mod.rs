//! Users, roles, claims, tokens and tenants: who may see what. The rules are in `docs/security.md`.
//!
//! ```text
//! header, query -> Credential -> Authority::login -> Identity -> Authority::access -> Access -> sees / permits
//! ```
//!
//! An [`Identity`] says who a caller is; it is kept for the lifetime of the connection. An [`Access`] says what the
//! caller may see now. Everybody with the same rights shares one [`Access`], so an event is checked once per
//! [`AccessId`] and not once per connection. When [`Authority::changes`] signals a new generation, ask for the access
//! again.
//!
//! Contract: nothing here knows about frames, sockets or subscriptions. [`Access`] is pure and made for the delivery
//! path; hashing and reading files block and must not run there. No `Debug` output, error or log line shows a secret.

mod access;
mod account;
mod authority;
mod certificate;
mod checker;
mod claim;
mod contents;
mod credential;
pub mod directory;
mod expiry;
mod identity;
mod issue;
mod issuers;
mod keys;
mod limits;
mod login;
mod memo;
mod options;
mod password;
mod principal;
mod queue;
mod recent;
mod reload;
mod remembered;
mod sight;
mod state;
mod store;
mod throttle;
mod token;
mod visibility;
mod watch;
mod watched;

pub use access::{Access, AccessId};
pub use authority::{Authority, Opened, Rights};
pub use certificate::{CertificateName, ClientCertificate};
pub use claim::{Claim, ClaimError, Terms};
pub use credential::{Credential, CredentialError, Secret};
pub use identity::{Identity, RevokedError};
pub use issue::{IssueError, Issued, TokenInfo, TokenRequest};
pub use issuers::IssuerOptions;
pub use limits::{LimitChange, LimitError, RoleLimits};
pub use login::{AuthError, PasswordAttempt};
pub use options::AuthOptions;
pub use password::{MAX_PASSWORD_BYTES, PasswordError, PasswordHash};
pub use principal::{Principal, PrincipalError, PrincipalKind, check_endpoint_name, check_name};
pub use remembered::{Recognized, Remembered};
pub use store::exposure::{Exposure, exposures, of_secret as exposure_of_secret};
pub use store::file::{edit as edit_store, keys_path as token_keys_file, path as store_file, read as read_store};
pub use store::{DEFAULT_USER, Role, SUPERUSER, Store, StoreError, TenantRow, User};
pub use throttle::Limits as ThrottleLimits;
pub use token::{MAX_TOKEN_BYTES, TokenError, TtlError, parse_ttl};
pub use visibility::{ClaimMatch, Visibility};
pub use watched::{AuthFile, ReloadError};
