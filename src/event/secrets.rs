//! Removes secrets from the Object and Original of an event.
//!
//! | Type | what is removed |
//! |---|---|
//! | `users` | `PasswordHash` and `Secret` |
//! | `machines`, `clusters`, `resource_brokers` | `Secret`, which is part of the tokens of the object's agent |
//! | `preferences` | all values of the preferences `baseTokenSecret` and `systemGrantorSecret` |
//!
//! Contract: pure. The text must be valid JSON, and so is what is written. Secrets of users and preferences are found
//! at every depth, since no document fixes the shape of these events; those of agents in the object itself, in the
//! objects of a list, and in the object that a plugin has acted on. What is nested deeper than [`NESTED`] and may have
//! a secret is written as `null`, so the time is proportional to the length of the text.
//!
//! Why per Type, and not everywhere: other objects may have fields of these names that are no secrets. For the same
//! reason `Params` of a machine are not searched.

use std::sync::LazyLock;

use memchr::memchr_iter;
use memchr::memmem::Finder;

use super::plugin_action::is_wrapper;
use crate::json;

/// Fields that are removed from users, in any letter case.
const OF_USERS: [&str; 2] = ["PasswordHash", "Secret"];

/// The field that is removed from objects with an agent, as DRP spells it.
const OF_AGENTS: &str = "Secret";

/// Finds that field. An event about a machine is long and frequent: its members are looked at only if it may have the
/// field.
static AGENT_SECRET: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"Secret\""));

/// Finds what a letter in the field's name could be written as. DRP writes none this way, but others may.
static ESCAPED_LETTER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\\u00"));

/// Preferences whose values are removed: with one of them, tokens for any user can be forged.
const PREFERENCES: [&str; 2] = ["baseTokenSecret", "systemGrantorSecret"];

/// Maximum number of lists and objects around a value, itself included. DRP's objects have fewer.
const NESTED: u8 = 8;

/// What is removed from an event's Object and Original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scrub {
    /// Nothing.
    Nothing,
    /// The secrets of a user.
    User,
    /// The secret of an object that has an agent.
    Agent,
    /// The secret preferences.
    Preference {
        /// Whether this is about a secret preference: then everything but its name is removed.
        is_secret: bool,
    },
}

impl Scrub {
    /// Returns what is removed from events of this Type and Key.
    pub(super) fn of(kind: &str, key: &str) -> Self {
        match kind {
            "users" => Self::User,
            "machines" | "clusters" | "resource_brokers" => Self::Agent,
            "preferences" => Self::Preference { is_secret: is_secret_preference(key) },
            _ => Self::Nothing,
        }
    }

    /// Appends a value, compact and without its secrets.
    pub(super) fn write(self, text: &str, out: &mut Vec<u8>) {
        self.write_nested(text, NESTED, out);
    }

    fn write_nested(self, text: &str, levels: u8, out: &mut Vec<u8>) {
        match text.trim_start().as_bytes().first() {
            _ if self.keeps_all_of(text) => json::compact(text, out),
            // What is not looked through does not leave.
            Some(b'{' | b'[') if levels == 0 => out.extend_from_slice(b"null"),
            Some(b'{') => self.within(json::members(text).map(|member| member.value)).object(text, levels - 1, out),
            Some(b'[') => self.within(json::elements(text)).list(text, levels - 1, out),
            // The value of a secret preference, without an object around it.
            _ if self == (Self::Preference { is_secret: true }) && !names_secret(text.trim()) => {
                out.extend_from_slice(b"null");
            }
            _ => json::compact(text, out),
        }
    }

    /// Returns whether a text certainly has none of these secrets, which is cheaper to find out than to remove them.
    fn keeps_all_of(self, text: &str) -> bool {
        match self {
            Self::Nothing => true,
            Self::Agent => [&AGENT_SECRET, &ESCAPED_LETTER].iter().all(|finder| finder.find(text.as_bytes()).is_none()),
            Self::User => !may_name_secret_of_user(text.as_bytes()),
            Self::Preference { .. } => false,
        }
    }

