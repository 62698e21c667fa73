//! The child of a branch of the trie: a level or a leaf. A file of its own so that neither of the two needs the other.

/// A level's content under one name. The default is an empty one.
pub(super) trait Node: Default {
    /// Whether nothing is left, so that the branch can go.
    fn is_empty(&self) -> bool;
}
