//! Records which types of events the clients of this node have registered for, as reported by the shards.
//!
//! Events that no client waits for need not be accepted immediately: their source may batch them for a moment
//! ([`crate::cluster`]). So interest affects when an event is accepted and never whether, and it may be reported late.
//!
//! Contract: each shard reports its own registrations after they have changed. Queries take a lock that is held
//! briefly.

use hashbrown::HashSet;
use parking_lot::RwLock;

/// The types that each shard's clients want.
#[derive(Debug, Default)]
pub struct Interest(RwLock<Vec<Kinds>>);

/// The types of one shard; `None` means any type.
type Kinds = Option<HashSet<Box<str>>>;

impl Interest {
    /// Sets the types that the clients of a shard want; `None` means any type.
    pub fn set(&self, shard: usize, kinds: Option<Vec<String>>) {
        let kinds = kinds.map(|kinds| kinds.into_iter().map(String::into_boxed_str).collect());
        let mut shards = self.0.write();
        if shards.len() <= shard {
            shards.resize_with(shard + 1, || None);
        }
        shards[shard] = kinds;
    }

    /// Returns whether some client may want events of this type; true until every shard has reported.
    pub fn wants(&self, kind: &str) -> bool {
        let shards = self.0.read();
        let may_want = |kinds: &Kinds| kinds.as_ref().is_none_or(|kinds| kinds.contains(kind));
        shards.is_empty() || shards.iter().any(may_want)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_wanted_if_one_shard_wants_it_or_has_not_told() {
        let interest = Interest::default();
        assert!(interest.wants("machines"));
        interest.set(1, Some(vec!["jobs".to_owned()]));
        assert!(interest.wants("machines"), "shard 0 may want anything");
        interest.set(0, Some(Vec::new()));
        assert!(interest.wants("jobs") && !interest.wants("machines"));
        interest.set(0, None);
        assert!(interest.wants("machines"));
    }
}
