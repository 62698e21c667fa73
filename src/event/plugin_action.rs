//! The event of a plugin's action, whose Object wraps the object that the plugin has acted on: `Model` stands beside
//! `Plugin`, `Command` and `Params`.
//!
//! Contract: pure. Both the removal of secrets and the search for an object's machine look through this wrapper, so the
//! member is recognized here only: in any letter case, and the last of several counts.

use crate::json;

/// The member that holds the object.
const WRAPPED: &str = "Model";

/// Returns whether a member of this name may hold the object that a plugin has acted on.
pub(super) fn is_wrapper(name: &str) -> bool {
    name.eq_ignore_ascii_case(WRAPPED)
}

/// Returns the object that a plugin has acted on, as JSON text.
pub(super) fn wrapped(object: &str) -> Option<&str> {
    json::members(object).filter(|member| is_wrapper(&member.name())).last().map(|member| member.value)
}
