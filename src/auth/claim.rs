//! Claims: (scope, action, specific), what they contain and how they are written.
//!
//! Contract: pure. Each part is `*`, a value or a comma list. Containment is DRP's (`docs/security.md`, "Claims") with
//! one difference: no part is expanded by a table of known scopes, so an unknown scope is contained only in `*` or in
//! itself. DRP drops unknown scopes while it compiles, and what has been dropped is contained in everything.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// The reason why a text is not a claim.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ClaimError {
    /// Fewer than three parts.
    #[error("{text:?} is not a claim: expected SCOPE/ACTION/SPECIFIC, such as machines/get,list/*")]
    Parts {
        /// The given text, truncated to 64 characters.
        text: String,
    },
    /// A scope or an action has an empty element.
    #[error("the {part} of a claim has an empty element: {text:?}")]
    Empty {
        /// `scope` or `action`.
        part: &'static str,
        /// The given text, truncated to 64 characters.
        text: String,
    },
}

/// One part of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Terms {
    /// Any value: `*`.
    Any,
    /// Only these values, sorted and without duplicates.
    Only(Box<[Box<str>]>),
}

impl Terms {
    /// Parses `*`, a value or a comma list. Trims blanks around commas; a list that contains `*` is `*`.
    pub fn parse(text: &str) -> Self {
        let mut terms: Vec<Box<str>> = text.split(',').map(|term| term.trim().into()).collect();
        if terms.iter().any(|term| term.as_ref() == "*") {
            return Self::Any;
        }
        terms.sort_unstable();
        terms.dedup();
        Self::Only(terms.into())
    }

    /// Returns the terms that have every value of these.
    pub(super) fn all<'t>(lists: impl Iterator<Item = &'t Self>) -> Self {
        let mut terms = Vec::new();
        for list in lists {
            let Self::Only(values) = list else { return Self::Any };
            terms.extend(values.iter().cloned());
        }
        terms.sort_unstable();
        terms.dedup();
        Self::Only(terms.into())
    }

    /// Creates terms of exactly one value, whatever characters it has.
    pub fn one(value: &str) -> Self {
        Self::Only(Box::new([value.into()]))
    }

    fn list(&self) -> &[Box<str>] {
        match self {
            Self::Any => &[],
            Self::Only(terms) => terms,
        }
    }

    /// Returns whether a value is one of these.
    pub fn has(&self, value: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(terms) => terms.binary_search_by(|term| (**term).cmp(value)).is_ok(),
        }
    }

    /// Returns the number of values; zero for any.
    fn count(&self) -> usize {
        self.list().len()
    }

    /// Returns whether every value of `wanted` is one of these, or is in one of them by `within`.
    fn contain(&self, wanted: &Self, within: impl Fn(&str, &str) -> bool) -> bool {
        match (self, wanted) {
            (Self::Any, _) => true,
            (Self::Only(_), Self::Any) => false,
            (Self::Only(have), Self::Only(wanted)) => {
                wanted.iter().all(|w| self.has(w) || have.iter().any(|h| within(h, w)))
            }
        }
    }

    fn check(&self, part: &'static str, text: &str) -> Result<(), ClaimError> {
        if self.list().iter().any(|term| term.is_empty()) {
            return Err(ClaimError::Empty { part, text: cut(text) });
        }
        Ok(())
    }
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Only(terms) => f.write_str(&terms.join(",")),
        }
    }
}

/// Permission for some actions on some objects of some types. Each part is `*`, one value or a comma list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim {
    /// Object types, such as `machines`.
    pub scope: Terms,
    /// Actions, such as `get` or `update:/Meta`.
    pub action: Terms,
    /// Keys of objects.
    pub specific: Terms,
}

impl Claim {
    /// Creates a claim from its three parts.
    ///
    /// # Errors
    /// [`ClaimError::Empty`] if the scope or the action has an empty element.
    pub fn new(scope: &str, action: &str, specific: &str) -> Result<Self, ClaimError> {
        let claim = Self::of(scope, action, specific);
        claim.scope.check("scope", scope)?;
        claim.action.check("action", action)?;
        Ok(claim)
    }

    /// Creates a claim from parts that are known to be valid.
    pub(super) fn of(scope: &str, action: &str, specific: &str) -> Self {
        Self { scope: Terms::parse(scope), action: Terms::parse(action), specific: Terms::parse(specific) }
    }

