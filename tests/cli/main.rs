//! The program as people run it: commands, exit codes, output, and settings.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod auth;
mod commands;
mod config;
mod explain;
#[path = "../common/faults.rs"]
mod faults;
mod filter;
mod health;
mod logs;
#[path = "../common/ports.rs"]
mod ports;
mod post;
mod record;
mod scripts;
mod service;
mod support;
mod top;
mod views;
mod watch;
