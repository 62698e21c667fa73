//! The program as people run it: commands, exit codes, output, and settings.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod auth;
mod commands;
mod config;
mod explain;
mod filter;
mod health;
mod logs;
mod post;
mod record;
mod scripts;
mod service;
mod support;
mod top;
mod views;
mod watch;
