//! Claims, compiled for deciding which events they show.
//!
//! Contract: pure; [`Sight::sees`] takes no lock and allocates nothing, and its cost does not grow with the number of
//! names in the claims. An event is visible only if a single claim matches its scope, action and key. Claims can still
//! be merged into sets of keys, because there is one set for each scope and action. A claim with far more combinations
//! than names is merged only if it has few pairs of scope and action, and not too many such claims have been merged.
//! The lists of the others are searched by binary search, because users choose the claims of their tokens, which must
//! not cost memory. Claims that differ only in their keys count as one, so that generated roles have few of them.

use std::borrow::Cow;

use hashbrown::{HashMap, HashSet};

use super::claim::{Claim, Terms};

/// The maximum number of combinations of scope, action and key that a claim is compiled into, as a multiple of the
/// names that it lists: a token may list a thousand in each part of a claim.
const COMPILED: usize = 8;

/// The maximum number of pairs of scope and action with which a claim may be compiled into more of them, up to as many
/// for each key. Generated roles list many keys for some scopes and actions.
const PAIRS: usize = 32;

/// The maximum number of combinations, beyond the names, that a set of claims has when such a claim has been compiled:
/// each takes some tenths of a microsecond and some fifty bytes.
const MOST: usize = 16_384;

/// The keys that claims name.
#[derive(Debug, Default)]
struct Keys {
    any: bool,
    listed: HashSet<Box<str>>,
}

impl Keys {
    fn add(&mut self, specific: &Terms) {
        match specific {
            Terms::Any => self.any = true,
            Terms::Only(keys) => self.listed.extend(keys.iter().cloned()),
        }
    }

    fn have(&self, key: &str, machine: Option<&str>) -> bool {
        self.any || self.listed.contains(key) || machine.is_some_and(|machine| self.listed.contains(machine))
    }
}

/// The keys that are visible in one scope, by action.
#[derive(Debug, Default)]
struct Scope {
    /// Keys of claims whose action is `*` or `get`: they show every action.
    every_action: Keys,
    by_action: HashMap<Box<str>, Keys>,
}

impl Scope {
    fn add(&mut self, action: &Terms, specific: &Terms) {
        let Terms::Only(actions) = action else { return self.every_action.add(specific) };
        if actions.iter().any(|action| action.as_ref() == "get") {
            return self.every_action.add(specific);
        }
        for action in actions {
            self.by_action.entry(action.clone()).or_default().add(specific);
        }
    }

    fn sees(&self, action: &str, key: &str, machine: Option<&str>) -> bool {
        self.every_action.have(key, machine) || self.by_action.get(action).is_some_and(|keys| keys.have(key, machine))
    }
}

/// Claims, compiled for matching events.
#[derive(Debug, Default)]
pub(super) struct Sight {
    any_scope: Scope,
    by_scope: HashMap<Box<str>, Scope>,
    /// The number of combinations in these two beyond the names of their claims.
    compiled: usize,
    /// The claims that have too many combinations.
    wide: Vec<Claim>,
}

impl Sight {
    pub(super) fn new(claims: &[Claim]) -> Self {
        let mut sight = Self::default();
        for alike in claims.chunk_by(|one, next| (&one.scope, &one.action) == (&next.scope, &next.action)) {
            let claim = merged(alike);
            let (combinations, names) = (claim.combinations(), claim.names());
            let beyond = combinations.saturating_sub(names);
            let has_room = claim.pairs() <= PAIRS && sight.compiled.saturating_add(beyond) <= MOST;
            if has_room || combinations <= COMPILED * names {
                sight.compiled += beyond;
                sight.add(&claim);
            } else {
                sight.wide.push(claim.into_owned());
            }
        }
        sight
    }

    fn add(&mut self, claim: &Claim) {
        match &claim.scope {
            Terms::Any => self.any_scope.add(&claim.action, &claim.specific),
            Terms::Only(scopes) => {
                for scope in scopes {
                    self.by_scope.entry(scope.clone()).or_default().add(&claim.action, &claim.specific);
                }
            }
        }
    }

    /// Returns the number of combinations that are compiled beyond the names of the claims.
    pub(super) fn compiled(&self) -> usize {
        self.compiled
    }

