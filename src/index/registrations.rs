//! The registrations of one subscriber, by text.
//!
//! A sorted list and not a hash table: nearly every subscriber has a handful of registrations, and a list has no empty
//! slots. Finding one is a binary search. Adding one moves those after it, which for the 4,096 that a subscriber may
//! have by default is a copy of 160 KB at worst.

use super::filter::FilterId;
use super::filter::shrink::shrink_list;
use super::groups::Membership;
use super::places::Places;

/// Up to this length the list grows by one at a time, beyond it by doubling.
const LINEAR: usize = 8;

/// Set in the size of a wide registration; the size of a filter is smaller.
const WIDE: u32 = 1 << 31;

/// The compiled form of a registration.
#[derive(Debug)]
pub(super) struct Registration {
    /// The memberships; for a wide registration, its number.
    places: Places,
    /// A reference to the filter, if there is one; the groups rely on it.
    filter: FilterId,
    /// Bytes of the filter; 0 if there is none.
    bytes: u32,
}

impl Registration {
    /// Creates a registration in the trie. `filter` comes with its size in bytes.
    pub(super) fn new(places: Places, filter: Option<(FilterId, usize)>) -> Self {
        let (filter, bytes) = filter.unwrap_or((FilterId::NONE, 0));
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(WIDE - 1);
        Self { places, filter, bytes }
    }

    /// Creates a wide registration with this number.
    pub(super) fn wide(number: u32, filter: Option<(FilterId, usize)>) -> Self {
        let mut registration = Self::new([Membership::numbered(number)].into_iter().collect(), filter);
        registration.bytes |= WIDE;
        registration
    }

    /// Returns its memberships in groups of the trie.
    pub(super) fn memberships(&self) -> &[Membership] {
        if self.bytes & WIDE == 0 { self.places.as_slice() } else { &[] }
    }

    /// Replaces the memberships and returns the previous ones.
    pub(super) fn replace(&mut self, places: Places) -> Places {
        std::mem::replace(&mut self.places, places)
    }

    /// Returns its number if it is wide.
    pub(super) fn number(&self) -> Option<u32> {
        (self.bytes & WIDE != 0).then(|| self.places.as_slice()[0].number())
    }

    pub(super) fn filter(&self) -> Option<FilterId> {
        (self.bytes() > 0).then_some(self.filter)
    }

    /// Returns the bytes of the filter.
    pub(super) fn bytes(&self) -> usize {
        (self.bytes & !WIDE) as usize
    }
}

/// The registrations of one subscriber, sorted by text.
#[derive(Debug, Default)]
pub(super) struct Registrations(Vec<(Box<str>, Registration)>);

impl Registrations {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter_with_text(&self) -> impl Iterator<Item = (&str, &Registration)> {
        self.0.iter().map(|(text, registration)| (&**text, registration))
    }

    /// Returns the registration at an index, in the order of the texts.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Registration> {
        self.0.get_mut(at).map(|(_, registration)| registration)
    }

    /// Returns the text before an index greater than 0.
    pub(super) fn text_before(&self, at: usize) -> &str {
        &self.0[at - 1].0
    }

    /// Returns the index after a text, whether it exists or not.
    pub(super) fn behind(&self, text: &str) -> usize {
        self.find(text).map_or_else(|at| at, |at| at + 1)
    }

    /// Removes and returns the last one.
    pub(super) fn pop(&mut self) -> Option<(Box<str>, Registration)> {
        self.0.pop()
    }

    fn find(&self, text: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_ref().cmp(text))
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        self.find(text).is_ok()
    }

    /// Adds a registration, or replaces the one with the same text.
    pub(super) fn insert(&mut self, text: Box<str>, registration: Registration) {
        match self.find(&text) {
            Ok(at) => self.0[at].1 = registration,
            Err(at) => {
                if self.0.len() < LINEAR {
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, (text, registration));
            }
        }
    }

    pub(super) fn remove(&mut self, text: &str) -> Option<Registration> {
        let at = self.find(text).ok()?;
        let (_, registration) = self.0.remove(at);
        shrink_list(&mut self.0);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        Some(registration)
    }
}

impl IntoIterator for Registrations {
    type Item = (Box<str>, Registration);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration() -> Registration {
        Registration::new(Places::from_iter([]), None)
    }

    #[test]
    fn every_text_is_there_once_and_found_again() {
        let mut registrations = Registrations::default();
        let texts: Vec<String> = (0..100).map(|n| format!("a.b.{}", n * 37 % 100)).collect();
        for text in texts.iter().chain(&texts) {
            registrations.insert(text.as_str().into(), registration());
        }
        assert_eq!(registrations.len(), 100);
        for text in &texts {
            assert!(registrations.contains(text) && registrations.remove(text).is_some());
            assert!(!registrations.contains(text) && registrations.remove(text).is_none(), "{text}");
        }
        assert_eq!(registrations.0.capacity(), 0, "nothing is held for none");
    }

    #[test]
    fn three_registrations_take_the_room_of_three() {
        let mut registrations = Registrations::default();
        for text in ["c", "a", "b"] {
            registrations.insert(text.into(), registration());
        }
        assert_eq!(registrations.0.capacity(), 3);
        assert!(size_of::<(Box<str>, Registration)>() <= 40);
    }
}
