//! From a translated pattern to a machine that looks at every byte once.
//!
//! Whoever may connect may register a pattern, and it runs on the thread that delivers to everybody. So a pattern is
//! taken only as a complete DFA: one table lookup a byte, whatever the pattern and whatever the text. (A lazy DFA falls
//! back to simulating the NFA when its cache runs over, which a pattern such as `1[01]{200}[^01]` forces: a step then
//! costs as much as the pattern is large.) A pattern without a DFA within the bounds is refused, and the refusal says
//! what to change.
//!
//! Making the DFA is bounded too, since it can take time exponential in the pattern: by the bytes of the NFA
//! ([`NFA_BYTES`]), the bytes of the DFA, and the steps of making it ([`Budget::steps`]). Steps cannot be counted while
//! the library works, but they can be bounded before: each state of the DFA costs at most [`Costs::state`] steps and at
//! least [`STATE_BYTES`] bytes, and the bytes can be limited.
//!
//! Contract: pure; equal patterns and limits give equal answers on every machine. Figures:
//! `docs/benchmarks/filters.md`.

use regex_automata::dfa::{StartKind, dense};
use regex_automata::nfa::thompson::{self, NFA, State, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_syntax::ParserBuilder;

use super::PatternError;
use super::trim::trim;

/// What patterns may still cost to compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that they may compile to.
    pub bytes: usize,
    /// Steps of compiling; a few nanoseconds each.
    pub steps: usize,
}

impl Budget {
    /// Room for patterns of so many bytes.
    pub const fn new(bytes: usize) -> Self {
        Self { bytes, steps: STEPS }
    }
}

/// Steps for all patterns of a filter: some 20 ms.
const STEPS: usize = 5_000_000;

/// Bytes of the NFA of one pattern.
const NFA_BYTES: usize = 128 << 10;

/// Bytes in which the library describes the states of the DFA while it makes it.
const DESCRIPTION_BYTES: usize = 640 << 10;

/// The least that the library needs to describe a state.
const STATE_BYTES: usize = 48;

/// Steps that a transition costs besides following the NFA.
const TRANSITION: usize = 32;

/// A compiled pattern.
pub(super) type Machine = dense::DFA<Vec<u32>>;

/// Compiles a translated pattern, and takes what it cost from the room.
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
    // The last line says what is wrong; those before show our own translation.
    PatternError::Unsupported(text.lines().last().unwrap_or_default().trim().to_owned())
}

/// What making a DFA costs at most, in steps.
#[derive(Debug, Clone, Copy)]
struct Costs {
    /// Bytes that the pattern does not tell apart are one class.
    classes: usize,
    /// A state of the DFA, whatever it holds.
    state: usize,
    /// The dearest state of the NFA. It is in a state of the DFA at most once.
    dearest: usize,
    /// The next dearest. A byte of a description stands for one state of the NFA.
    next: usize,
}

impl Costs {
    /// Nothing if the NFA is too tangled to work it out.
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

    /// Bytes of description that cost no more than so many steps.
    fn description(&self, steps: usize) -> usize {
        let by_states = (steps / self.state.max(1)).saturating_mul(STATE_BYTES);
        let by_bytes = steps / (self.next + (self.dearest + self.classes * TRANSITION) / STATE_BYTES).max(1);
        by_states.max(by_bytes).min(DESCRIPTION_BYTES)
    }
}

/// How many states are reached from a state without a byte.
struct Closures<'n> {
    nfa: &'n NFA,
    sizes: Vec<usize>,
    /// By which walk a state was seen last.
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

    /// Has the walk go on to the states that one leads to without a byte.
    fn push_next(&mut self, id: StateID) {
        match self.nfa.state(id) {
            State::Look { next, .. } | State::Capture { next, .. } => self.stack.push(*next),
            State::Union { alternates } => self.stack.extend_from_slice(alternates),
            State::BinaryUnion { alt1, alt2 } => self.stack.extend([*alt1, *alt2]),
            _ => {}
        }
    }
}
