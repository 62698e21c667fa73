//! Answers that are held back until the events that must precede them have been sent.
//!
//! A registration on a connection whose cursor has moved causes a replay pass. Its answer is sent after the first
//! event of that pass, or at the end of a pass without events. So once a client has the answer, it can resume from the
//! Time of the last event it received without skipping any event of the new registration. Answers to later commands
//! wait behind it, because answers keep their order.
//!
//! Contract: pure. Pass numbers are ascending; answers are sent in the order in which they were queued. The caller
//! limits their number.

use std::collections::VecDeque;

use crate::event::Event;

/// Answers to later commands, held back until the replay pass before them has delivered its first event.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Each answer with the number of its pass.
    answers: VecDeque<(u64, Event)>,
    bytes: usize,
    /// Answers of passes below this number may be sent.
    released: u64,
}

impl Held {
    /// Queues an answer if it must wait, otherwise returns it. `pass` is the pass that its own registration causes, if
    /// any.
    pub(super) fn hold(&mut self, pass: Option<u64>, answer: Event) -> Option<Event> {
        let Some(pass) = pass.or_else(|| self.answers.back().map(|(pass, _)| *pass)) else { return Some(answer) };
        self.bytes += answer.frame().len();
        self.answers.push_back((pass, answer));
        None
    }

    /// Releases the answers of all passes below this number.
    pub(super) fn release(&mut self, below: u64) {
        self.released = self.released.max(below);
    }

    /// Returns whether an answer may be sent.
    pub(super) fn is_ready(&self) -> bool {
        self.answers.front().is_some_and(|(pass, _)| *pass < self.released)
    }

    /// Removes and returns the next answer that may be sent.
    pub(super) fn take(&mut self) -> Option<Event> {
        let (_, answer) = self.answers.pop_front_if(|(pass, _)| *pass < self.released)?;
        self.bytes -= answer.frame().len();
        Some(answer)
    }

    /// Removes and returns all answers, whatever they wait for.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Event> {
        self.bytes = 0;
        std::mem::take(&mut self.answers).into_iter().map(|(_, answer)| answer)
    }

    /// Returns the number of answers and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.answers.len(), self.bytes)
    }
}
