//! Interned strings: each distinct type, action and key of the registrations exists once and has a small number.
//!
//! An event's strings are looked up once each; a string that no registration names has no symbol, and then every
//! branch by name is skipped without a probe. Keys are UUIDs mostly, so texts up to 40 bytes stand inside the table and
//! a lookup is one place in memory. The hasher is seeded at random: clients choose these strings.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

/// The number of an interned string. Numbers are used again after the last reference is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Symbol(u32);

#[derive(Debug)]
struct Entry {
    text: SmallVec<[u8; 40]>,
    symbol: Symbol,
}

#[derive(Debug, Clone, Copy)]
struct Counted {
    hash: u64,
    references: u32,
}

/// The table of interned strings.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    hasher: DefaultHashBuilder,
    table: HashTable<Entry>,
    counts: Vec<Counted>,
    free: Vec<u32>,
}

impl Symbols {
    fn hash(&self, text: &str) -> u64 {
        self.hasher.hash_one(text.as_bytes())
    }

    /// The symbol of a string that some registration names.
    pub(super) fn get(&self, text: &str) -> Option<Symbol> {
        let found = self.table.find(self.hash(text), |entry| entry.text.as_slice() == text.as_bytes());
        found.map(|entry| entry.symbol)
    }

    /// The symbol of a string, with one more reference to it.
    pub(super) fn acquire(&mut self, text: &str) -> Symbol {
        if let Some(symbol) = self.get(text) {
            self.counts[symbol.0 as usize].references += 1;
            return symbol;
        }
        let hash = self.hash(text);
        let symbol = self.number(Counted { hash, references: 1 });
        let entry = Entry { text: SmallVec::from_slice(text.as_bytes()), symbol };
        let hasher = &self.hasher;
        self.table.insert_unique(hash, entry, |entry| hasher.hash_one(entry.text.as_slice()));
        symbol
    }

    fn number(&mut self, counted: Counted) -> Symbol {
        if let Some(free) = self.free.pop() {
            self.counts[free as usize] = counted;
            return Symbol(free);
        }
        let next = u32::try_from(self.counts.len()).expect("fewer than 4 billion distinct strings");
        self.counts.push(counted);
        Symbol(next)
    }

    /// Takes one reference back; the last one forgets the string.
    pub(super) fn release(&mut self, symbol: Symbol) {
        let counted = &mut self.counts[symbol.0 as usize];
        counted.references -= 1;
        if counted.references > 0 {
            return;
        }
        if let Ok(entry) = self.table.find_entry(counted.hash, |entry| entry.symbol == symbol) {
            entry.remove();
        }
        self.free.push(symbol.0);
        if self.table.is_empty() {
            *self = Self { hasher: self.hasher.clone(), ..Self::default() };
        }
    }

    /// How many distinct strings there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_live_as_long_as_they_are_referenced() {
        let mut symbols = Symbols::default();
        let long = "k".repeat(100);
        let a = symbols.acquire("a");
        let b = symbols.acquire(&long);
        assert_eq!(symbols.acquire("a"), a);
        assert_ne!(a, b);
        symbols.release(a);
        assert_eq!(symbols.get("a"), Some(a));
        symbols.release(a);
        assert_eq!((symbols.get("a"), symbols.get(&long)), (None, Some(b)));
        assert_eq!(symbols.acquire("c"), a, "numbers are used again");
        assert_eq!(symbols.len(), 2);
    }
}
