//! Interned strings: each distinct type, action and key of the registrations exists once and has a small number.
//!
//! The strings of an event are hashed and looked up once each. A string that no registration names has no symbol, and
//! every branch by name is then skipped without a probe. The same hash leads through the trie, so its tables can be
//! probed before the symbol has arrived from memory; the symbol only confirms what was found. Keys are mostly UUIDs,
//! so texts up to 40 bytes are stored in the table, each in a cache line of its own. The hasher is seeded randomly,
//! because clients choose these strings.

use std::hash::{BuildHasher, Hasher};
use std::num::NonZeroU32;

use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

/// The number of an interned string. Reused after the last reference is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Symbol(NonZeroU32);

impl Symbol {
    fn numbered(at: usize) -> Self {
        let number = u32::try_from(at + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("fewer than 4 billion distinct strings"))
    }

    fn at(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A string of an event: its hash, and its symbol if some registration names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub(super) hash: u64,
    pub(super) symbol: Option<Symbol>,
}

/// One cache line, so that a lookup waits for memory once.
#[derive(Debug)]
#[repr(align(64))]
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
    free: Vec<Symbol>,
}

impl Symbols {
    fn hash(&self, text: &str) -> u64 {
        // Hashes the bytes alone: strings are only compared with each other, so no terminator is needed.
        let mut hasher = self.hasher.build_hasher();
        hasher.write(text.as_bytes());
        hasher.finish()
    }

    /// Returns the hash of the string with this symbol.
    pub(super) fn hash_of(&self, symbol: Symbol) -> u64 {
        self.counts[symbol.at()].hash
    }

    /// Returns the string with this symbol, or `None` if it is not UTF-8.
    pub(super) fn text(&self, symbol: Symbol) -> Option<&str> {
        let entry = self.table.find(self.hash_of(symbol), |entry| entry.symbol == symbol)?;
        std::str::from_utf8(&entry.text).ok()
    }

    /// Looks up a string of an event.
    pub(super) fn name(&self, text: &str) -> Name {
        let hash = self.hash(text);
        Name { hash, symbol: self.get(text, hash) }
    }

    fn get(&self, text: &str, hash: u64) -> Option<Symbol> {
        let found = self.table.find(hash, |entry| entry.text.as_slice() == text.as_bytes());
        found.map(|entry| entry.symbol)
    }

    /// Returns the symbol of a string and adds a reference to it.
    pub(super) fn acquire(&mut self, text: &str) -> Symbol {
        let hash = self.hash(text);
        if let Some(symbol) = self.get(text, hash) {
            self.counts[symbol.at()].references += 1;
            return symbol;
        }
        let symbol = self.number(Counted { hash, references: 1 });
        let entry = Entry { text: SmallVec::from_slice(text.as_bytes()), symbol };
        let counts = &self.counts;
        self.table.insert_unique(hash, entry, |entry| counts[entry.symbol.at()].hash);
        symbol
    }

    /// Adds a reference to an interned string.
    pub(super) fn retain(&mut self, symbol: Symbol) {
        self.counts[symbol.at()].references += 1;
    }

    fn number(&mut self, counted: Counted) -> Symbol {
        if let Some(free) = self.free.pop() {
            self.counts[free.at()] = counted;
            return free;
        }
        self.counts.push(counted);
        Symbol::numbered(self.counts.len() - 1)
    }

    /// Removes a reference, and the string with its last reference.
    pub(super) fn release(&mut self, symbol: Symbol) {
        let counted = &mut self.counts[symbol.at()];
        counted.references -= 1;
        if counted.references > 0 {
            return;
        }
        if let Ok(entry) = self.table.find_entry(counted.hash, |entry| entry.symbol == symbol) {
            entry.remove();
        }
        self.free.push(symbol);
        if self.table.is_empty() {
            *self = Self { hasher: self.hasher.clone(), ..Self::default() };
        }
    }

    /// Returns the number of distinct strings.
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
        assert_eq!(symbols.hash_of(b), symbols.hash(&long));
        symbols.release(a);
        assert_eq!(symbols.name("a").symbol, Some(a));
        symbols.release(a);
        assert_eq!((symbols.name("a").symbol, symbols.name(&long).symbol), (None, Some(b)));
        assert_eq!(symbols.acquire("c"), a, "numbers are used again");
        assert_eq!(symbols.len(), 2);
    }

    #[test]
    fn an_entry_is_a_cache_line() {
        assert_eq!((size_of::<Entry>(), size_of::<Option<Symbol>>()), (64, 4));
    }
}
