//! Compiles a translated pattern to an automaton that looks at every byte once.
//!
//! Any client may register a pattern, and it runs on the thread that delivers to all connections. So a pattern is
//! accepted only if it compiles to a complete DFA: one table lookup per byte, whatever the pattern and the text. (A
//! lazy DFA falls back to simulating the NFA when its cache overflows, which a pattern such as `1[01]{200}[^01]`
//! forces: the cost of a step is then proportional to the size of the pattern.) A pattern without a DFA within the
//! limits is refused, and the error says what to change.
//!
//! Building the DFA is bounded too, since it can take time exponential in the pattern: by the bytes of the NFA
//! ([`NFA_BYTES`]), the bytes of the DFA, and the steps of building it ([`Budget::steps`]). Steps cannot be counted
//! while the library works, but they can be bounded in advance: each state of the DFA costs at most [`Costs::state`]
//! steps and at least [`STATE_BYTES`] bytes, and the bytes can be limited.
//!
//! Contract: pure; equal patterns and limits give equal results on every machine. Figures:
//! `docs/benchmarks/filters.md`.

use regex_automata::dfa::{StartKind, dense};
use regex_automata::nfa::thompson::{self, NFA, State, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_syntax::ParserBuilder;

use super::PatternError;
use super::trim::trim;

/// The cost still allowed for compiling patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that the compiled patterns may take.
    pub bytes: usize,
    /// Steps of compiling; a few nanoseconds each.
    pub steps: usize,
}

impl Budget {
    /// Creates a budget for compiled patterns of this many bytes.
    pub const fn new(bytes: usize) -> Self {
        Self { bytes, steps: STEPS }
    }
}

/// Steps for all patterns of a filter: some 20 ms.
const STEPS: usize = 5_000_000;

/// Maximum bytes of the NFA of one pattern.
const NFA_BYTES: usize = 128 << 10;

/// Maximum bytes that the library uses to describe the states of the DFA while it builds it.
const DESCRIPTION_BYTES: usize = 640 << 10;

/// The minimum number of bytes that the library needs to describe a state.
const STATE_BYTES: usize = 48;

/// Steps that a transition costs besides following the NFA.
const TRANSITION: usize = 32;

/// A compiled pattern.
pub(super) type Machine = dense::DFA<Vec<u32>>;

/// Compiles a translated pattern, and subtracts its cost from the budget.
pub(super) fn compile(translated: &str, budget: &mut Budget) -> Result<Machine, PatternError> {
    let pattern = ParserBuilder::new().build().parse(translated).map_err(|error| refusal(&error))?;
    let config = thompson::Config::new().which_captures(WhichCaptures::None).nfa_size_limit(Some(NFA_BYTES));
    let nfa = thompson::Compiler::new().configure(config).build_from_hir(&trim(pattern));
    let nfa = nfa.map_err(|_| PatternError::Large(budget.bytes))?;
    let costs = Costs::of(&nfa).ok_or(PatternError::Slow)?;
    let config = dense::Config::new()
        .start_kind(StartKind::Unanchored)
        .dfa_size_limit(Some(budget.bytes))
        .determinize_size_limit(Some(costs.description(budget.steps)));
    let machine = dense::Builder::new().configure(config).build_from_nfa(&nfa).map_err(|_| PatternError::Slow)?;
    let states = machine.memory_usage() / (size_of::<u32>() << machine.stride2());
    budget.bytes = budget.bytes.saturating_sub(machine.memory_usage());
    budget.steps = budget.steps.saturating_sub(states * costs.classes * TRANSITION);
    Ok(machine)
}

fn refusal(error: &regex_syntax::Error) -> PatternError {
    let text = error.to_string();
    if text.contains("nested") || text.contains("nest limit") {
        return PatternError::Nested;
    }
    // The last line says what is wrong; the lines before show our own translation.
    PatternError::Unsupported(text.lines().last().unwrap_or_default().trim().to_owned())
}

/// The maximum cost of building a DFA, in steps.
#[derive(Debug, Clone, Copy)]
struct Costs {
    /// The number of classes of bytes that the pattern distinguishes.
    classes: usize,
    /// The cost of a state of the DFA, whatever it contains.
    state: usize,
    /// The cost of the most expensive state of the NFA. It is in a state of the DFA at most once.
    dearest: usize,
    /// The second highest cost. A byte of a description stands for one state of the NFA.
    next: usize,
}

