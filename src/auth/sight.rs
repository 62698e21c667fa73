//! Claims, compiled for deciding which events they show.
//!
//! Contract: pure; [`Sight::sees`] takes no lock and allocates nothing, and its cost does not grow with the number of
//! names in the claims. An event is visible only if a single claim matches its scope, action and key. Claims can still
//! be merged into sets of keys, because there is one set for each scope and action. A claim with many pairs of scope
//! and action, and far more combinations than names, is not merged: its lists are searched by binary search. Users
//! choose the claims of their tokens, so such claims must not cost memory.

use hashbrown::{HashMap, HashSet};

use super::claim::{Claim, Terms};

/// The maximum number of combinations of scope, action and key that a claim is compiled into, as a multiple of the
/// names that it lists: a token may list a thousand in each part of a claim.
const COMPILED: usize = 8;

/// The maximum number of pairs of scope and action with which a claim is compiled anyway, whatever keys it lists: into
/// at most as many combinations for each key. Generated roles list many keys for some scopes and actions.
const PAIRS: usize = 32;

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
        for claim in claims {
            let (combinations, names) = (claim.combinations(), claim.names());
            if claim.pairs() > PAIRS && combinations > COMPILED * names {
                sight.wide.push(claim.clone());
            } else {
                sight.compiled += combinations.saturating_sub(names);
                sight.add(claim);
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

    /// However many such claims a role has.
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

    #[test]
    fn a_short_claim_is_not_compiled_into_many_names() {
        let text = [list("s", 25), list("a", 25), list("k", 25)].join("/");
        let sight = Sight::new(&[text.parse().unwrap()]);
        assert!(sight.compiled() <= COMPILED * text.split(',').count(), "{}", sight.compiled());
        assert!(sight.sees("s24", "a24", "k24", None) && !sight.sees("s24", "a24", "k25", None));
    }
}
