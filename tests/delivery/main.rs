//! From a POST to every subscriber: what is accepted, who gets it, in which order, and what happens to those who do not
//! read.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod exactly_once;
mod filtered;
mod intake;
mod ordering;
mod overflow;
mod serialised_once;
