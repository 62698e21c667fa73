//! Determines the machine that an event's object belongs to.
//!
//! Pure. There are two different questions: what registrations of `machine_jobs` match (a job's own `Machine` and
//! `WorkOrder`, [`of_job`]), and whose object it is for the rights of a tenant ([`machine`]). The second looks
//! further, because a deleted job has no Object, and a plugin's action wraps the object it acts on.

use std::borrow::Cow;

use super::plugin_action::wrapped;
use crate::json;

/// Prefix of the account of a user of the endpoint; no name contains a slash.
pub const ENDPOINT: &str = "endpoint/";

/// Prefix of the account of a user that only another issuer knows.
pub const ISSUER: &str = "issuer/";

/// Prefix of the principal of a machine's agent.
const RUNNER: &str = "runner:";

/// Prefix of the principal of a user: only users have namesakes elsewhere.
const USER: &str = "user:";

/// Returns `Machine` and `WorkOrder` of a job if they are strings; the last of several members wins.
pub(super) fn of_job(job: &str) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
    let mut owners = (None, None);
    for member in json::members(job) {
        let slot = match member.name().as_ref() {
            "Machine" => &mut owners.0,
            "WorkOrder" => &mut owners.1,
            _ => continue,
        };
        *slot = json::as_string(member.value);
    }
    owners
}

/// Returns the machine that owns an object: for jobs and work orders the `Machine` of Object, else of the `Model` in
/// Object, else of Original; for connections the machine whose agent it is. Returns `None` for other types or if there
/// is none.
pub(super) fn machine<'t>(kind: &str, key: &'t str, object: &'t str, original: &'t str) -> Option<Cow<'t, str>> {
    match kind {
        "jobs" | "work_orders" => {
            let model = || wrapped(object).and_then(|model| string(model, "Machine"));
            string(object, "Machine").or_else(model).or_else(|| string(original, "Machine"))
        }
        "connections" => key.strip_prefix(RUNNER).map(Cow::Borrowed),
        _ => None,
    }
}

/// Returns the prefix of the Key of a connection event that together with the Key names its account.
pub(super) fn source(kind: &str, key: &str, store: &'static str) -> &'static str {
    if kind == "connections" && key.starts_with(USER) { store } else { "" }
}

/// Returns the prefix of an account: [`ENDPOINT`], [`ISSUER`], or nothing for one of hydrant's own.
pub fn store(account: &str) -> &'static str {
    [ENDPOINT, ISSUER].into_iter().find(|prefix| account.starts_with(prefix)).unwrap_or_default()
}

/// Returns the last member with this name.
fn member<'t>(object: &'t str, name: &str) -> Option<&'t str> {
    json::members(object).filter(|member| member.name() == name).last().map(|member| member.value)
}

fn string<'t>(object: &'t str, name: &str) -> Option<Cow<'t, str>> {
    json::as_string(member(object, name)?).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(kind: &str, key: &str, object: &str, original: &str) -> Option<String> {
        machine(kind, key, object, original).map(Cow::into_owned)
    }

    #[test]
    fn a_machine_is_found_wherever_it_stands() {
        for kind in ["jobs", "work_orders"] {
            let found = |object: &str, original: &str| owner(kind, "k", object, original);
            assert_eq!(found(r#"{"Machine":"m"}"#, "null").as_deref(), Some("m"));
            assert_eq!(found("null", r#"{"Machine":"m"}"#).as_deref(), Some("m"), "a deleted one");
            for name in ["Model", "model"] {
                let action = format!(r#"{{"{name}":{{"Machine":"m"}}}}"#);
                assert_eq!(found(&action, "null").as_deref(), Some("m"), "a plugin's action");
            }
            assert_eq!(found(r#"{"Machine":""}"#, r#"{"Machine":"m"}"#).as_deref(), Some("m"));
            assert_eq!(found("[]", "7"), None);
        }
        assert_eq!(owner("connections", "runner:m", "{}", "null").as_deref(), Some("m"));
        assert_eq!(owner("connections", "user:m", "{}", "null"), None);
        assert_eq!(owner("leases", "k", r#"{"Machine":"m"}"#, "null"), None);
    }
}
