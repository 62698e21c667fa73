//! Why a websocket is closed: the one table of codes, reasons, metric labels and advice.
//!
//! Nothing else closes a websocket with a code. `docs/protocol.md` prints the same table; a test compares the two.

use std::borrow::Cow;

/// The reason for closing a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The client closed with this code, which is echoed to it (RFC 6455, section 5.5.1); 1000 if it sent none.
    Normal(u16),
    /// The server is shutting down.
    Draining,
    /// An operator deleted the connection.
    Deleted,
    /// The client violated RFC 6455.
    Protocol,
    /// A text message is not UTF-8.
    BadUtf8,
    /// A compressed message cannot be inflated.
    BadDeflate,
    /// The credentials are no longer valid.
    Revoked,
    /// The token expired, and the server is configured to close the connection then.
    Expired,
    /// A message is longer than allowed.
    TooBig,
    /// Nothing was received from the client within the idle time.
    Silent,
    /// An internal error.
    Internal,
    /// The filters of the registrations exceed their limit of work.
    FilterWork {
        /// Name of the setting with the limit.
        setting: &'static str,
    },
    /// The connections of the client's principal hold too much input that is not complete.
    Incomplete,
    /// The client does not read events as fast as they arrive.
    SlowConsumer {
        /// Number of queued events.
        events: usize,
        /// Number of queued bytes.
        bytes: usize,
    },
    /// The client reads so slowly that it receives outdated events.
    Stale {
        /// How long the oldest event has been queued, in seconds.
        seconds: u64,
    },
}

impl Close {
    /// Returns the code on the wire (RFC 6455, section 7.4).
    pub fn code(self) -> u16 {
        match self {
            Self::Normal(code) => code,
            Self::Draining | Self::Deleted | Self::Silent => 1001,
            Self::Protocol => 1002,
            Self::BadUtf8 | Self::BadDeflate => 1007,
            Self::Revoked | Self::Expired | Self::FilterWork { .. } => 1008,
            Self::TooBig => 1009,
            Self::Internal => 1011,
            Self::Incomplete | Self::SlowConsumer { .. } | Self::Stale { .. } => 1013,
        }
    }

    /// Returns the reason on the wire, at most 123 bytes.
    pub fn reason(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Normal(_) => "",
            Self::Draining => "server is shutting down",
            Self::Deleted => "connection deleted",
            Self::Protocol => "protocol error",
            Self::BadUtf8 => "text is not UTF-8",
            Self::BadDeflate => "message cannot be inflated",
            Self::Revoked => "credentials revoked",
            Self::Expired => "token expired",
            Self::TooBig => "message too big",
            Self::Silent => "no sign of life",
            Self::Internal => "internal error",
            Self::Incomplete => "too many incomplete messages",
            Self::FilterWork { setting } => return Cow::Owned(format!("filters cost too much: over {setting}")),
            Self::SlowConsumer { events, bytes } => {
                return Cow::Owned(format!("slow consumer: {events} events, {bytes} bytes queued"));
            }
            Self::Stale { seconds } => return Cow::Owned(format!("slow consumer: an event has waited {seconds} s")),
        })
    }

    /// Returns whether the client is closed for not reading fast enough.
    pub fn is_slow_consumer(self) -> bool {
        matches!(self, Self::SlowConsumer { .. } | Self::Stale { .. })
    }

    /// Returns the value of the metric label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Normal(_) => "normal",
            Self::Draining => "draining",
            Self::Deleted => "deleted",
            Self::Protocol => "protocol",
            Self::BadUtf8 => "bad_utf8",
            Self::BadDeflate => "bad_deflate",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::TooBig => "too_big",
            Self::Silent => "silent",
            Self::Internal => "internal",
            Self::FilterWork { .. } => "filter_work",
            Self::Incomplete => "incomplete",
            Self::SlowConsumer { .. } | Self::Stale { .. } => "slow_consumer",
        }
    }

    /// Returns what a client should do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Normal(_) => "nothing: the client asked",
            Self::Draining | Self::Deleted | Self::Silent | Self::Internal => "reconnect, with jitter",
            Self::SlowConsumer { .. } | Self::Stale { .. } => {
                "reconnect after a pause; read faster or register for less"
            }
            Self::Incomplete => "reconnect after a pause; send messages as a whole",
            Self::Protocol | Self::BadUtf8 | Self::BadDeflate | Self::TooBig => {
                "do not reconnect automatically: fix the client"
            }
            Self::FilterWork { .. } => "do not reconnect automatically: register fewer or cheaper filters",
            Self::Revoked | Self::Expired => "get new credentials first",
        }
    }

    /// All reasons, for documents and metrics.
    pub const ALL: [Self; 15] = [
        Self::Normal(1000),
        Self::Draining,
        Self::Deleted,
        Self::Silent,
        Self::Protocol,
        Self::BadUtf8,
        Self::BadDeflate,
        Self::Revoked,
        Self::Expired,
        Self::FilterWork { setting: "SETTING" },
        Self::TooBig,
        Self::Internal,
        Self::Incomplete,
        Self::SlowConsumer { events: 0, bytes: 0 },
        Self::Stale { seconds: 0 },
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_fit_a_control_frame() {
        let worst = Close::SlowConsumer { events: usize::MAX, bytes: usize::MAX };
        for close in Close::ALL.into_iter().chain([worst]) {
            assert!(close.reason().len() <= 123, "{close:?}");
        }
    }
    #[test]
    fn every_reason_is_listed_once() {
        let declared =
            include_str!("close.rs").split("pub enum Close {\n").nth(1).unwrap().split("\n}").next().unwrap();
        let is_variant =
            |line: &&str| line.starts_with("    ") && line[4..].starts_with(|c: char| c.is_ascii_uppercase());
        let name = |text: &str| text.trim().split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned();
        let mut declared: Vec<String> = declared.lines().filter(is_variant).map(name).collect();
        let mut listed = Close::ALL.map(|close| name(&format!("{close:?}"))).to_vec();
        declared.sort();
        listed.sort();
        assert_eq!(listed, declared, "`Close::ALL` and the variants");
    }
}
