//! What is still put into an outbox.

/// What is still put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intake {
    /// Events, answers and control frames.
    Open,
    /// Answers and control frames, but no events.
    Paused,
    /// Nothing: the last frame is in.
    Closed,
}

/// Whether the caller is asked about each event once more before it is put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// It is.
    On,
    /// It is not.
    Off,
}
