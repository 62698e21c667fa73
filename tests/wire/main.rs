//! What goes over the wire, to the byte: commands and answers, frames, compression, TLS, and the clients that people
//! use.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod balancers;
mod clients;
mod conformance;
mod console;
mod deflate;
mod doors;
mod drpcli;
mod echo;
mod frames;
mod http;
mod interop;
mod openapi;
#[cfg(feature = "otel")]
mod otel;
mod protocol;
mod requests;
mod status;
mod stream;
mod tls;
mod tools;
mod unread;
