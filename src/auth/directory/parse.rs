//! Parses the endpoint's users, roles, tenants and preferences from its REST answers.
//!
//! Contract: pure, and lenient where leniency grants nothing: unknown fields are ignored, and a claim or row that
//! cannot be parsed is left out; [`Rows`] names such rows. A tenant whose keys cannot be parsed gets none, which hides
//! all objects of that type. Errors never quote the text, because it contains secrets.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::auth::account::{Account, TenantOf};
use crate::auth::claim::Claim;
use crate::auth::credential::Secret;
use crate::auth::keys::Fingerprint;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UserRow {
    name: String,
    #[serde(default)]
    roles: Option<BTreeSet<String>>,
    #[serde(default)]
    secret: Option<String>,
    #[serde(default)]
    created_at: Option<String>,
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
    members: Option<BTreeMap<String, Value>>,
}

/// A list from the endpoint.
#[derive(Debug, PartialEq, Eq)]
pub struct Rows<T> {
    /// Valid rows by name.
    pub good: BTreeMap<String, T>,
    /// Names of invalid rows, or `#N` with a number from zero for rows without a name.
    pub bad: Vec<String>,
}

impl<T> Rows<T> {
    fn read<R: DeserializeOwned>(body: &[u8], entry: impl Fn(R) -> (String, T)) -> Option<Self> {
        let rows: Vec<Value> = serde_json::from_slice(body).ok()?;
        let mut read = Self { good: BTreeMap::new(), bad: Vec::new() };
        for (at, row) in rows.into_iter().enumerate() {
            let name = row["Name"].as_str().map_or_else(|| format!("#{at}"), ToOwned::to_owned);
            match serde_json::from_value(row) {
                Ok(row) => read.good.extend([entry(row)]),
                Err(_) => read.bad.push(name),
            }
        }
        Some(read)
    }
}

/// Parses the user of `GET users/NAME`, or the users of `GET users`.
pub fn accounts(body: &[u8]) -> Option<Vec<(String, Account)>> {
    let rows: Vec<UserRow> = if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(body).ok()?
    } else {
        vec![serde_json::from_slice(body).ok()?]
    };
    let account = |row: UserRow| {
        let fingerprint =
            |text: Option<String>| text.filter(|text| !text.is_empty()).map(|text| Fingerprint::of(text.as_bytes()));
        let (secret, born) = (fingerprint(row.secret), fingerprint(row.created_at));
        (row.name, Account { roles: row.roles.unwrap_or_default(), fingerprint: secret, born })
    };
    Some(rows.into_iter().map(account).collect())
}

/// Parses the claims of `GET roles`, by role.
pub fn roles(body: &[u8]) -> Option<Rows<Vec<Claim>>> {
    Rows::read(body, |row: RoleRow| {
        let claims = row.claims.unwrap_or_default().into_iter().filter_map(|claim| self::claim(&claim)).collect();
        (row.name, claims)
    })
}

/// Parses a claim in DRP's format.
pub(super) fn claim(value: &Value) -> Option<Claim> {
    let fields = value.as_object()?;
    let part = |name: &str| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1.as_str();
    Claim::new(part("scope")?, part("action")?, part("specific").unwrap_or("")).ok()
}

/// Parses the tenants of `GET tenants`.
pub fn tenants(body: &[u8]) -> Option<Rows<TenantOf>> {
    Rows::read(body, |row: TenantRow| {
        let members = row.members.unwrap_or_default().into_iter();
        let members = members.map(|(kind, keys)| {
            let keys = keys.as_array().into_iter().flatten().filter_map(Value::as_str);
            let mut keys: Vec<Box<str>> = keys.map(Into::into).collect();
            keys.sort_unstable();
            keys.dedup();
            (kind.into(), keys.into())
        });
        (row.name, TenantOf { users: row.users.unwrap_or_default(), members: members.collect() })
    })
}

/// Returns whether this is an endpoint's answer to `GET users/NAME/token`: an object with a token. Other servers, such
/// as a maintenance page in front of the endpoint, may answer 200 too.
pub fn is_issued_token(body: &[u8]) -> bool {
    issued_token(body).is_some()
}

