//! The names in one field of a registration: sorted, distinct, in one string.
//!
//! A message can hold up to thirty thousand names. One allocation for all makes them cheap to copy and to free, and a
//! binary search finds a name in about fifteen steps.

use std::borrow::Cow;

/// A sorted list of distinct names in one allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    text: Box<str>,
    /// The end offset of each name.
    ends: Box<[u32]>,
}

impl List {
    /// Creates a list: sorts the names and removes duplicates.
    pub(super) fn of(mut names: Vec<Cow<'_, str>>) -> Self {
        names.sort_unstable();
        names.dedup();
        let mut text = String::with_capacity(names.iter().map(|name| name.len()).sum());
        let end = |name: &Cow<'_, str>| {
            text.push_str(name);
            u32::try_from(text.len()).expect("a registration is shorter than 4 GB")
        };
        let ends = names.iter().map(end).collect();
        Self { text: text.into(), ends }
    }

    /// Returns the number of names.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn get(&self, at: usize) -> &str {
        let begin = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[begin as usize..self.ends[at] as usize]
    }

    /// Returns the names in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|at| self.get(at))
    }

    /// Returns whether the list contains a name.
    pub fn contains(&self, name: &str) -> bool {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            match self.get(middle).cmp(name) {
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_nothing_else() {
        let names: Vec<String> = (0..100).map(|n| format!("n{}", n * 37 % 100)).collect();
        let list = List::of(names.iter().chain(&names).map(|name| name.as_str().into()).collect());
        assert_eq!(list.len(), 100);
        assert!(names.iter().all(|name| list.contains(name)) && list.iter().is_sorted());
        assert!(["", "n", "n1000", "o"].iter().all(|name| !list.contains(name)));
        let list = List::of(vec!["".into(), "a".into()]);
        assert!(list.contains("") && list.contains("a") && !list.contains("b"));
        assert!(List::of(Vec::new()).is_empty());
    }
}
