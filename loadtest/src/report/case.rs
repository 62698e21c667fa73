//! Rounds of a closed loop, and the figures computed from them.
//!
//! A figure always names its K. Rounds whose floor differs by more than a tenth from the median floor (because other
//! work used the machine) are kept and counted, but excluded from the medians.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::number::{Spread, spread};
use crate::check::Counts;

/// Maximum deviation of a round's floor from the median for the round to count.
const STEADY: f64 = 0.10;

/// One side of one round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Side {
    /// CPU time per delivery in microseconds.
    pub micros_per_delivery: f64,
    /// Number of turns in this round.
    pub turns: u64,
    /// Deliveries received in this round.
    pub deliveries: u64,
    /// Wall-clock time of the round.
    pub seconds: f64,
    /// Share of one core that was used; near 1 means that the writer, not the reader, was the limit.
    pub core_share: f64,
}

impl From<crate::floor::Measured> for Side {
    fn from(measured: crate::floor::Measured) -> Self {
        let seconds = measured.elapsed.as_secs_f64();
        Self {
            micros_per_delivery: measured.micros(),
            turns: measured.turns,
            deliveries: measured.deliveries,
            seconds,
            core_share: measured.cpu.as_secs_f64() / seconds.max(1e-9),
        }
    }
}

/// One round: the server, directly followed by the floor.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Round {
    /// The server; `None` if there is none, or if its CPU time cannot be read.
    pub server: Option<Side>,
    /// The floor; `None` if it was not measured.
    pub floor: Option<Side>,
}

/// Serializations per event, by encoding, as counted by the server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Encodings(pub BTreeMap<String, f64>);

impl Encodings {
    /// Returns the counts per event between two readings of the metrics; `None` if the server does not count them.
    pub fn between(before: &HashMap<String, f64>, after: &HashMap<String, f64>, events: u64) -> Option<Self> {
        const NAME: &str = "hydrant_event_serialisations_total{encoding=\"";
        #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let events = events.max(1) as f64;
        let by_event = |(name, value): (&String, &f64)| {
            let encoding = name.strip_prefix(NAME)?.strip_suffix("\"}")?;
            Some((encoding.to_owned(), (value - before.get(name).copied().unwrap_or(0.0)) / events))
        };
        let all: BTreeMap<String, f64> = after.iter().filter_map(by_event).collect();
        (!all.is_empty()).then_some(Self(all))
    }
}

/// One kind of work on one candidate over all rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Case {
    /// Display name of the server.
    pub candidate: String,
    /// Name of the candidate by which this one is divided.
    pub beside: Option<String>,
    /// The transport.
    pub transport: String,
    /// Size of an event as delivered, in bytes, without the frame's header.
    pub payload: usize,
    /// Events per turn.
    pub k: u64,
    /// Number of connections.
    pub connections: usize,
    /// Whether every event has only one receiver.
    pub selective: bool,
    /// Whether every event was posted separately.
    pub single_post: bool,
    /// The negotiated cipher, with TLS.
    pub cipher: Option<String>,
    /// Bytes received per delivery, including headers of the websocket and other protocols, inside TLS.
    pub wire_bytes: Option<f64>,
    /// Serializations per event, as counted by the server.
    pub encodings: Option<Encodings>,
    /// All rounds.
    pub rounds: Vec<Round>,
    /// What was received over all rounds and the warm-up.
    pub counts: Counts,
    /// Number of times that the server answered 429.
    pub busy: u64,
    /// The reason why the first lost connection was lost.
    pub first_error: Option<String>,
    /// The reason why the candidate did not do all rounds of this work, if it did not.
    pub left_out: Option<String>,
}

/// The figures of a case.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Server CPU per delivery in microseconds.
    pub server: Option<Spread>,
    /// CPU per delivery of the floor in microseconds.
    pub floor: Option<Spread>,
    /// Server divided by floor, round by round.
    pub ratio: Option<Spread>,
    /// Number of steady rounds.
    pub steady_rounds: usize,
}

/// A case and the case by which it is divided.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'c> {
    /// The case.
    pub case: &'c Case,
    /// The divisor.
    pub beside: &'c Case,
}

impl Pair<'_> {
    /// Returns the ratio of server CPU per delivery, round by round, over the steady rounds.
    pub fn ratio(&self) -> Option<Spread> {
        let micros = |round: &Round| round.server.map(|side| side.micros_per_delivery);
        let steady = self.beside.used();
        let ratio = |at: usize| Some(micros(self.case.rounds.get(at)?)? / micros(self.beside.rounds.get(at)?)?);
        spread(steady.into_iter().filter_map(ratio))
    }
}

impl Case {
    /// Returns what distinguishes this case from the others of a run.
    pub fn name(&self) -> String {
        let work = if self.selective { "selective, " } else { "" };
        let post = if self.single_post { ", single posts" } else { "" };
        let Self { payload, k, connections, transport, candidate, .. } = self;
        format!("{work}{payload} B, K = {k}, {connections} connections, {transport}{post}: {candidate}")
    }