    /// Like [`Scrub::of`], for the values of one object or list: the name of a secret preference among them, under
    /// whatever member, says that the others are its value.
    fn within<'t>(self, mut values: impl Iterator<Item = &'t str>) -> Self {
        match self {
            Self::Preference { is_secret: false } => Self::Preference { is_secret: values.any(names_secret) },
            _ => self,
        }
    }

    fn object(self, text: &str, levels: u8, out: &mut Vec<u8>) {
        out.push(b'{');
        let start = out.len();
        for member in json::members(text) {
            let name = member.name();
            if self.drops(&name, member.value) {
                continue;
            }
            separate(start, out);
            out.extend_from_slice(member.name.as_bytes());
            out.push(b':');
            if self == Self::Agent && !is_wrapper(&name) {
                json::compact(member.value, out);
            } else {
                self.write_nested(member.value, levels, out);
            }
        }
        out.push(b'}');
    }

    fn list(self, text: &str, levels: u8, out: &mut Vec<u8>) {
        out.push(b'[');
        let start = out.len();
        for element in json::elements(text) {
            separate(start, out);
            self.write_nested(element, levels, out);
        }
        out.push(b']');
    }

    fn drops(self, name: &str, value: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::User => OF_USERS.iter().any(|secret| name.eq_ignore_ascii_case(secret)),
            Self::Agent => name == OF_AGENTS,
            Self::Preference { is_secret } => {
                is_secret_preference(name) || (is_secret && !is_wrapper(name) && !names_secret(value))
            }
        }
    }
}

/// Returns whether a text may name one of a user's secrets: some quote ends such a name, or a letter is escaped.
fn may_name_secret_of_user(text: &[u8]) -> bool {
    let is_name = |end: usize, name: &str| {
        let start = end.checked_sub(name.len());
        start.is_some_and(|start| text[start..end].eq_ignore_ascii_case(name.as_bytes()))
    };
    memchr_iter(b'"', text).any(|end| OF_USERS.iter().any(|name| is_name(end, name)))
        || ESCAPED_LETTER.find(text).is_some()
}

/// Appends a comma unless nothing was written since `start`.
fn separate(start: usize, out: &mut Vec<u8>) {
    if out.len() > start {
        out.push(b',');
    }
}

