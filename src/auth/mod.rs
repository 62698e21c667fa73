//! Who may see what: users, roles, claims, tokens and tenants. The rules are `docs/security.md`.
//!
//! ```text
//! header, query -> Credential -> Authority::login -> Identity -> Authority::access -> Access -> sees / permits
//! ```
//!
//! An [`Identity`] says who somebody is and is kept for as long as the connection lives. An [`Access`] says what that
//! one may see at present; it is shared by everybody with the same rights, so a verdict on an event is needed once per
//! [`AccessId`] and not once per connection. When [`Authority::changes`] tells a new generation, ask for it again.
//!
//! Contract: nothing here knows a frame, a socket or a subscription. [`Access`] is pure and for the delivery path;
//! hashing and files block and are not. Nothing secret shows in a Debug output, an error or a log line.

mod access;
mod account;
mod authority;
mod certificate;
mod checker;
mod claim;
mod credential;
pub mod directory;
mod identity;
mod issue;
mod issuers;
mod judgement;
mod keys;
mod limits;
mod login;
mod options;
mod password;
mod principal;
mod queue;
mod recent;
mod state;
mod store;
mod throttle;
mod token;
mod watch;

pub use access::{Access, AccessId};
pub use authority::{AuthFile, Authority, Opened, ReloadError};
pub use certificate::{CertificateName, ClientCertificate};
pub use claim::{Claim, ClaimError, Terms};
pub use credential::{Credential, CredentialError, Secret};
pub use identity::{Identity, RevokedError};
pub use issue::{IssueError, Issued, TokenInfo, TokenRequest};
pub use issuers::IssuerOptions;
pub use judgement::{ClaimVerdict, Judgement};
pub use limits::{LimitError, RoleLimits};
pub use login::{AuthError, PasswordAttempt};
pub use options::AuthOptions;
pub use password::{MAX_PASSWORD_BYTES, PasswordError, PasswordHash};
pub use principal::{Principal, PrincipalError, PrincipalKind, check_endpoint_name, check_name};
pub use store::exposure::{Exposure, exposures, of_secret as exposure_of_secret};
pub use store::file::{edit as edit_store, path as store_file, read as read_store};
pub use store::{DEFAULT_USER, Role, SUPERUSER, Store, StoreError, TenantRow, User};
pub use throttle::Limits as ThrottleLimits;
pub use token::{MAX_TOKEN_BYTES, TokenError, TtlError, parse_ttl};
