//! The endpoint's users, roles, tenants and preferences, as its REST answers tell them.
//!
//! Contract: pure and lenient as far as that grants nothing: unknown fields are passed over, and a claim or a row that
//! cannot be read is left out. Errors show nothing of the text, in which secrets stand.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::auth::account::{Account, TenantOf};
use crate::auth::claim::Claim;
use crate::auth::keys::Fingerprint;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UserRow {
    name: String,
    #[serde(default)]
    roles: Option<BTreeSet<String>>,
    #[serde(default)]
    secret: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleRow {
    name: String,
    #[serde(default)]
    claims: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TenantRow {
    name: String,
    #[serde(default)]
    users: Option<BTreeSet<String>>,
    #[serde(default)]
    members: Option<BTreeMap<String, Option<Vec<String>>>>,
}

/// The user of `GET users/NAME`, or the users of `GET users`.
pub fn accounts(body: &[u8]) -> Option<Vec<(String, Account)>> {
    let rows: Vec<UserRow> = if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(body).ok()?
    } else {
        vec![serde_json::from_slice(body).ok()?]
    };
    let account = |row: UserRow| {
        let fingerprint =
            row.secret.filter(|secret| !secret.is_empty()).map(|secret| Fingerprint::of(secret.as_bytes()));
        (row.name, Account { roles: row.roles.unwrap_or_default(), fingerprint })
    };
    Some(rows.into_iter().map(account).collect())
}

/// The claims of `GET roles`, by role.
pub fn roles(body: &[u8]) -> Option<BTreeMap<String, Vec<Claim>>> {
    let rows: Vec<RoleRow> = serde_json::from_slice(body).ok()?;
    let claims = |row: RoleRow| {
        let claims = row.claims.unwrap_or_default().into_iter().filter_map(|claim| self::claim(&claim)).collect();
        (row.name, claims)
    };
    Some(rows.into_iter().map(claims).collect())
}

/// A claim as DRP writes it.
pub(super) fn claim(value: &Value) -> Option<Claim> {
    let fields = value.as_object()?;
    let part = |name: &str| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1.as_str();
    Claim::new(part("scope")?, part("action")?, part("specific").unwrap_or("")).ok()
}

/// The tenants of `GET tenants`.
pub fn tenants(body: &[u8]) -> Option<BTreeMap<String, TenantOf>> {
    let rows: Vec<TenantRow> = serde_json::from_slice(body).ok()?;
    let tenant = |row: TenantRow| {
        let members = row.members.unwrap_or_default().into_iter();
        let members = members.map(|(kind, keys)| {
            let mut keys: Vec<Box<str>> = keys.unwrap_or_default().into_iter().map(Into::into).collect();
            keys.sort_unstable();
            keys.dedup();
            (kind.into(), keys.into())
        });
        (row.name, TenantOf { users: row.users.unwrap_or_default(), members: members.collect() })
    };
    Some(rows.into_iter().map(tenant).collect())
}

/// Whether this is what an endpoint answers to `GET users/NAME/token`: an object with a token. Anything may answer 200, such as a
/// maintenance page in front of the endpoint.
pub fn is_issued_token(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Issued {
        #[serde(rename = "Token")]
        token: String,
    }
    serde_json::from_slice::<Issued>(body).is_ok_and(|issued| !issued.token.is_empty())
}

/// Whether this is what an endpoint answers to `GET info`: an object that says which version of what it is.
pub fn is_info(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Info {
        version: String,
        arch: String,
        os: String,
    }
    let is_complete = |info: Info| !info.version.is_empty() && !info.arch.is_empty() && !info.os.is_empty();
    serde_json::from_slice::<Info>(body).is_ok_and(is_complete)
}

/// The preference that the endpoint's tokens are sealed with, in the answer to `GET prefs`.
pub fn base_secret(body: &[u8]) -> Option<String> {
    preference(body, "baseTokenSecret")
}

/// The preference that stands in tokens of machines.
pub fn system_secret(body: &[u8]) -> Option<String> {
    preference(body, "systemGrantorSecret")
}

/// An object of texts by name, or a list of objects with `Name` and `Val`.
fn preference(body: &[u8], name: &str) -> Option<String> {
    let text = match serde_json::from_slice(body).ok()? {
        Value::Object(all) => all.get(name)?.as_str()?.to_owned(),
        Value::Array(all) => all.iter().find(|row| row["Name"] == name)?["Val"].as_str()?.to_owned(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_drp_writes_them() {
        let one = accounts(br#"{"Name":"a","Roles":["r","r"],"Secret":"s","PasswordHash":"x","Meta":{}}"#).unwrap();
        assert_eq!((one[0].0.as_str(), one[0].1.roles.len(), one[0].1.fingerprint.is_some()), ("a", 1, true));
        let two = accounts(br#" [{"Name":"a","Roles":null},{"Name":"b","Secret":""}]"#).unwrap();
        assert!(
            two.len() == 2 && two.iter().all(|(_, account)| account.fingerprint.is_none() && account.roles.is_empty())
        );
        assert!(accounts(b"{}").is_none() && accounts(b"<html>").is_none());

        let text = br#"[{"Name":"r","Claims":[{"scope":"a","action":"get","specific":""},{"Scope":"b","Action":"*","Specific":"x"},
            {"scope":"","action":"get","specific":"*"},{"action":"get"},7]},{"Name":"none","Claims":null}]"#;
        let read: Vec<String> = roles(text).unwrap()["r"].iter().map(ToString::to_string).collect();
        assert_eq!(read, ["a/get/", "b/*/x"], "a claim that cannot be read grants nothing");

        let text = br#"[{"Name":"t","Users":["a"],"Members":{"machines":["m2","m1","m1"],"profiles":null}}]"#;
        let tenant = &tenants(text).unwrap()["t"];
        assert_eq!(tenant.members["machines"].len(), 2);
        assert!(tenant.members["profiles"].is_empty(), "a type that is listed without keys hides all of it");
    }

    #[test]
    fn only_what_an_endpoint_answers_is_believed() {
        assert!(is_issued_token(br#"{"Token":"t","Info":{}}"#));
        assert!(is_info(br#"{"arch":"amd64","os":"linux","version":"v4.12.0","id":"x"}"#));
        for other in [
            "<html>maintenance</html>",
            "",
            "{}",
            "[]",
            "null",
            "\"Token\"",
            r#"{"Token":""}"#,
            r#"{"Token":7}"#,
            r#"{"status":"ok"}"#,
        ] {
            assert!(!is_issued_token(other.as_bytes()) && !is_info(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn preferences_are_an_object_or_a_list() {
        for text in [r#"{"baseTokenSecret":"k","x":1}"#, r#"[{"Name":"baseTokenSecret","Val":"k"}]"#] {
            assert_eq!(base_secret(text.as_bytes()).as_deref(), Some("k"));
        }
        for text in ["{}", "[]", "null", r#"{"baseTokenSecret":""}"#, r#"{"baseTokenSecret":7}"#] {
            assert_eq!(base_secret(text.as_bytes()), None, "{text}");
        }
    }
}