fn is_secret_preference(name: &str) -> bool {
    PREFERENCES.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

/// Returns whether a value is the name of a secret preference.
fn names_secret(value: &str) -> bool {
    json::as_string(value).is_some_and(|text| is_secret_preference(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(kind: &str, key: &str, text: &str) -> String {
        let mut out = Vec::new();
        Scrub::of(kind, key).write(text, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
        text
    }

    #[test]
    fn secrets_of_users_do_not_leave() {
        let user = r#"{"Name":"a","PasswordHash":"x","Secr\u0065t":"y","secret":{"b":1},"Roles":[ ]}"#;
        let left = r#"{"Name":"a","Roles":[]}"#;
        assert_eq!(written("users", "a", user), left);
        assert_eq!(written("users", "a", &format!("[{user}, 7]")), format!("[{left},7]"), "a list of users");
        for shape in [
            r#"{"model":USER,"Plugin":"p","Params":{"a":USER}}"#,
            r#"{"Users":[USER,USER],"Old":USER}"#,
            r#"{"a":{"b":[[{"c":USER}]]},"Secrets":[1,"Secret"]}"#,
            "[[USER]]",
        ] {
            let around = |user: &str| shape.replace("USER", user);
            assert_eq!(written("users", "a", &around(user)), around(left), "below any member: {shape}");
        }
        for alone in [r#"{"Old":{"Secret":"s"}}"#, r#"{"Old":{"PASSWORDHASH":[1]}}"#, r#"{"Old":{"\u0053ecret":1}}"#] {
            assert_eq!(written("users", "a", alone), r#"{"Old":{}}"#, "nothing else names one: {alone}");
        }
        assert_eq!(written("plugins", "a", left), left);
        assert!(written("plugins", "a", user).contains("PasswordHash"), "what only looks like a user's stays");
    }

    #[test]
    fn secrets_of_agents_do_not_leave() {
        let machine = r#"{"Name":"m","Secret": "s" ,"secret":"t","Params":{"Secret":"p"},"Meta":{ }}"#;
        let left = r#"{"Name":"m","secret":"t","Params":{"Secret":"p"},"Meta":{}}"#;
        for kind in ["machines", "clusters", "resource_brokers"] {
            assert_eq!(written(kind, "u", machine), left, "{kind}");
            assert_eq!(written(kind, "u", &format!("[{machine}]")), format!("[{left}]"), "{kind}");
            let action = |machine| format!(r#"{{"Model":{machine},"Plugin":"p"}}"#);
            assert_eq!(written(kind, "u", &action(machine)), action(left), "{kind}");
            assert_eq!(written(kind, "u", r#"{"Secret":"s"}"#), "{}", "{kind}");
            assert_eq!(written(kind, "u", r#"{"\u0053ecret":"s"}"#), "{}", "{kind}: escapes do not hide it");
            for plain in ["null", r#"{"Name":"Secret"}"#, r#""Secret""#, r#"{"secret":[1]}"#] {
                assert_eq!(written(kind, "u", plain), plain, "{kind}");
            }
        }
        assert!(written("jobs", "u", machine).contains("\"s\""));
    }

    #[test]
    fn secret_preferences_do_not_leave_in_any_shape() {
        let at = |key: &str, object: &str| written("preferences", key, object);
        for secret in PREFERENCES {
            let named = format!(r#"{{"Name":"{secret}"}}"#);
            for shape in [
                format!(r#"{{"Name":"{secret}","Val":"s"}}"#),
                format!(r#"{{"Val":"s","Name":"{secret}","Value":"s","Other":["s"]}}"#),
            ] {
                assert_eq!(at("k", &shape), named, "named by the object only");
                assert_eq!(at(secret, &shape), named);
                assert_eq!(
                    at("k", &format!(r#"[{shape},{{"Name":"x","Val":"y"}}]"#)),
                    format!(r#"[{named},{{"Name":"x","Val":"y"}}]"#),
                    "all in a list"
                );
                assert_eq!(at("k", &format!(r#"{{"Prefs":[{shape}]}}"#)), format!(r#"{{"Prefs":[{named}]}}"#));
                assert_eq!(
                    at("k", &format!(r#"{{"Model":{shape},"Plugin":"p"}}"#)),
                    format!(r#"{{"Model":{named},"Plugin":"p"}}"#)
                );
            }
            assert_eq!(at("k", &format!(r#"{{"{secret}":"s","x":1}}"#)), r#"{"x":1}"#, "by its name");
            assert_eq!(at("k", &format!(r#"{{"Prefs":{{"{secret}":{{"a":1}},"x":1}}}}"#)), r#"{"Prefs":{"x":1}}"#);
            assert_eq!(at("k", &format!(r#"["{secret}","s"]"#)), format!(r#"["{secret}",null]"#), "a pair");
            for value in [r#"{"Val":"s"}"#, r#"{"Value":"s"}"#, r#"{"Prefs":{"a":"s"}}"#] {
                assert_eq!(at(secret, value), "{}", "named by the key only");
            }
            assert_eq!(at(secret, r#"{"Model":{"Val":"s"}}"#), r#"{"Model":{}}"#);
            assert_eq!(at(secret, r#""s""#), "null", "the value alone");
            assert_eq!(at(secret, r#"[[["s"]]]"#), "[[[null]]]", "in lists");
        }
    }

    #[test]
    fn what_is_nested_too_deep_does_not_leave() {
        let nested = |inner: &str, levels: usize| format!("{}{inner}{}", "[".repeat(levels), "]".repeat(levels));
        let (fits, beyond) = (nested("1", 8), nested("[1]", 8));
        assert_eq!(written("preferences", "k", &fits), fits);
        assert_eq!(written("preferences", "k", &beyond), nested("null", 8));
        for kind in ["users", "machines"] {
            assert_eq!(written(kind, "k", &beyond), beyond, "{kind}: nothing to find");
        }
        for secret in [r#"{"Secret":"s"}"#, r#"[{"sEcret":"s"}]"#, r#"{"Passwordhas\u0068":"s"}"#] {
            assert_eq!(written("users", "k", &nested(secret, 8)), nested("null", 8), "{secret}");
        }
        let deep = nested("1", 100);
        assert_eq!(written("users", "k", &format!(r#"{{"a":{deep},"Secret":"s"}}"#)), format!(r#"{{"a":{deep}}}"#));
        let beside = |deep: &str| format!(r#"{{"Secret":"s","a":{}}}"#, nested(deep, 7));
        let left = |deep: &str| format!(r#"{{"a":{}}}"#, nested(deep, 7));
        for (deep, written_so) in [(r#"{"b":[2]}"#, r#"{"b":[2]}"#), (r#"{"b":{"secret":2}}"#, "null")] {
            assert_eq!(written("users", "k", &beside(deep)), left(written_so), "{deep}");
        }
    }

    #[test]
    fn other_preferences_stay_as_they_are() {
        for plain in [r#"{"Name":"defaultStage","Val":"none"}"#, r#"{"Meta":{"a":["b",{"c":null}]}}"#, "7"] {
            assert_eq!(written("preferences", "defaultStage", plain), plain);
        }
    }
}
