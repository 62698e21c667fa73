//! Executes, counts and answers the commands of a client.
//!
//! Contract: see [`session`](super::session). A registration may have been parsed on another thread
//! ([`Shard::text_from`]); the caller decides whether it should be ([`Shard::is_long_to_read`]), and has a
//! deregistration wait for the history ([`Shard::must_catch_up`]).

use std::net::SocketAddr;

use jiff::Timestamp;
use thiserror::Error;

use super::outbox::ConnId;
use super::session::Shard;
use crate::AUDIT;
use crate::auth::Principal;
use crate::index::{self, IndexError, Slot, Spec, SpecError};
use crate::metrics::Outcome;
use crate::protocol::{Command, CommandError, answer, without_values};

/// The result of parsing a registration.
pub type ReadSpec = Result<Spec, SpecError>;

/// Registrations up to this many bytes are parsed immediately, unless they contain a regular expression.
pub const SHORT_SPEC: usize = 512;

/// Returns whether a registration takes long to parse, compared with what a shard does for a command.
pub fn is_long(spec: &str) -> bool {
    spec.len() > SHORT_SPEC || spec.contains("Re")
}

/// Why a command is refused; the client is sent the text.
#[derive(Debug, Error)]
enum ExecuteError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Up to this many types are reported by name; beyond it, clients may want any type.
const KINDS: usize = 64;

impl Shard {
    /// Executes a text message and answers it.
    pub fn text(&mut self, conn: ConnId, message: &str, now: Timestamp) {
        self.text_from(conn, None, (message, None), now);
    }

    /// Like [`Shard::text`], with the client's address for the audit, and for a registration whose SPEC may already
    /// have been parsed on another thread.
    pub fn text_from(
        &mut self,
        conn: ConnId,
        peer: Option<SocketAddr>,
        (message, spec): (&str, Option<ReadSpec>),
        now: Timestamp,
    ) {
        let Some((slot, principal)) = self.speaker(conn) else { return };
        let peer = peer.map(tracing::field::display);
        let answer = match self.carry_out(conn, slot, message, spec, now) {
            Ok((command, warnings)) => {
                let spec = without_values(command.spec());
                tracing::info!(target: AUDIT, %principal, peer, verb = %command.verb(), %spec, "command");
                answer::done(command, &warnings, principal.as_str(), now)
            }
            Err(error) => {
                let reason = error.to_string();
                tracing::info!(target: AUDIT, %principal, peer, reason = %without_values(&reason), "command refused");
                self.commands.count(Outcome::Refused);
                answer::refused(message, &reason, principal.as_str(), now)
            }
        };
        self.reply(conn, answer);
    }

    /// Returns whether a message is a registration that should be parsed on another thread.
    pub fn is_long_to_read(&self, conn: ConnId, message: &str) -> bool {
        let Ok(Command::Register(spec)) = Command::parse(message) else { return false };
        let Some(slot) = self.sessions[conn.0 as usize].as_ref().and_then(|session| session.slot) else { return false };
        is_long(spec) && self.index.is_new(slot, spec) == Ok(true)
    }

    /// Returns whether a message deregisters on a connection that has yet to receive earlier events: it has to wait
    /// until they are delivered or reported lost.
    pub fn must_catch_up(&self, conn: ConnId, message: &str) -> bool {
        if !self.fanout.is_paused(conn) {
            return false;
        }
        let Ok(Command::Deregister(text)) = Command::parse(message) else { return false };
        let session = self.sessions[conn.0 as usize].as_ref();
        session.and_then(|session| session.slot).is_some_and(|slot| self.index.is_registered(slot, text))
    }

    /// Answers a binary message, which is always an error.
    pub fn binary(&mut self, conn: ConnId, now: Timestamp) {
        let Some((_, principal)) = self.speaker(conn) else { return };
        self.commands.count(Outcome::Refused);
        self.reply(conn, answer::binary(principal.as_str(), now));
    }

    fn speaker(&self, conn: ConnId) -> Option<(Slot, Principal)> {
        let session = self.sessions[conn.0 as usize].as_ref()?;
        Some((session.slot?, session.principal.clone()))
    }

    fn carry_out<'t>(
        &mut self,
        conn: ConnId,
        slot: Slot,
        message: &'t str,
        spec: Option<ReadSpec>,
        now: Timestamp,
    ) -> Result<(Command<'t>, Vec<String>), ExecuteError> {
        let mut warnings = Vec::new();
        let command = Command::parse(message)?;
        let outcome = match command {
            Command::Register(text) => self.register(conn, slot, text, spec).map(|odd| {
                warnings = odd;
                Outcome::Registered
            }),
            Command::Deregister(text) => self.index.deregister(slot, text).map(|()| {
                self.stop_replay(conn, text, now);
                Outcome::Deregistered
            }),
        };
        if matches!(outcome, Err(IndexError::TooManyRegistrations { .. })) {
            self.commands.count_too_many();
        }
        self.has_changed = true;
        self.commands.count(outcome?);
        Ok((command, warnings))
    }

    /// Adds a registration. Returns warnings about it.
    fn register(
        &mut self,
        conn: ConnId,
        slot: Slot,
        text: &str,
        spec: Option<ReadSpec>,
    ) -> Result<Vec<String>, IndexError> {
        if !self.index.is_new(slot, text)? {
            return Ok(Vec::new());
        }
        let spec = spec.unwrap_or_else(|| Spec::parse(text, &self.limits.filter))?;
        self.index.enter(slot, text, &spec)?;
        self.start_replay(conn, text, &spec);
        let is_unwarned = self.unwarned.contains(&conn);
        Ok(if is_unwarned { Vec::new() } else { index::warnings(text, &spec, Some(&self.seen)) })
    }

    /// Calls `tell` with the types that clients want if they may have changed since the last call, or with `None` if
    /// clients may want any type.
    pub fn tell_kinds(&mut self, tell: impl FnOnce(Option<Vec<String>>)) {
        if std::mem::take(&mut self.has_changed) {
            tell(self.index.kinds(KINDS));
        }
    }

    /// Omits warnings from the answers to a connection.
    pub fn set_unwarned(&mut self, conn: ConnId) {
        self.unwarned.insert(conn);
    }
}
