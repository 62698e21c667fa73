//! Evaluates the filters of a leaf at the expense of those who want them.
//!
//! Contract: a filter is evaluated at most once, by the first member that can pay, and the result is for all.

use super::eval::Evaluation;
use super::plan::FilterId;

/// The members of a leaf, and the accounts that pay for evaluation.
///
/// An evaluation is charged to a member that wants it, the first that can pay. A known result costs nothing. So all
/// work is charged exactly once, and no member pays more than its own filters would cost alone: a filter that several
/// members share may be charged to any of them, but never twice to one, and never to a member without it.
pub trait Payers {
    /// Evaluates `question` and charges it to `member`; returns `None` if the member cannot pay.
    fn ask<T>(
        &mut self,
        member: u32,
        evaluation: &mut Evaluation<'_>,
        question: impl FnMut(&mut Evaluation<'_>) -> Option<T>,
    ) -> Option<T>;

    /// Charges `member`, which could not pay, for work that was done all the same because many wait for it.
    fn bill(&mut self, member: u32, units: u64) {
        let _ = (member, units);
    }

    /// Reports a member whose filter is true.
    fn found(&mut self, member: u32);
}

/// Reports members without charging them.
impl<F: FnMut(u32)> Payers for F {
    fn ask<T>(
        &mut self,
        _: u32,
        evaluation: &mut Evaluation<'_>,
        mut question: impl FnMut(&mut Evaluation<'_>) -> Option<T>,
    ) -> Option<T> {
        question(evaluation)
    }

    fn found(&mut self, member: u32) {
        self(member);
    }
}

/// Evaluates the filter of all these members.
#[inline]
pub(super) fn try_all(evaluation: &mut Evaluation<'_>, filter: FilterId, all: &[u32], members: &mut impl Payers) {
    let truth = evaluation.known(filter).or_else(|| {
        all.iter().find_map(|member| members.ask(*member, evaluation, |evaluation| evaluation.is_true(filter)))
    });
    if truth == Some(true) {
        evaluation.matched(all.len() as u64);
        all.iter().for_each(|member| members.found(*member));
    }
}
