//! Which types of events clients of this node have registered for, as far as the shards have told.
//!
//! What nobody here waits for need not be taken in at once: whoever brings it may gather it for a moment
//! ([`crate::cluster`]). So this is about time and never about whether an event is taken in, and it may be told late.
//!
//! Contract: each shard tells of its own registrations after they have changed; asking takes a lock that is held for
//! moments only.

use hashbrown::HashSet;
use parking_lot::RwLock;

/// The types that each shard's clients want.
#[derive(Debug, Default)]
pub struct Interest(RwLock<Vec<Kinds>>);

/// The types of one shard; nothing where it may be any.
type Kinds = Option<HashSet<Box<str>>>;

impl Interest {
    /// The clients of a shard want these types and no others, or any.
    pub fn set(&self, shard: usize, kinds: Option<Vec<String>>) {
        let kinds = kinds.map(|kinds| kinds.into_iter().map(String::into_boxed_str).collect());
        let mut shards = self.0.write();
        if shards.len() <= shard {
            shards.resize_with(shard + 1, || None);
        }
        shards[shard] = kinds;
    }

    /// Whether some client may want events of this type. So it is before any shard has told.
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
