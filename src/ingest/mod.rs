//! Under construction.
pub mod demo;