impl Costs {
    /// Computes the costs; returns `None` if the NFA is too complex to do so.
    fn of(nfa: &NFA) -> Option<Self> {
        let mut closures = Closures::new(nfa);
        let classes = nfa.byte_classes();
        let mut costs = Self { classes: classes.alphabet_len(), state: 0, dearest: 0, next: 0 };
        for state in nfa.states() {
            let mut steps = 0;
            let mut follow = |first: u8, last: u8, next| {
                let width = usize::from(classes.get(last) - classes.get(first)) + 1;
                closures.size(next).map(|size| steps += width * size)
            };
            match state {
                State::ByteRange { trans } => follow(trans.start, trans.end, trans.next)?,
                State::Sparse(sparse) => {
                    sparse.transitions.iter().try_for_each(|t| follow(t.start, t.end, t.next))?;
                }
                State::Dense(dense) => {
                    (0..=u8::MAX).zip(&dense.transitions).try_for_each(|(byte, next)| follow(byte, byte, *next))?;
                }
                _ => continue,
            }
            costs.state += steps;
            costs.next = costs.next.max(steps.min(costs.dearest));
            costs.dearest = costs.dearest.max(steps);
        }
        costs.state += costs.classes * TRANSITION;
        Some(costs)
    }

    /// Returns the bytes of description that cost no more than `steps`.
    fn description(&self, steps: usize) -> usize {
        let by_states = (steps / self.state.max(1)).saturating_mul(STATE_BYTES);
        let by_bytes = steps / (self.next + (self.dearest + self.classes * TRANSITION) / STATE_BYTES).max(1);
        by_states.max(by_bytes).min(DESCRIPTION_BYTES)
    }
}

/// The number of states reachable from each state without reading a byte.
struct Closures<'n> {
    nfa: &'n NFA,
    sizes: Vec<usize>,
    /// The last walk that visited each state.
    seen: Vec<usize>,
    walk: usize,
    stack: Vec<StateID>,
    /// Steps that may still be walked.
    left: usize,
}

impl<'n> Closures<'n> {
    /// Steps for all walks: some milliseconds.
    const STEPS: usize = 500_000;

    fn new(nfa: &'n NFA) -> Self {
        let count = nfa.states().len();
        Self { nfa, sizes: vec![0; count], seen: vec![0; count], walk: 0, stack: Vec::new(), left: Self::STEPS }
    }

    fn size(&mut self, from: StateID) -> Option<usize> {
        if self.sizes[from.as_usize()] > 0 {
            return Some(self.sizes[from.as_usize()]);
        }
        self.walk += 1;
        let mut size = 0;
        self.stack.push(from);
        while let Some(id) = self.stack.pop() {
            if std::mem::replace(&mut self.seen[id.as_usize()], self.walk) == self.walk {
                continue;
            }
            size += 1;
            self.left = self.left.checked_sub(1)?;
            self.push_next(id);
        }
        self.sizes[from.as_usize()] = size;
        Some(size)
    }

    /// Queues the states that a state leads to without reading a byte.
    fn push_next(&mut self, id: StateID) {
        match self.nfa.state(id) {
            State::Look { next, .. } | State::Capture { next, .. } => self.stack.push(*next),
            State::Union { alternates } => self.stack.extend_from_slice(alternates),
            State::BinaryUnion { alt1, alt2 } => self.stack.extend([*alt1, *alt2]),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise describing states would seem to cost next to nothing by the byte.
    #[test]
    fn the_two_highest_costs_are_those_of_two_states() {
        for pattern in ["ab", "(a|b|cd)*x", "[^a]{3}z", "a{50}[0-9a-f]{50}"] {
            let Costs { classes, state, dearest, next } = Costs::of(&NFA::new(pattern).unwrap()).unwrap();
            let all = state - classes * TRANSITION;
            assert!(0 < next && next <= dearest && dearest + next <= all, "{pattern}: {next} {dearest} {all}");
        }
    }
}
