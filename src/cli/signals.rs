//! The signals that commands handle themselves.
//!
//! Contract: if the parent process has told this one to ignore SIGHUP (`nohup`), it stays ignored: no handler is
//! installed for it, since that would undo it. SIGINT is handled even if it is ignored, as shells do for jobs in the
//! background of a script: whoever sends it to one by `kill` means it.

use std::io;

use rustix::process::Signal as Number;
use tokio::signal::unix::{SignalKind, signal};

/// Listens from now on for what asks the process to end: Ctrl-C, a service manager, or a terminal that is closed. The
/// result is ready when it was asked.
///
/// # Errors
/// If the system refuses to report signals.
pub(super) fn asked_to_end() -> io::Result<impl Future<Output = ()>> {
    survive_file_size_limit()?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = if is_ignored(SignalKind::hangup()) { None } else { Some(signal(SignalKind::hangup())?) };
    Ok(async move {
        let closed = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = closed => {}
        }
    })
}

/// Makes a write beyond the limit on the size of files (`ulimit -f`, `LimitFSIZE=`) fail, like one to a full disk,
/// instead of killing the process. To be called in a runtime.
///
/// # Errors
/// If the system refuses to report signals.
pub(super) fn survive_file_size_limit() -> io::Result<()> {
    // The handler stays when the listener is dropped.
    signal(SignalKind::from_raw(Number::XFSZ.as_raw())).map(drop)
}

/// Returns whether this process ignores a signal; false if the system does not say so.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored(&status) & (1_u64 << (kind.as_raw_value() - 1)) != 0
}

/// Returns the set of ignored signals in a process's status, the first signal in the lowest bit.
fn ignored(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_of_ignored_signals_is_read() {
        assert_eq!(ignored("Name:\tx\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\n"), 0x1001);
        assert_eq!(ignored("SigIgn:\tx"), 0);
        assert_eq!(ignored(""), 0);
    }
}
