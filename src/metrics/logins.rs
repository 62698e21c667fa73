//! Metrics of password logins, and of the files that define rights.

use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge, IntGaugeVec};

use super::declare::Declare;

/// A file that is reloaded when it changes; the value of the label `file`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchedFile {
    /// Users, roles and tenants.
    Users,
    /// The keys that sign tokens.
    TokenKeys,
    /// The public keys of an external issuer.
    IssuerKeys,
    /// The TLS certificate, its key and the certificate authority of clients.
    Certificate,
}

impl WatchedFile {
    const ALL: [Self; 4] = [Self::Users, Self::TokenKeys, Self::IssuerKeys, Self::Certificate];

    /// Returns the value of the label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::TokenKeys => "token_keys",
            Self::IssuerKeys => "issuer_keys",
            Self::Certificate => "certificate",
        }
    }
}

/// Numbers of logins since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoginCounts {
    /// Passwords hashed.
    pub hashed: u64,
    /// Credentials verified, rather than recognized because their connection has shown them before.
    pub verified: u64,
}

/// Metrics about password logins and about the files that define rights.
#[derive(Debug)]
pub struct LoginMetrics {
    hashed: IntCounter,
    verified: IntCounter,
    /// The values of both, locked to serialize simultaneous scrapes.
    counted: Mutex<LoginCounts>,
    waiting: IntGauge,
    not_in_force: IntGaugeVec,
}

impl LoginMetrics {
    pub(super) fn declare(declare: &Declare<'_>) -> Self {
        let metrics = Self {
            hashed: declare.counter("hydrant_passwords_hashed_total", "Passwords hashed to check a login"),
            verified: declare.counter(
                "hydrant_credentials_verified_total",
                "Credentials verified, rather than recognized because their connection has shown them before",
            ),
            counted: Mutex::default(),
            waiting: declare.gauge("hydrant_logins_waiting", "Logins waiting for their password to be hashed"),
            not_in_force: declare.gauges(
                "hydrant_change_not_in_force",
                "1 while the last change of a file is not in force because it cannot be read or is invalid",
                "file",
            ),
        };
        metrics.not_in_force(&[]);
        metrics
    }

    /// Sets the numbers since the start, and the current number of waiting logins.
    pub fn set(&self, counts: LoginCounts, waiting: usize) {
        let mut counted = self.counted.lock();
        self.hashed.inc_by(counts.hashed.saturating_sub(counted.hashed));
        self.verified.inc_by(counts.verified.saturating_sub(counted.verified));
        counted.hashed = counted.hashed.max(counts.hashed);
        counted.verified = counted.verified.max(counts.verified);
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Reports these files, and no others, as having a change that is not in force.
    pub fn not_in_force(&self, files: &[WatchedFile]) {
        for file in WatchedFile::ALL {
            self.not_in_force.with_label_values(&[file.label()]).set(files.contains(&file).into());
        }
    }
}
