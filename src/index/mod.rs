//! Under construction.
pub mod filter;