    /// Returns the claim `*/*/*`.
    pub fn everything() -> Self {
        Self { scope: Terms::Any, action: Terms::Any, specific: Terms::Any }
    }

    /// Returns whether this is `*/*/*`.
    pub fn is_everything(&self) -> bool {
        (&self.scope, &self.action, &self.specific) == (&Terms::Any, &Terms::Any, &Terms::Any)
    }

    /// Returns whether a holder of this claim also holds `wanted`.
    pub fn contains(&self, wanted: &Self) -> bool {
        self.scope.contain(&wanted.scope, |_, _| false)
            && self.action.contain(&wanted.action, action_contains)
            && self.specific.contain(&wanted.specific, |_, _| false)
    }

    /// Returns whether it shows an event. `names` are the event's Key and any other names that a specific may match.
    pub(super) fn shows<'n>(&self, kind: &str, action: &str, mut names: impl Iterator<Item = &'n str>) -> bool {
        self.scope.has(kind) && self.shows_action(action) && names.any(|name| self.specific.has(name))
    }

    /// Returns whether its action shows events of this action: a caller who may read an object may see its events.
    pub(super) fn shows_action(&self, action: &str) -> bool {
        self.action.has("get") || self.action.has(action)
    }

    /// Returns the number of names that it lists.
    pub(super) fn names(&self) -> usize {
        self.scope.count() + self.action.count() + self.specific.count()
    }

    /// Returns the number of pairs of scope and action that show different events; `*` is one.
    pub(super) fn pairs(&self) -> usize {
        let actions = if self.action.has("get") { 1 } else { self.action.count() };
        self.scope.count().max(1).saturating_mul(actions)
    }

    /// Returns the number of combinations of its parts that show different events.
    pub(super) fn combinations(&self) -> usize {
        self.pairs().saturating_mul(self.specific.count().max(1))
    }
}

/// Returns whether action `have` contains the different action `wanted`. `action` contains `action:x`; `update` and
/// `update:` contain `update:/pointer`; `update:/pointer` contains the pointers below it.
fn action_contains(have: &str, wanted: &str) -> bool {
    if wanted.starts_with("action:") {
        return have == "action";
    }
    let Some(pointer) = wanted.strip_prefix("update:") else { return false };
    if have == "update" {
        return true;
    }
    let Some(above) = have.strip_prefix("update:") else { return false };
    pointer.strip_prefix(above).is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

impl FromStr for Claim {
    type Err = ClaimError;

    /// Parses `SCOPE/ACTION/SPECIFIC`. A specific may contain slashes (`params/get/net/mtu`). So may an action with a
    /// colon (`machines/update:/Meta/color/UUID`): the specific is then what follows the last slash.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = || ClaimError::Parts { text: cut(text) };
        let (scope, rest) = text.split_once('/').ok_or_else(parts)?;
        let (action, specific) = rest.split_once('/').ok_or_else(parts)?;
        if action.contains(':') {
            let (action, specific) = rest.rsplit_once('/').ok_or_else(parts)?;
            return Self::new(scope, action, specific);
        }
        Self::new(scope, action, specific)
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.scope, self.action, self.specific)
    }
}

/// A claim as DRP writes it: three texts.
#[derive(Serialize)]
struct Table {
    scope: String,
    action: String,
    specific: String,
}

impl Serialize for Claim {
    /// Writes text if it parses back to the same claim, otherwise DRP's table of three.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.to_string();
        if text.parse().as_ref() == Ok(self) {
            return serializer.serialize_str(&text);
        }
        let table = Table {
            scope: self.scope.to_string(),
            action: self.action.to_string(),
            specific: self.specific.to_string(),
        };
        table.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ClaimVisitor)
    }
}

struct ClaimVisitor;

impl<'de> Visitor<'de> for ClaimVisitor {
    type Value = Claim;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a claim: \"SCOPE/ACTION/SPECIFIC\" or { scope, action, specific }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Claim, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claim, A::Error> {
        let mut parts: [Option<String>; 3] = [None, None, None];
        while let Some(name) = map.next_key::<String>()? {
            let part = ["scope", "action", "specific"].iter().position(|part| name.eq_ignore_ascii_case(part));
            let Some(part) = part else {
                return Err(de::Error::unknown_field(&name, &["scope", "action", "specific"]));
            };
            if parts[part].replace(map.next_value()?).is_some() {
                return Err(de::Error::custom(format_args!("{name} is given twice")));
            }
        }
        let [Some(scope), Some(action), Some(specific)] = parts else {
            return Err(de::Error::custom("a claim needs scope, action and specific"));
        };
        Claim::new(&scope, &action, &specific).map_err(de::Error::custom)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(text: &str) -> Claim {
        text.parse().unwrap()
    }

