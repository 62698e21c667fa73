//! Limits on open files: how many the process may have, and how many are reserved.
//!
//! Every connection takes a file descriptor. Linux assigns the lowest free one, so a socket whose number reaches the
//! limit shows that all below are in use: nothing has to be counted. Those above are reserved for the metrics
//! listener, the files of the data directory, and the connections to endpoints and other nodes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Settings;

/// The number of reserved descriptors, unless the limit is very low.
const RESERVE: u64 = 64;

/// Raises the soft limit to the hard one, and warns if fewer connections fit than the settings allow. Returns the
/// lowest descriptor that clients must not get.
pub(super) fn prepare(settings: &Settings) -> u64 {
    let limit = raise();
    let descriptors = for_clients(limit);
    let connections = settings.limits.connections;
    if u64::try_from(connections).is_ok_and(|connections| connections > descriptors) {
        tracing::warn!(
            limit,
            "the process may open only {limit} files and needs some itself: at most {descriptors} connections fit, \
             although limits.connections is {connections}; raise the hard limit (LimitNOFILE in systemd, `ulimit -Hn`)"
        );
    }
    descriptors
}

/// Raises the limit and returns the limit in force; keeps the old one if the system refuses.
fn raise() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let unlimited = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    let (soft, hard) = (unlimited(now.current), unlimited(now.maximum));
    if soft < hard && setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum }).is_ok() {
        tracing::info!(soft, hard, "raised the limit of open files");
        return hard;
    }
    soft
}

/// Returns the number of descriptors for clients: at least three quarters, however low the limit is.
fn for_clients(limit: u64) -> u64 {
    limit - RESERVE.min(limit / 4)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_reserve_is_kept_however_low_the_limit_is() {
        assert_eq!([0, 64, 1024, u64::MAX].map(super::for_clients), [0, 48, 960, u64::MAX - 64]);
    }
}
