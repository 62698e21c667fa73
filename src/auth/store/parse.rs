//! Parses the store's text and reports the position of every mistake.
//!
//! Contract: pure. No error shows a password hash or a secret: values that the TOML parser quotes are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::{Role, SUPERUSER, Store, TenantRow, User, UserSecret};
use crate::auth::claim::Claim;
use crate::auth::limits::RoleLimits;
use crate::auth::password::PasswordHash;
use crate::auth::principal::check_name;
use crate::overflow::{Overflow, OverflowError};

/// A mistake and its position in the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ParseError {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    users: BTreeMap<Spanned<String>, UserText>,
    #[serde(default)]
    roles: BTreeMap<Spanned<String>, RoleText>,
    #[serde(default)]
    tenants: BTreeMap<Spanned<String>, TenantText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserText {
    #[serde(default)]
    roles: Vec<Spanned<String>>,
    password: Option<PasswordHash>,
    secret: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleText {
    overflow: Option<Spanned<String>>,
    query_overflow: Option<Vec<Spanned<String>>>,
    claims: Vec<Claim>,
    #[serde(default)]
    limits: RoleLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantText {
    #[serde(default)]
    users: Vec<Spanned<String>>,
    #[serde(default)]
    members: BTreeMap<String, BTreeSet<String>>,
}

/// A mistake and its byte range in the text.
type Placed = (Range<usize>, String);

/// Parses a store.
pub(super) fn store(text: &str) -> Result<Store, ParseError> {
    let document: Document = toml::from_str(text).map_err(|e| {
        let at = e.span().map_or(0, |span| span.start);
        mistake(text, at, without_values(e.message()))
    })?;
    check(document).map_err(|(span, reason)| mistake(text, span.start, reason))
}

fn check(document: Document) -> Result<Store, Placed> {
    let mut store = Store::default();
    for (name, role) in document.roles {
        let name = role_name(name)?;
        store.roles.insert(name, self::role(role)?);
    }
    for (name, user) in document.users {
        let name = named(name)?;
        let user = self::user(&store, user)?;
        store.users.insert(name, user);
    }
    for (name, tenant) in document.tenants {
        let name = named(name)?;
        let tenant = self::tenant(&store, tenant)?;
        store.tenants.insert(name, tenant);
    }
    Ok(store)
}

fn named(name: Spanned<String>) -> Result<String, Placed> {
    check_name(name.get_ref()).map_err(|e| (name.span(), e.to_string()))?;
    Ok(name.into_inner())
}

fn role_name(name: Spanned<String>) -> Result<String, Placed> {
    if name.get_ref() == SUPERUSER {
        return Err((name.span(), super::StoreError::BuiltIn.to_string()));
    }
    named(name)
}

fn role(text: RoleText) -> Result<Role, Placed> {
    let overflow = text.overflow.as_ref().map(policy).transpose()?;
    let askable = |words: &Vec<Spanned<String>>| words.iter().map(policy).collect();
    let query_overflow = text.query_overflow.as_ref().map(askable).transpose()?;
    Ok(Role { overflow, query_overflow, claims: text.claims, limits: text.limits })
}

fn policy(word: &Spanned<String>) -> Result<Overflow, Placed> {
    word.get_ref().parse().map_err(|e: OverflowError| (word.span(), e.to_string()))
}

fn user(store: &Store, text: UserText) -> Result<User, Placed> {
    let mut roles = BTreeSet::new();
    for role in text.roles {
        if role.get_ref() != SUPERUSER && !store.roles.contains_key(role.get_ref()) {
            return Err((role.span(), format!("there is no role {:?}", role.get_ref())));
        }
        roles.insert(role.into_inner());
    }
    let secret = UserSecret::parse(text.secret.get_ref())
        .ok_or_else(|| (text.secret.span(), "secret must be at least 16 bytes in URL-safe base64".to_owned()))?;
    Ok(User { roles, password: text.password, secret })
}

fn tenant(store: &Store, text: TenantText) -> Result<TenantRow, Placed> {
    let mut users = BTreeSet::new();
    for user in text.users {
        let name = user.get_ref();
        if !store.users.contains_key(name) {
            return Err((user.span(), format!("there is no user {name:?}")));
        }
        if let Some((other, _)) = store.tenants.iter().find(|(_, tenant)| tenant.users.contains(name)) {
            return Err((user.span(), format!("user {name:?} is already in tenant {other:?}")));
        }
        users.insert(user.into_inner());
    }
    Ok(TenantRow { users, members: text.members })
}

fn mistake(text: &str, at: usize, reason: String) -> ParseError {
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1) + 1;
    ParseError { line, column, reason }
}

/// Returns the parser's message without the values that it repeats: a password in the wrong place must not be repeated.
/// Of a value that is not what was expected, only that stays: the parser puts texts into quotes, but numbers and words
/// into backticks, like the names of fields, which stay.
fn without_values(message: &str) -> String {
    let is_about_a_value = ["invalid type", "invalid value", "invalid length", "unknown variant"];
    if let Some(what) = is_about_a_value.into_iter().find(|what| message.starts_with(what)) {
        // The last one: the value may contain the same words.
        let expected = message.rsplit_once(", expected ").map_or("", |(_, expected)| expected);
        return format!("{what}, expected {}", without_quotes(expected));
    }
    without_quotes(message)
}

fn without_quotes(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for (at, piece) in message.split('"').enumerate() {
        out.push_str(if at % 2 == 0 { piece } else { "\"...\"" });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[roles.operator]
overflow = "conflate"
query_overflow = ["disconnect", "drop-oldest"]
claims = ["machines/get,list/*", { scope = "params", action = "update:/Meta", specific = "net/mtu" }]
limits = { connections = 2, posted_events_per_second = 100 }

[users.alice]
roles = ["operator", "superuser"]
password = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI"
secret = "AAAAAAAAAAAAAAAAAAAAAA"

[users."bob.b"]
secret = "AAAAAAAAAAAAAAAAAAAAAQ"

[tenants.lab]
users = ["alice"]
members = { machines = ["m1"] }
"#;

    #[test]
    fn a_good_file_is_read() {
        let store = store(GOOD).unwrap();
        assert_eq!(store.users.keys().collect::<Vec<_>>(), ["alice", "bob.b"]);
        assert!(store.users["alice"].has_password() && !store.users["bob.b"].has_password());
        assert_eq!(store.roles["operator"].claims.len(), 2);
        assert_eq!(store.roles["operator"].limits.to_string(), "connections=2,posted_events_per_second=100");
        assert_eq!(store.tenants["lab"].members["machines"].len(), 1);
    }

    #[test]
    fn what_is_written_reads_back() {
        let before = store(GOOD).unwrap();
        let text = toml::to_string(&before).unwrap();
        assert_eq!(store(&text).unwrap(), before, "{text}");
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let table = [
            ("roles = [\"operator\"", "roles = [\"opertor\"", 9, "there is no role \"opertor\""),
            ("users = [\"alice\"]", "users = [\"alise\"]", 17, "there is no user \"alise\""),
            ("[users.alice]", "[users.\"al:ice\"]", 8, "\"al:ice\" is not a name"),
            ("[roles.operator]", "[roles.superuser]", 2, "built in"),
            ("overflow = \"conflate\"", "overflow = \"drop\"", 3, "is not an overflow policy"),
            ("[\"disconnect\", ", "[\"disconect\", ", 4, "is not an overflow policy"),
            ("machines/get,list/*", "machines", 5, "is not a claim"),
            ("secret = \"AAAAAAAAAAAAAAAAAAAAAA\"", "secret = \"AAAA\"", 11, "secret must be"),
            ("secret = \"AAAAAAAAAAAAAAAAAAAAAA\"", "secre = \"AAAA\"", 11, "unknown field `secre`"),
            ("connections = 2", "connection = 2", 6, "unknown field `connection`"),
            ("connections = 2", "connections = -2", 6, "invalid value"),
            ("$argon2id", "$argon2xx", 10, "not a password hash"),
            ("[tenants.lab]", "[tenants.lab", 16, ""),
        ];
        for (from, to, line, reason) in table {
            assert!(GOOD.contains(from), "{from}");
            let mistake = store(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert_eq!(mistake.line, line, "{to}: {mistake:?}");
            assert!(mistake.reason.contains(reason), "{to}: {mistake:?}");
        }
        let twice = format!("{GOOD}\n[tenants.other]\nusers = [\"alice\"]\n");
        let mistake = store(&twice).unwrap_err();
        assert_eq!((mistake.line, mistake.reason.as_str()), (21, "user \"alice\" is already in tenant \"lab\""));
    }

    #[test]
    fn no_mistake_repeats_a_secret() {
        for (bad, expected) in [
            ("password = \"CANARY\"", "not a password hash"),
            ("password = 48151623", "invalid type, expected a string"),
            ("password = 4815.1623", "invalid type, expected a string"),
            ("password = 2048-05-16", "invalid type"),
            ("password = [48151623]", "invalid type"),
            ("roles = \"CANARY\"", "invalid type, expected a sequence"),
            ("roles = \"a\\\"CANARY, expected CANARY\"", "invalid type, expected"),
            ("roles = [48151623]", "invalid type"),
            ("secret = \"CANARY!\"", "secret must be"),
            ("secret = [\"CANARY\"]", "invalid type"),
            ("secret = 48151623", "invalid type"),
        ] {
            let text = format!("[users.alice]\n{bad}\n");
            let mistake = store(&text).unwrap_err();
            assert!(mistake.reason.contains(expected), "{bad}: {mistake:?}");
            let is_secret = |canary| mistake.reason.contains(canary);
            assert!(!["CANARY", "4815", "1623", "2048"].into_iter().any(is_secret), "{mistake:?}");
        }
    }
}