    /// DRP's own table and rules, row by row, and other spellings that an attacker might try.
    #[test]
    fn containment_is_that_of_drp() {
        let table = [
            // DRP's own table.
            ("*/*/*", "machines/*/*", true),
            ("*/*/*", "*/*/*", true),
            ("*/*/*", "machines/update:/Foo,get/a,b", true),
            ("machines/*/*", "bootenvs/*/*", false),
            ("machines/delete/foo, bar", "machines/delete/foo", true),
            ("machines/update:/Foo/foo", "machines/update:/Foo/Bar/foo", true),
            ("machines/update:/Foo/foo", "machines/update://foo", false),
            ("machines/update:/Foo/foo", "machines/update:/Bar/foo", false),
            ("machines/action/foo", "machines/action:spike/foo", true),
            // Every scope that is wanted must be held.
            ("machines/*/*", "*/*/*", false),
            ("machines/*/*", "machines,bootenvs/get/*", false),
            ("machines,bootenvs/*/*", "machines,bootenvs/get/*", true),
            ("machines,bootenvs/get/*", "bootenvs/get/x", true),
            ("machines/get/*", "Machines/get/x", false),
            ("machines/get/*", "machine/get/x", false),
            // And every action in it.
            ("machines/*/*", "machines/get,update:/Foo,action:spike/*", true),
            ("machines/get,list/*", "machines/get/x", true),
            ("machines/get/*", "machines/get,list/x", false),
            ("machines/get/*", "machines/*/x", false),
            ("machines/get/*", "machines/GET/x", false),
            ("machines/get/*", "machines/getSecure/x", false),
            ("machines/getSecure/*", "machines/get/x", false),
            ("machines/update/*", "machines/updateSecure/x", false),
            ("machines/updateSecure/*", "machines/update/x", false),
            ("machines/update/*", "machines/updateSecure:/Foo/x", false),
            ("machines/get/*", "machines/get:/Foo/x", false),
            // `action` and what follows its colon.
            ("machines/action/foo", "machines/action:/foo", true),
            ("machines/action:spike/foo", "machines/action/foo", false),
            ("machines/action:spike/foo", "machines/action:spoke/foo", false),
            ("machines/action:spike/foo", "machines/action:spike:more/foo", false),
            ("machines/action:spike/foo", "machines/action:spike/foo", true),
            ("machines/action:/foo", "machines/action:spike/foo", false),
            ("machines/actions/foo", "machines/action:spike/foo", false),
            ("machines/actions/foo", "machines/action/foo", false),
            ("machines/action/foo", "machines/actions/foo", false),
            ("machines/action/foo", "machines/Action:spike/foo", false),
            // `update` and the pointers after its colon.
            ("machines/update/foo", "machines/update:/Foo/foo", true),
            ("machines/update/foo", "machines/update:/foo", true),
            ("machines/update:/foo", "machines/update:/Foo/foo", true),
            ("machines/update:/foo", "machines/update://foo", true),
            ("machines/update:/foo", "machines/update/foo", false),
            ("machines/update:/Foo/foo", "machines/update:/Foo/foo", true),
            ("machines/update:/Foo/foo", "machines/update:/Foo//foo", true),
            ("machines/update:/Foo//foo", "machines/update:/Foo/foo", false),
            ("machines/update:/Foo//foo", "machines/update:/Foo/Bar/foo", false),
            ("machines/update:/Foo/foo", "machines/update:/Foobar/foo", false),
            ("machines/update:/Foo/foo", "machines/update:/foo/foo", false),
            ("machines/update:/a/foo", "machines/update:/a~1b/foo", false),
            ("machines/update:/a~1b/foo", "machines/update:/a/b/foo", false),
            ("machines/update:/Foo/foo", "machines/update:/Foo/../Bar/foo", true),
            ("machines/update://foo", "machines/update:/Foo/foo", false),
            ("machines/update:/Foo/foo", "machines/update/foo", false),
            ("machines/update:/Foo/foo", "machines/update:/foo", false),
            // A list of keys contains its subsets; only `*` contains `*`.
            ("machines/delete/foo,bar", "machines/delete/bar,foo", true),
            ("machines/delete/foo", "machines/delete/foo,bar", false),
            ("machines/delete/foo", "machines/delete/*", false),
            ("machines/delete/foo,*", "machines/delete/anything", true),
            ("machines/delete/foo", "machines/delete/foo,*", false),
            ("machines/delete/foo", "machines/delete/Foo", false),
            ("machines/delete/foo", "machines/delete/", false),
            ("machines/delete/", "machines/delete/", true),
            ("machines/delete/", "machines/delete/foo", false),
            ("machines/delete/foo*", "machines/delete/foobar", false),
            ("machines/delete/foo,,foo", "machines/delete/foo", true),
            // A type or action unknown to DRP is contained only in itself and in `*`; DRP drops it.
            ("beeblebrox/*/*", "beeblebrox/created/x", true),
            ("machines/*/*", "beeblebrox/created/x", false),
            ("machines/get/*", "machines/beeblebrox/x", false),
            ("machines/beeblebrox/*", "machines/beeblebrox/x", true),
            ("machines/*/*", "machines/beeblebrox/x", true),
            ("*/get/*", "beeblebrox/get/x", true),
        ];
        for (have, wanted, expected) in table {
            assert_eq!(claim(have).contains(&claim(wanted)), expected, "{have} contains {wanted}");
        }
    }

