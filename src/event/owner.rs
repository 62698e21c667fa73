//! Which machine the object of an event belongs to.
//!
//! Pure. There are two different questions: what registrations of `machine_jobs` match (a job's own `Machine` and
//! `WorkOrder`, [`of_job`]), and whose object it is for the rights of a tenant ([`machine`]). The second looks
//! further, because a deleted job has no Object, and a plugin's action wraps the object it acts on.

use std::borrow::Cow;

use crate::json;

/// What the account of a user of the endpoint begins with; no name holds a slash.
pub const ENDPOINT: &str = "endpoint/";

/// What the principal of a machine's agent begins with.
const RUNNER: &str = "runner:";

/// What the principal of a user begins with: only users are there at the endpoint and here.
const USER: &str = "user:";

/// `Machine` and `WorkOrder` of a job, where they are strings; the last of several wins.
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

/// The machine that an object belongs to: of jobs and work orders the `Machine` of Object, of the `Model` in Object, or
/// of Original; of connections the machine whose agent it is. Nothing for other types, or where none is found.
pub(super) fn machine<'t>(kind: &str, key: &'t str, object: &'t str, original: &'t str) -> Option<Cow<'t, str>> {
    match kind {
        "jobs" | "work_orders" => {
            let model = || member(object, "Model").and_then(|model| string(model, "Machine"));
            string(object, "Machine").or_else(model).or_else(|| string(original, "Machine"))
        }
        "connections" => key.strip_prefix(RUNNER).map(Cow::Borrowed),
        _ => None,
    }
}

/// What stands before the Key of an event about a connection, so that both together name its account.
pub(super) fn source(kind: &str, key: &str, of_endpoint: bool) -> &'static str {
    if of_endpoint && kind == "connections" && key.starts_with(USER) { ENDPOINT } else { "" }
}

/// The last member of this name.
fn member<'t>(object: &'t str, name: &str) -> Option<&'t str> {
    json::members(object).filter(|member| member.name() == name).last().map(|member| member.value)
}

fn string<'t>(object: &'t str, name: &str) -> Option<Cow<'t, str>> {
    json::as_string(member(object, name)?).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_found_wherever_it_stands() {
        let machine = |kind, key, object, original| machine(kind, key, object, original).map(Cow::into_owned);
        for kind in ["jobs", "work_orders"] {
            let found = |object, original| machine(kind, "k", object, original);
            assert_eq!(found(r#"{"Machine":"m"}"#, "null").as_deref(), Some("m"));
            assert_eq!(found("null", r#"{"Machine":"m"}"#).as_deref(), Some("m"), "a deleted one");
            assert_eq!(found(r#"{"Model":{"Machine":"m"}}"#, "null").as_deref(), Some("m"), "a plugin's action");
            assert_eq!(found(r#"{"Machine":""}"#, r#"{"Machine":"m"}"#).as_deref(), Some("m"));
            assert_eq!(found("[]", "7"), None);
        }
        assert_eq!(machine("connections", "runner:m", "{}", "null").as_deref(), Some("m"));
        assert_eq!(machine("connections", "user:m", "{}", "null"), None);
        assert_eq!(machine("leases", "k", r#"{"Machine":"m"}"#, "null"), None);
    }
}