    /// Returns whether a claim shows an event. `machine` is the machine of a job.
    pub(super) fn sees(&self, kind: &str, action: &str, key: &str, machine: Option<&str>) -> bool {
        self.by_scope.get(kind).is_some_and(|scope| scope.sees(action, key, machine))
            || self.any_scope.sees(action, key, machine)
            || self.wide.iter().any(|claim| claim.shows(kind, action, names(key, machine)))
    }
}

/// Returns one claim for several that have the same scope and action.
fn merged(alike: &[Claim]) -> Cow<'_, Claim> {
    match alike {
        [only] => Cow::Borrowed(only),
        _ => Cow::Owned(Claim { specific: Terms::all(alike.iter().map(|claim| &claim.specific)), ..alike[0].clone() }),
    }
}

/// Returns the names by which a specific may match an event.
pub(super) fn names<'n>(key: &'n str, machine: Option<&'n str>) -> impl Iterator<Item = &'n str> {
    [key].into_iter().chain(machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(name: &str, n: usize) -> String {
        (0..n).map(|n| format!("{name}{n}")).collect::<Vec<_>>().join(",")
    }

    /// Each that is not compiled is looked at for every event.
    #[test]
    fn many_small_claims_are_compiled() {
        let claims: Vec<Claim> = (0..20_000).map(|n| format!("machines/update/k{n}").parse().unwrap()).collect();
        let sight = Sight::new(&claims);
        assert!(sight.wide.is_empty());
        assert!(sight.sees("machines", "update", "k19999", None) && !sight.sees("machines", "update", "k20000", None));
    }

    /// However many such claims a role has. Those of the last one would be too many if each counted.
    #[test]
    fn lists_of_keys_in_some_scopes_are_compiled() {
        for (scopes, actions, keys, claims) in [(6, 2, 10, 1000), (5, 5, 4, 90), (3, 3, 1000, 10)] {
            let start = format!("{}/{}", list("s", scopes), list("a", actions));
            let claim = |n: usize| format!("{start}/own{n},{}", list("k", keys)).parse().unwrap();
            let sight = Sight::new(&(0..claims).map(claim).collect::<Vec<_>>());
            assert!(sight.wide.is_empty(), "{start}");
            let sees = |n: usize| sight.sees("s2", "a1", &format!("own{n}"), None);
            assert!(sees(claims - 1) && !sees(claims), "{start}");
        }
    }

    /// A token of 16 KiB holds such claims, however it divides them.
    #[test]
    fn many_keys_in_many_scopes_are_not_compiled_into_many_names() {
        for (claims, keys) in [(1, 3_600), (10, 300), (100, 16)] {
            let claim = |n: usize| format!("own{n},{}/get/{}", list("s", 31), list("k", keys)).parse().unwrap();
            let claims: Vec<Claim> = (0..claims).map(claim).collect();
            let sight = Sight::new(&claims);
            assert!(sight.compiled() <= MOST, "{keys}: {}", sight.compiled());
            for (kind, key, seen) in
                [("s30", "k15", true), ("own0", "k15", true), ("s30", "own0", false), ("s31", "k15", false)]
            {
                assert_eq!(sight.sees(kind, "update", key, None), seen, "{keys}: {kind} {key}");
            }
        }
    }

    /// Each that is not compiled is looked at for every event.
    #[test]
    fn claims_that_differ_in_their_keys_only_are_looked_at_as_one() {
        let start = format!("{}/{}", list("s", 25), list("a", 25));
        let claims: Vec<Claim> = (0..1000).map(|n| format!("{start}/k{n},l{n}").parse().unwrap()).collect();
        let mut sight = Sight::new(&claims);
        assert_eq!(sight.wide.len(), 1);
        assert!(sight.sees("s24", "a24", "k999", None) && !sight.sees("s24", "a24", "k1000", None));
        let any = format!("{start}/*").parse().unwrap();
        sight = Sight::new(&[claims[0].clone(), any, claims[1].clone()]);
        assert!(sight.sees("s24", "a24", "anything", None) && !sight.sees("s24", "b", "k0", None));
    }

    #[test]
    fn a_short_claim_is_not_compiled_into_many_names() {
        let text = [list("s", 25), list("a", 25), list("k", 25)].join("/");
        let sight = Sight::new(&[text.parse().unwrap()]);
        assert!(sight.compiled() <= COMPILED * text.split(',').count(), "{}", sight.compiled());
        assert!(sight.sees("s24", "a24", "k24", None) && !sight.sees("s24", "a24", "k25", None));
    }
}