    #[test]
    fn odd_spellings_are_what_they_seem() {
        let of = |scope, action, specific| Claim::new(scope, action, specific).unwrap();
        let one = of(" machines ,machines", "get\t,\nget", "foo , bar");
        assert!(one == of("machines", "get", "bar,foo") && one.contains(&of("machines", "get", " bar")));
        assert!(of("machines, * ", "*,get", " *").is_everything());
        // A star within a word, or a character that only looks like a star, is not `*`.
        for scope in ["**", "m*", "\u{2217}", "\u{ff0a}", "%2a", "\\*"] {
            assert!(!of(scope, "*", "*").contains(&of("machines", "get", "x")), "{scope}");
            assert!(!of("machines", "*", scope).contains(&of("machines", "get", "x")), "{scope}");
        }
        // Invisible and look-alike characters make a different word.
        for scope in ["machines\0", "machines\u{200b}", "m\u{430}chines", "machines/", "\"machines\""] {
            assert!(!of("machines", "*", "*").contains(&of(scope, "get", "x")), "{scope:?}");
        }
        assert!(
            !of("machines", "get", "a").contains(&Claim { specific: Terms::one("a,a"), ..of("machines", "get", "a") })
        );
        assert!(
            !of("machines", "get", "a").contains(&Claim { specific: Terms::one("*"), ..of("machines", "get", "a") })
        );
    }

    #[test]
    fn text_is_split_where_a_reader_would() {
        let parts = |text: &str| {
            let c = claim(text);
            [c.scope.to_string(), c.action.to_string(), c.specific.to_string()]
        };
        assert_eq!(parts("machines/get,list/*"), ["machines", "get,list", "*"]);
        assert_eq!(parts("params/get/net/mtu"), ["params", "get", "net/mtu"]);
        assert_eq!(parts("machines/update:/Meta/color/u1"), ["machines", "update:/Meta/color", "u1"]);
        assert_eq!(parts(" a , b /get/ x , y "), ["a,b", "get", "x,y"]);
        assert_eq!(parts("info/get/"), ["info", "get", ""]);
        for bad in ["", "machines", "machines/get", "/get/*", "machines//*", "machines/get,/*"] {
            assert!(bad.parse::<Claim>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_claim_is_written_so_that_it_reads_back() {
        let odd = Claim::new("params", "update:/Meta", "net/mtu").unwrap();
        for c in [claim("machines/get,list/*"), claim("params/get/net/mtu"), odd] {
            let text = serde_json::to_string(&c).unwrap();
            assert_eq!(serde_json::from_str::<Claim>(&text).unwrap(), c, "{text}");
        }
        let drp = r#"{"Scope":"machines","action":"get","specific":"*"}"#;
        assert_eq!(serde_json::from_str::<Claim>(drp).unwrap(), claim("machines/get/*"));
        for bad in
            [r#"{"scope":"a","action":"b"}"#, r#"{"scope":"a","action":"b","specific":"c","x":1}"#, "7", "\"a/b\""]
        {
            assert!(serde_json::from_str::<Claim>(bad).is_err(), "{bad}");
        }
    }
}