/// Returns the token in such an answer.
pub fn issued_token(body: &[u8]) -> Option<Secret> {
    #[derive(Deserialize)]
    struct Issued {
        #[serde(rename = "Token")]
        token: String,
    }
    let issued: Issued = serde_json::from_slice(body).ok()?;
    (!issued.token.is_empty()).then(|| Secret::new(issued.token))
}

/// Returns whether this is an endpoint's answer to `GET info`: an object with version, architecture and system.
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

/// Returns whether this is an answer to `GET prefs`: an object of texts by name, or a list of objects with `Name`.
pub fn is_preferences(body: &[u8]) -> bool {
    match serde_json::from_slice(body) {
        Ok(Value::Object(all)) => all.values().all(Value::is_string),
        Ok(Value::Array(all)) => all.iter().all(|row| row["Name"].is_string()),
        _ => false,
    }
}

/// Returns the preference that is the key of the endpoint's tokens, from the answer to `GET prefs`.
pub fn base_secret(body: &[u8]) -> Option<String> {
    preference(body, "baseTokenSecret")
}

/// Returns the preference that tokens of machines contain as the grantor's secret.
pub fn system_secret(body: &[u8]) -> Option<String> {
    preference(body, "systemGrantorSecret")
}

/// Returns a preference from an object of texts by name, or from a list of objects with `Name` and `Val`.
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

        let text = br#"[{"Name":"r","Claims":[{"scope":"a","action":"get","specific":""},
            {"Scope":"b","Action":"*","Specific":"x"},{"scope":"","action":"get","specific":"*"},
            {"action":"get"},7]},{"Name":"none","Claims":null}]"#;
        let read: Vec<String> = roles(text).unwrap().good["r"].iter().map(ToString::to_string).collect();
        assert_eq!(read, ["a/get/", "b/*/x"], "a claim that cannot be read grants nothing");

        let text = br#"[{"Name":"t","Users":["a"],"Members":{"machines":["m2","m1","m1"],"profiles":null}}]"#;
        let tenant = &tenants(text).unwrap().good["t"];
        assert_eq!(tenant.members["machines"].len(), 2);
        assert!(tenant.members["profiles"].is_empty(), "a type that is listed without keys hides all of it");
    }

    #[test]
    fn a_row_that_cannot_be_read_is_named_and_the_others_are_kept() {
        let text = br#"[{"Name":"a","Claims":[]},{"Name":"b","Claims":"all"},7,{"Claims":[]},{"Name":"c"}]"#;
        let Rows { good, bad } = roles(text).unwrap();
        assert_eq!(good.into_keys().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(bad, ["b", "#2", "#3"]);

        let text =
            br#"[{"Name":"t","Users":["a"],"Members":{"machines":"m1","tasks":["t1",7]}},{"Name":"u","Users":7}]"#;
        let Rows { good, bad } = tenants(text).unwrap();
        assert!(good["t"].members["machines"].is_empty(), "keys that cannot be read hide all");
        assert_eq!((good["t"].members["tasks"].len(), bad), (1, vec!["u".to_owned()]));
        assert!(roles(b"<html>").is_none() && tenants(b"{}").is_none());
    }

    /// By its name a tenant is found that hid something before.
    #[test]
    fn the_name_of_a_bad_row_is_whole() {
        let name = "t".repeat(100);
        let text = format!(r#"[{{"Name":"{name}","Users":7}}]"#);
        assert_eq!(tenants(text.as_bytes()).unwrap().bad, [name]);
    }

    #[test]
    fn preferences_are_texts_by_name() {
        for text in [r#"{"baseTokenSecret":"s","debug":"warn"}"#, "{}", r#"[{"Name":"a","Val":"b"}]"#, "[]"] {
            assert!(is_preferences(text.as_bytes()), "{text}");
        }
        for text in ["<html>", "", "null", r#""text""#, r#"{"Code":404,"Messages":[]}"#, "[7]"] {
            assert!(!is_preferences(text.as_bytes()), "{text}");
        }
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