    /// Returns the work without the candidate.
    pub fn work(&self) -> (usize, u64, bool, bool) {
        (self.payload, self.k, self.selective, self.single_post)
    }

    fn steady(&self) -> Vec<usize> {
        let micros = |side: Option<Side>| side.map(|side| side.micros_per_delivery);
        let middle = spread(self.rounds.iter().filter_map(|round| micros(round.floor))).map(|spread| spread.median);
        let is_steady = |round: &Round| match (micros(round.floor), middle) {
            (Some(floor), Some(middle)) => (floor / middle - 1.0).abs() <= STEADY,
            _ => true,
        };
        (0..self.rounds.len()).filter(|&at| is_steady(&self.rounds[at])).collect()
    }

    /// Returns the rounds from which figures are computed: the steady ones, or all if fewer than three are steady.
    fn used(&self) -> Vec<usize> {
        let steady = self.steady();
        if steady.len() < 3 { (0..self.rounds.len()).collect() } else { steady }
    }

    /// Returns the medians over the rounds used.
    pub fn summary(&self) -> Summary {
        let micros = |side: Option<Side>| side.map(|side| side.micros_per_delivery);
        let used: Vec<&Round> = self.used().into_iter().map(|at| &self.rounds[at]).collect();
        let ratio = |round: &&Round| Some(micros(round.server)? / micros(round.floor)?);
        Summary {
            server: spread(used.iter().filter_map(|round| micros(round.server))),
            floor: spread(used.iter().filter_map(|round| micros(round.floor))),
            ratio: spread(used.iter().filter_map(ratio)),
            steady_rounds: self.steady().len(),
        }
    }
}

#[cfg(test)]
pub(super) fn sample(micros: f64, lost: u64) -> Case {
    let side = Some(Side { micros_per_delivery: micros, turns: 1, deliveries: 1, seconds: 1.0, core_share: 1.0 });
    Case {
        candidate: "server".to_owned(),
        beside: None,
        transport: "plain".to_owned(),
        payload: 1_024,
        k: 16,
        connections: 10,
        selective: false,
        single_post: false,
        cipher: None,
        wire_bytes: None,
        encodings: None,
        rounds: vec![Round { server: side, floor: side.map(|side| Side { micros_per_delivery: 1.0, ..side }) }],
        counts: Counts { received: 5, lost, ..Counts::default() },
        busy: 0,
        first_error: None,
        left_out: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(micros: f64) -> Side {
        Side { micros_per_delivery: micros, turns: 1, deliveries: 1, seconds: 1.0, core_share: 1.0 }
    }

    fn case(pairs: &[(f64, f64)]) -> Case {
        let rounds =
            pairs.iter().map(|&(server, floor)| Round { server: Some(side(server)), floor: Some(side(floor)) });
        Case { rounds: rounds.collect(), ..sample(1.0, 0) }
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(spread([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread([4.0, 1.0]).map(|s| s.median), Some(2.5));
        assert_eq!(spread([]), None);
    }

    #[test]
    fn rounds_with_a_moved_floor_are_left_out() {
        let summary = case(&[(2.0, 1.0), (2.1, 1.0), (1.9, 1.0), (9.0, 3.0)]).summary();
        assert_eq!((summary.steady_rounds, summary.ratio.unwrap().median), (3, 2.0));
        assert_eq!(summary.server, spread([2.0, 2.1, 1.9]));
        let few = case(&[(2.0, 1.0), (9.0, 3.0)]).summary();
        assert_eq!((few.steady_rounds, few.ratio.unwrap().max), (0, 3.0));
    }

    #[test]
    fn ratios_are_made_round_by_round() {
        let ratio = case(&[(2.0, 1.0), (2.4, 1.05), (1.9, 0.95)]).summary().ratio.unwrap();
        assert_eq!((ratio.min, ratio.median), (2.0, 2.0));
    }

    #[test]
    fn a_candidate_is_compared_with_another_by_the_same_rounds() {
        let (plain, tls) = (case(&[(2.0, 1.0), (4.0, 1.0)]), case(&[(3.0, 1.0), (5.0, 1.0)]));
        let ratio = Pair { case: &tls, beside: &plain }.ratio().unwrap();
        assert_eq!((ratio.min, ratio.median, ratio.max), (1.25, 1.375, 1.5));
    }

    #[test]
    fn encodings_are_counted_by_event() {
        let name = |encoding| format!("hydrant_event_serialisations_total{{encoding=\"{encoding}\"}}");
        let before = HashMap::from([(name("plain"), 10.0), ("other".to_owned(), 1.0)]);
        let after = HashMap::from([(name("plain"), 30.0), (name("deflate"), 20.0), ("other".to_owned(), 9.0)]);
        let found = Encodings::between(&before, &after, 20).unwrap().0;
        assert_eq!((found["plain"], found["deflate"], found.len()), (1.0, 1.0, 2));
        assert_eq!(Encodings::between(&before, &HashMap::new(), 20), None);
    }
}
