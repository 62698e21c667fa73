//! The filter engine: against a naive evaluator, against Go's regular expressions, and against hostile filters.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod engine;
mod limits;
mod naive;
mod re2;
mod vectors;
