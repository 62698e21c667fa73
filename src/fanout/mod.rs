//! The shard: everything that one thread owns.
//!
//! A shard is a thread with its own poll. It owns its connections, its part of the index, their outboxes and the
//! frames in them, so a delivery takes no lock and touches nothing shared. An event passes through the parts in this
//! order:
//!
//! | part | what it is |
//! |---|---|
//! | [`pool`], [`control`] | the threads, and what the control plane hands to them |
//! | [`permit`] | how many connections may be open |
//! | [`driver`] | the event loop of a thread: reads, takes events in, writes, keeps time |
//! | `spec_parser` | decodes and parses long messages beside the shard's thread |
//! | [`socket`] | one client's socket, plain or TLS, non-blocking |
//! | [`session`], [`execute`], [`classes`], [`commands`] | commands in, frames out; rights as classes of the index |
//! | [`report`] | what operators see of registrations |
//! | [`catch_up`], [`replay`], `replay_steps`, `replay_work` | events from the history, for connections with `since` |
//! | `lagging`, `opening`, `held`, `before`, `listeners` | what such a connection waits for |
//! | [`outbox`] | frames, outboxes and overflow policies; pure |
//!
//! Contract: any thread may call [`pool`] and [`permit`]; everything else belongs to the shard's thread. Only
//! [`driver`], [`pool`] and [`socket`] do I/O or read a clock.

mod before;
pub mod catch_up;
pub mod classes;
pub mod commands;
pub mod control;
pub mod driver;
pub mod execute;
mod held;
mod lagging;
mod leaving;
mod listeners;
mod opening;
pub mod outbox;
pub mod permit;
pub mod pool;
pub mod replay;
mod replay_steps;
mod replay_work;
pub mod report;
pub mod session;
pub mod socket;
pub(crate) mod spec_parser;

#[cfg(test)]
mod budget_tests;
