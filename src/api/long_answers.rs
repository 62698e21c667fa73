//! The memory of long answers, which counts until their clients have read them.
//!
//! A client may read an answer as slowly as it likes, as long as it makes progress. Answers of more than a slice
//! ([`SLICE`]) therefore count from when they are complete until all of them has been handed over; shorter ones take
//! no more than the buffers of their connections.
//!
//! Contract: the long answers of all callers take at most `most` bytes, those of one principal at most a quarter of
//! that. One answer of a principal may be longer than its share, and a single one longer than `most`, because a list of
//! very many connections would never be sent otherwise. What does not fit is refused with 503.

use std::sync::Arc;

use hashbrown::HashMap;
use http_body_util::Either;
use parking_lot::Mutex;

use super::ApiError;
use crate::auth::Principal;
use crate::transport::listener::Answer;
use crate::transport::slices::SLICE;

/// Number of the longest bodies whose memory all long answers may take together.
const LONGEST: usize = 4;

/// The length of such a body if shorter ones are configured.
const LEAST: usize = 16 << 20;

/// The part of it that the answers of one principal may take.
const SHARE: usize = 4;

/// Counts the long answers that are being sent.
#[derive(Debug)]
pub(super) struct LongAnswers {
    most: usize,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    all: usize,
    by_principal: HashMap<Principal, usize>,
}

/// Memory that counts until this is dropped.
#[derive(Debug)]
struct Counted {
    table: Arc<Mutex<Table>>,
    principal: Principal,
    bytes: usize,
}

impl LongAnswers {
    /// Creates the memory for answers of a server that accepts bodies of this length.
    pub(super) fn new(body_bytes: usize) -> Self {
        Self { most: body_bytes.max(LEAST).saturating_mul(LONGEST), table: Arc::default() }
    }

    /// Counts an answer to a principal until it is sent, if it is long.
    pub(super) fn hold(&self, answer: Answer, principal: &Principal) -> Result<Answer, ApiError> {
        let Either::Left(body) = answer.body() else { return Ok(answer) };
        let bytes = body.remaining();
        if bytes <= SLICE {
            return Ok(answer);
        }
        let counted = self.count(principal, bytes).ok_or(ApiError::LongAnswers)?;
        Ok(answer.map(|body| match body {
            Either::Left(body) => Either::Left(body.holding(counted)),
            relay @ Either::Right(_) => relay,
        }))
    }

    fn count(&self, principal: &Principal, bytes: usize) -> Option<Counted> {
        let fits = |held: usize, most: usize| held == 0 || held.saturating_add(bytes) <= most;
        let mut table = self.table.lock();
        let own = table.by_principal.get(principal).copied().unwrap_or_default();
        if !fits(table.all, self.most) || !fits(own, self.most / SHARE) {
            return None;
        }
        table.all += bytes;
        table.by_principal.insert(principal.clone(), own + bytes);
        drop(table);
        Some(Counted { table: Arc::clone(&self.table), principal: principal.clone(), bytes })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        table.all -= self.bytes;
        if let Some(own) = table.by_principal.get_mut(&self.principal) {
            *own -= self.bytes;
            if *own == 0 {
                table.by_principal.remove(&self.principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;
    use crate::api::answer;

    fn of(name: &str) -> Principal {
        Principal::user(name).unwrap()
    }

    #[test]
    fn a_principal_has_a_quarter_and_one_answer_always_fits() {
        let answers = LongAnswers::new(0);
        let most = LONGEST * LEAST;
        let mut held: Vec<Counted> = ["a", "b", "c", "d"]
            .iter()
            .flat_map(|name| [(); 4].map(|()| answers.count(&of(name), most / 16).unwrap()))
            .collect();
        assert!(answers.count(&of("a"), 1).is_none() && answers.count(&of("e"), 1).is_none());
        held.pop();
        assert!(answers.count(&of("a"), 1).is_none(), "it has its share");
        assert!(answers.count(&of("e"), most / 16).is_some(), "dropped again");
        drop(held);
        let table = answers.table.lock();
        assert!(table.all == 0 && table.by_principal.is_empty());
        drop(table);
        let long = answers.count(&of("a"), 2 * most).unwrap();
        assert!(answers.count(&of("b"), 1).is_none());
        drop(long);
        assert!(answers.count(&of("b"), 1).is_some());
    }

    #[test]
    fn an_answer_counts_until_it_is_dropped_if_it_is_long() {
        let answers = LongAnswers::new(0);
        let send = |bytes| answers.hold(answer::json(StatusCode::OK, vec![b'x'; bytes]), &of("a")).unwrap();
        let counted = || answers.table.lock().all;
        let (_short, long) = (send(SLICE), send(SLICE + 1));
        assert_eq!(counted(), SLICE + 1);
        drop(long);
        assert_eq!(counted(), 0);
    }
}
