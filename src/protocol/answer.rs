//! Answers to commands: events of Type `websocket` that go to one connection only.
//!
//! Contract: every text or binary message gets exactly one answer, in order; the Go client blocks until it has
//! received it. The caller is responsible for order and count; this module only writes the frames.

use jiff::Timestamp;

use super::error::DrpError;
use super::{Command, CommandError};
use crate::event::{ANSWER_TYPE, Draft, Event};
use crate::websocket::frame;

/// Maximum length of the refused message that is repeated in the answer's Key, in bytes.
pub const ECHO_MAX: usize = 256;

/// Returns the answer to a command that took effect, with the warnings about it.
pub fn done(command: Command<'_>, warnings: &[String], principal: &str, now: Timestamp) -> Event {
    let mut draft = Draft::new(ANSWER_TYPE, command.verb(), command.spec());
    draft.principal = principal.into();
    let object = (!warnings.is_empty()).then(|| serde_json::json!({ "Warnings": warnings }).to_string());
    draft.object = object.as_deref().unwrap_or("null");
    draft.seal_for_one(now)
}

/// Returns the answer to a refused message: nothing has changed, and `reason` says why.
pub fn refused(message: &str, reason: &str, principal: &str, now: Timestamp) -> Event {
    let object = DrpError::new("WEBSOCKET", 400, reason).to_json();
    let mut draft = Draft::new(ANSWER_TYPE, "error", frame::cut(message.trim(), ECHO_MAX));
    draft.principal = principal.into();
    draft.object = &object;
    draft.seal_for_one(now)
}

/// Returns the answer to a binary message.
pub fn binary(principal: &str, now: Timestamp) -> Event {
    refused("", &CommandError::Binary.to_string(), principal, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    #[test]
    fn an_answer_repeats_verb_spec_and_principal() {
        let answer = done(Command::Register("a.b.*"), &[], "user:rocketskates", now());
        let expected = concat!(
            r#"{"Time":"2026-01-02T03:04:05Z","Type":"websocket","Action":"register","Key":"a.b.*","#,
            r#""Principal":"user:rocketskates","Object":null,"Original":null}"#
        );
        assert_eq!(answer.json(), expected);
    }

    #[test]
    fn warnings_stand_in_the_object() {
        let answer = done(Command::Register("a.b.*"), &["so \"odd\"".to_owned()], "user:a", now());
        assert_eq!((answer.action(), answer.object()), ("register", r#"{"Warnings":["so \"odd\""]}"#));
    }

    #[test]
    fn a_refusal_carries_the_reason_and_a_cut_message() {
        let long = "é".repeat(200);
        let answer = refused(&long, "unknown", "user:a", now());
        assert_eq!(answer.key(), "é".repeat(128));
        assert!(answer.object().contains(r#""Messages":["unknown"],"Code":400"#));
    }
}
