//! What a run has done: a digest of all its steps, and the last steps as text. Both simulations use it.
//!
//! Contract: two runs of one seed have the same digest, so a test can compare them. The first step describes the
//! settings of the run and is always kept. Only the last of the others are kept, because a failure is explained by the
//! steps just before it, and a long list hides them.

use std::collections::VecDeque;

/// The number of steps that are kept.
const KEPT: usize = 60;

#[derive(Debug, Default)]
pub(super) struct Trace {
    /// A digest of all steps and of everything else that the run mixes in.
    pub(super) digest: u64,
    /// The first step and the last ones.
    pub(super) steps: VecDeque<String>,
}

impl Trace {
    /// Records a step.
    pub(super) fn note(&mut self, step: String) {
        self.mix(&step);
        if self.steps.len() == KEPT {
            self.steps.remove(1);
        }
        self.steps.push_back(step);
    }

    /// Mixes a text into the digest.
    pub(super) fn mix(&mut self, text: &str) {
        let mixed = |digest: u64, byte: u8| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        self.digest = text.bytes().fold(self.digest, mixed);
    }

    /// Prints the steps that are kept, one per line.
    pub(super) fn print(&self) {
        let steps: Vec<&str> = self.steps.iter().map(String::as_str).collect();
        eprintln!("{}", steps.join("\n"));
    }
}
