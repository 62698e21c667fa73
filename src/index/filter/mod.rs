//! The filter language: what a registration can require of an event beyond type, action and key.
//!
//! [`Filter::parse`] turns the text into a typed tree once, when the registration is made; after that nothing can
//! fail. `docs/filters.md` explains the language to users; section 4 of `docs/protocol.md` is the specification.
//!
//! Contract: pure. No I/O, no clock, no locks, no global state. Input cannot exhaust the stack: the tree is a flat
//! list of terms in prefix order, JSON is scanned without recursion, and nesting is bounded by [`Limits`]. Input
//! cannot exhaust the thread either: a pattern costs a bounded time per byte ([`regex`]), all work is counted, and the
//! caller limits it.
//!
//! Where things are: [`ast`] is the tree, [`parse`] and [`print`](mod@print) convert it from and to text, and
//! [`path`], [`value`] and [`regex`] are its leaves. [`eval`] evaluates filters, [`plan`] rewrites them for
//! evaluation, [`fields`] finds the fields (with `scan` and `table` below it), and [`leaf`] selects which of many
//! filters to evaluate.
//!
//! ```
//! use hydrant::index::filter::{Engine, Filter, Limits, View};
//!
//! let filter = Filter::parse("And(Stage=Ne(local),Params.rack=In(a1,a2),Not(Name=Re(^test-)))", &Limits::default())?;
//! let mut engine = Engine::new();
//! let id = engine.intern(&filter);
//!
//! let mut evaluation = engine.begin(View::object(r#"{"Name":"m1","Stage":"install","Params":{"rack":"a2"}}"#));
//! assert!(evaluation.matches(id));
//! # Ok::<(), hydrant::index::filter::ParseError>(())
//! ```

mod arguments;
pub mod ast;
pub mod canonical;
pub mod eval;
pub mod fields;
pub mod leaf;
mod meter;
mod number;
pub mod parse;
pub mod path;
mod payers;
pub mod plan;
mod pool;
pub mod print;
pub mod regex;
mod scan;
pub(in crate::index) mod shrink;
mod spilled;
#[cfg(test)]
mod steps;
mod table;
pub mod value;
mod view;

pub use ast::{Filter, Op, Term, Test};
pub use eval::{Counters, Engine, Evaluation};
pub use leaf::Leaf;
pub use parse::{Limits, ParseError};
pub use path::Path;
pub use payers::Payers;
pub use plan::FilterId;
pub use regex::Pattern;
pub use value::Value;
pub use view::View;
