//! What stands under a branch of the trie, a level or a leaf, so that neither file needs the other.

/// A level's content under one name. The default is an empty one.
pub(super) trait Node: Default {
    /// Whether nothing is left, so that the branch can go.
    fn is_empty(&self) -> bool;
}
