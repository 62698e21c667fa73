//! The child of a branch of the trie: a level or a leaf. In a file of its own so that these two do not depend on each
//! other.

/// A level's content under one name. The default is an empty one.
pub(super) trait Node: Default {
    /// Returns whether nothing is left, so that the branch can be removed.
    fn is_empty(&self) -> bool;
}
