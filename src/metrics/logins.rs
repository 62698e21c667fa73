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

/// Metrics about password logins and about the files that define rights.
#[derive(Debug)]
pub struct LoginMetrics {
    hashed: IntCounter,
    /// The value of `hashed`, locked to serialize simultaneous scrapes.
    counted: Mutex<u64>,
    waiting: IntGauge,
    not_in_force: IntGaugeVec,
}

impl LoginMetrics {
    pub(super) fn declare(declare: &Declare<'_>) -> Self {
        let metrics = Self {
            hashed: declare.counter("hydrant_passwords_hashed_total", "Passwords hashed to check a login"),
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

    /// Sets the total number of hashed passwords and the current number of waiting logins.
    pub fn set(&self, hashed: u64, waiting: usize) {
        let mut counted = self.counted.lock();
        self.hashed.inc_by(hashed.saturating_sub(*counted));
        *counted = hashed.max(*counted);
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Reports these files, and no others, as having a change that is not in force.
    pub fn not_in_force(&self, files: &[WatchedFile]) {
        for file in WatchedFile::ALL {
            self.not_in_force.with_label_values(&[file.label()]).set(files.contains(&file).into());
        }
    }
}
