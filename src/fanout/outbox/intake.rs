//! What an outbox accepts.

/// What an outbox accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intake {
    /// Events, answers and control frames.
    Open,
    /// Answers and control frames, but no events.
    Paused,
    /// Nothing: the last frame is queued.
    Closed,
}

/// Whether the caller must check each event again before it is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// It must.
    On,
    /// It need not.
    Off,
}
