//! A position, `EPOCH:SEQUENCE`, as a server writes it: as the id of an event, and in `X-Hydrant-Sequence`.

/// A position; an EPOCH is one run of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position<'a> {
    pub(super) epoch: &'a str,
    pub(super) sequence: u64,
}

impl<'a> Position<'a> {
    /// Parses a position; `None` for a time, which an event has as its id if another process numbered it.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (epoch, sequence) = text.split_once(':')?;
        let is_epoch = epoch.len() == 16 && epoch.bytes().all(|byte| byte.is_ascii_hexdigit());
        Some(Self { epoch, sequence: sequence.parse().ok().filter(|_| is_epoch)? })
    }

    /// Returns whether it comes after another position of the same run.
    pub(super) fn is_after(self, other: Self) -> bool {
        self.epoch == other.epoch && self.sequence > other.sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_no_position() {
        let text = "18c5a3f2b1d00e47:12345";
        assert_eq!(Position::parse(text), Some(Position { epoch: "18c5a3f2b1d00e47", sequence: 12345 }));
        for text in ["2026-01-02T03:04:05Z", "18c5a3f2b1d00e47", "18c5a3f2b1d00e47:x", "18c5a3f2b1d00e4g:1", "", "1:2"]
        {
            assert_eq!(Position::parse(text), None, "{text}");
        }
    }

    #[test]
    fn positions_have_an_order_in_one_run() {
        let at = |text| Position::parse(text).unwrap();
        let first = at("18c5a3f2b1d00e47:9");
        assert!(at("18c5a3f2b1d00e47:10").is_after(first));
        assert!(!first.is_after(first) && !at("28c5a3f2b1d00e47:10").is_after(first));
    }
}
