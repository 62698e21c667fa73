//! The filter language: what a registration may ask of an event beyond its type, action and key.
//!
//! [`Filter::parse`] turns the text into a typed tree once, when the registration is made; nothing can fail after that.
//! `docs/filters.md` explains the language to users; section 4 of `docs/protocol.md` is the rule.
//!
//! Contract: pure. No I/O, no clock, no locks, no global state. Input cannot exhaust the stack: the tree is a flat list
//! of terms in prefix order, JSON is walked without recursion, and the nesting of terms is bounded by [`Limits`]. Nor
//! can it exhaust the thread: a pattern costs a bounded time a byte ([`regex`]), all work is counted, and whoever asks
//! says how much it may be.
//!
//! What is where: [`ast`] the tree, [`parse`] and [`print`](mod@print) its text, [`path`], [`value`] and [`regex`] its
//! leaves. [`eval`] asks filters about events, [`plan`] rewrites them for it, [`fields`] finds what they ask for (with
//! `scan` and `table` below it), [`leaf`] picks from many filters those worth asking.

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
pub mod plan;
mod pool;
pub mod print;
pub mod regex;
mod scan;
mod table;
pub mod value;
mod view;

pub use ast::{Filter, Op, Term, Test};
pub use eval::{Counters, Engine, Evaluation};
pub use leaf::{Leaf, Members};
pub use parse::{Limits, ParseError};
pub use path::Path;
pub use plan::FilterId;
pub use regex::Pattern;
pub use value::Value;
pub use view::View;
