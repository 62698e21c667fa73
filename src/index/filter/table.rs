//! Records where the members of an object and the elements of an array are in the text.
//!
//! A table is built at most once per event and object, when the first of its fields is needed; every further field is
//! one probe. Tables of one event share their memory, which is reused for the next one. The caller says which names it
//! may look up ([`Wanted`]): most members of a large object are none of these and are skipped without being hashed.
//! Elements of an array are recorded when one of them is looked up, up to that one: an array may have millions.
//!
//! Contract: compact valid JSON. If several members have a wanted name, the last one is found.

use std::hash::{BuildHasher, Hasher};

use hashbrown::DefaultHashBuilder;

use super::canonical::decode;
use super::scan::Scanner;

/// A range of the event's text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: offset(start), end: offset(end) }
    }

    /// Returns the bytes of `text` in this range.
    pub(super) fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("an event is bounded far below 4 GiB at the intake")
}

/// The names that may be looked up in a table: a bit for each of 64 kinds of names. It always contains the wanted
/// names, and rarely others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wanted(u64);

impl Wanted {
    /// All names.
    pub(super) const ALL: Self = Self(!0);

    /// Adds a name.
    pub(super) fn add(&mut self, name: &str) {
        self.0 |= Self::bit(name.as_bytes());
    }

    fn has(self, name: &[u8]) -> bool {
        self.0 & Self::bit(name) != 0
    }

    /// Returns the bit for a name, by length, first and last byte: fast, and rarely equal for two fields of one object.
    fn bit(name: &[u8]) -> u64 {
        let (first, last) = (name.first().copied().unwrap_or(0), name.last().copied().unwrap_or(0));
        1 << ((name.len() + usize::from(first) * 7 + usize::from(last) * 29) % 64)
    }
}

/// One member or element.
#[derive(Clone, Copy)]
struct Entry {
    /// The hash of the decoded name.
    hash: u32,
    /// The previous entry in the same bucket, as a distance from the table's first; [`NONE`] at the end.
    next: u32,
    /// The offset of the name's opening quote.
    name: u32,
    value: Span,
}

/// The part of [`Tables`] that belongs to one object or array.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    first: u32,
    count: u32,
    /// The offset of its buckets; their number is a power of two, or zero for a short table.
    buckets: u32,
    mask: u32,
    array: bool,
}

impl Table {
    /// Returns whether its entries are elements and not members.
    pub(super) fn is_array(self) -> bool {
        self.array
    }

    /// Returns the number of elements that were recorded so far.
    pub(super) fn elements(self) -> usize {
        if self.array { self.count as usize } else { 0 }
    }
}

const NONE: u32 = u32::MAX;
/// Up to this many members a scan of the hashes is as fast as buckets.
const SHORT: u32 = 8;
/// Entries whose memory is kept between events; after a larger event it is freed.
const KEPT: usize = 1 << 16;

/// The tables of one event.
#[derive(Default)]
pub(super) struct Tables {
    entries: Vec<Entry>,
    buckets: Vec<u32>,
    hasher: DefaultHashBuilder,
}

impl Tables {
    /// Forgets the event.
    pub(super) fn reset(&mut self) {
        self.entries.clear();
        self.buckets.clear();
        if self.entries.capacity() > KEPT {
            self.entries = Vec::new();
            self.buckets = Vec::new();
        }
    }

    /// Returns the hash for looking up a name.
    pub(super) fn hash(&self, name: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(name);
        u32::try_from(hasher.finish() & u64::from(u32::MAX)).expect("masked")
    }

    /// Builds the table of the value at `start`. Returns it with the offset of the value's end. That of an array has no
    /// elements yet; see [`Tables::extend`].
    pub(super) fn build(&mut self, text: &[u8], start: usize, wanted: Wanted, scanner: &mut Scanner) -> (Table, usize) {
        match text.get(start) {
            Some(b'{') => self.build_object(text, start, wanted, scanner),
            Some(b'[') => (Table { array: true, ..self.table(self.entries.len()) }, value_end(text, start, scanner)),
            _ => (self.table(self.entries.len()), value_end(text, start, scanner)),
        }
    }

    fn build_object(&mut self, text: &[u8], start: usize, wanted: Wanted, scanner: &mut Scanner) -> (Table, usize) {
        let first = self.entries.len();
        let mut at = start + 1;
        while text.get(at) == Some(&b'"') {
            at = self.member(text, at, wanted, scanner);
            if text.get(at) != Some(&b',') {
                break;
            }
            at += 1;
        }
        let mut table = self.table(first);
        self.chain(&mut table);
        (table, text.len().min(at + 1))
    }

    /// Records one member, if it is wanted, and returns where it ends.
    #[inline]
    fn member(&mut self, text: &[u8], at: usize, wanted: Wanted, scanner: &mut Scanner) -> usize {
        let quote = scanner.quote(text, at + 1);
        // Compact JSON: the quote, a colon, the value.
        let start = quote + 2;
        let end = value_end(text, start, scanner);
        let Some(name) = text.get(at + 1..quote) else { return end };
        if wanted.has(name) || (scanner.seen_backslash() && name.contains(&b'\\')) {
            let hash = self.hash(&decode(text.get(at..=quote).unwrap_or_default()));
            self.entries.push(Entry { hash, next: NONE, name: offset(at), value: Span::new(start.min(end), end) });
        }
        end
    }

    /// Records more elements of the array at `start`: up to that at `index`, if there are so many, or twice as many as
    /// so far. Returns the new table.
    pub(super) fn extend(
        &mut self,
        text: &[u8],
        start: usize,
        table: Table,
        index: usize,
        scanner: &mut Scanner,
    ) -> Table {
        let next = |end: usize| if text.get(end) == Some(&b',') { end + 1 } else { end };
        let mut at = self.entries(table).last().map_or(start + 1, |last| next(last.value.end as usize));
        let is_element = |at: usize| text.get(at).is_some_and(|byte| *byte != b']');
        if !is_element(at) {
            return table;
        }
        let (mut first, count) = (table.first as usize, table.elements());
        if first + count < self.entries.len() {
            // Other tables were built since. By doubling, each element is moved twice at most, on average.
            let known = first..first + count;
            first = self.entries.len();
            self.entries.extend_from_within(known);
        }
        let wanted = index.saturating_add(1).max(2 * count);
        while self.entries.len() - first < wanted && is_element(at) {
            let end = value_end(text, at, scanner);
            self.entries.push(Entry { hash: 0, next: NONE, name: 0, value: Span::new(at, end) });
            at = next(end);
        }
        Table { array: true, ..self.table(first) }
    }

    /// Records the members before the one named `stop`. Returns the table with the offset of that member's value.
    pub(super) fn build_until(
        &mut self,
        text: &[u8],
        start: usize,
        stop: &[u8],
        scanner: &mut Scanner,
    ) -> (Table, usize) {
        let first = self.entries.len();
        let mut at = start + 1;
        while text.get(at) == Some(&b'"') && !text[at..].starts_with(stop) {
            at = self.member(text, at, Wanted::ALL, scanner) + 1;
        }
        (self.table(first), text.len().min(at + stop.len()))
    }

    /// Returns the table of all entries from `first` on, without buckets.
    fn table(&self, first: usize) -> Table {
        Table { first: offset(first), count: offset(self.entries.len() - first), buckets: 0, mask: 0, array: false }
    }

    /// Sorts the members of a long table into buckets.
    fn chain(&mut self, table: &mut Table) {
        if table.count <= SHORT {
            return;
        }
        let size = (table.count as usize).next_power_of_two();
        table.buckets = offset(self.buckets.len());
        table.mask = offset(size - 1);
        self.buckets.resize(self.buckets.len() + size, NONE);
        let buckets = &mut self.buckets[table.buckets as usize..];
        for (position, entry) in self.entries[table.first as usize..].iter_mut().enumerate() {
            let bucket = &mut buckets[(entry.hash & table.mask) as usize];
            entry.next = std::mem::replace(bucket, offset(position));
        }
    }

    /// Returns the value of the last member named `name`.
    pub(super) fn member_named(&self, text: &[u8], table: Table, name: &[u8], hash: u32) -> Option<Span> {
        let entries = self.entries(table);
        let is = |entry: &Entry| entry.hash == hash && named(text, entry, name);
        if table.mask == 0 {
            return entries.iter().rev().find(|entry| is(entry)).map(|entry| entry.value);
        }
        let mut at = self.buckets[(table.buckets + (hash & table.mask)) as usize];
        while let Some(entry) = entries.get(at as usize) {
            if is(entry) {
                return Some(entry.value);
            }
            at = entry.next;
        }
        None
    }

    /// Returns the element at `index`.
    pub(super) fn element(&self, table: Table, index: usize) -> Option<Span> {
        self.entries(table).get(index).map(|entry| entry.value)
    }

    fn entries(&self, table: Table) -> &[Entry] {
        &self.entries[table.first as usize..(table.first + table.count) as usize]
    }
}

fn named(text: &[u8], entry: &Entry, name: &[u8]) -> bool {
    // The value starts two bytes after the name's closing quote: `":`.
    let quoted = text.get(entry.name as usize..entry.value.start as usize - 1).unwrap_or_default();
    *decode(quoted) == *name
}

/// Returns the offset after the value that starts at `start`.
#[inline]
pub(super) fn value_end(text: &[u8], start: usize, scanner: &mut Scanner) -> usize {
    let end = match text.get(start) {
        Some(b'"') => scanner.quote(text, start + 1) + 1,
        Some(b'{' | b'[') => scanner.close(text, start) + 1,
        Some(_) => {
            let ends = |b: &u8| matches!(b, b',' | b'}' | b']');
            // At least one byte, so that a walk makes progress even on invalid JSON.
            start + 1 + text[start + 1..].iter().position(ends).unwrap_or(text.len() - start - 1)
        }
        None => text.len(),
    };
    end.min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, wanted: &[&str], name: &str) -> Option<String> {
        let (mut tables, mut scanner, mut set) = (Tables::default(), Scanner::default(), Wanted::default());
        wanted.iter().for_each(|name| set.add(name));
        let (table, end) = tables.build(text.as_bytes(), 0, set, &mut scanner);
        assert_eq!(end, text.len());
        let span = tables.member_named(text.as_bytes(), table, name.as_bytes(), tables.hash(name.as_bytes()))?;
        Some(String::from_utf8(span.of(text.as_bytes()).to_vec()).unwrap())
    }

    #[test]
    fn wanted_members_are_found_and_the_last_of_a_name_counts() {
        let text = r#"{"":0,"a":1,"b":{"a":2},"a":[3,"}"],"long name":"x,","n":-4.5}"#;
        let all = ["", "a", "b", "long name", "n", "missing"];
        let expected = [Some("0"), Some("[3,\"}\"]"), Some("{\"a\":2}"), Some("\"x,\""), Some("-4.5"), None];
        for (name, expected) in all.into_iter().zip(expected) {
            assert_eq!(find(text, &[name], name).as_deref(), expected, "{name:?} alone");
            assert_eq!(find(text, &all, name).as_deref(), expected, "{name:?} among others");
        }
    }

    #[test]
    fn a_name_with_escapes_is_found_by_what_it_means() {
        assert_eq!(find(r#"{"a":1,"\u0061":2}"#, &["a"], "a").as_deref(), Some("2"));
        assert_eq!(find(r#"{"\u0061b":1,"x":2}"#, &["ab", "x"], "ab").as_deref(), Some("1"));
    }

    #[test]
    fn a_long_object_finds_each_of_its_members() {
        let members: Vec<String> = (0..300).map(|n| format!("\"name-{n}\":{n}")).collect();
        let text = format!("{{{}}}", members.join(","));
        let names: Vec<String> = (0..300).map(|n| format!("name-{n}")).collect();
        let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
        for n in [0, 1, 63, 64, 150, 299] {
            assert_eq!(find(&text, &wanted, &names[n]), Some(n.to_string()));
        }
    }

    #[test]
    fn what_nobody_asks_for_is_not_written_down() {
        let text = r#"{"Stage":"a","Workflow":"b","Params":{}}"#;
        let mut tables = Tables::default();
        let mut wanted = Wanted::default();
        wanted.add("Params");
        let (table, _) = tables.build(text.as_bytes(), 0, wanted, &mut Scanner::default());
        assert_eq!(table.count, 1);
    }

    #[test]
    fn elements_are_written_down_up_to_the_last_that_somebody_asks_for() {
        let text = format!("[{}[7]]", "0,".repeat(10_000));
        let (mut tables, mut scanner) = (Tables::default(), Scanner::default());
        let (mut table, end) = tables.build(text.as_bytes(), 0, Wanted::default(), &mut scanner);
        assert_eq!((table.elements(), tables.entries.len(), end), (0, 0, text.len()));
        let expected = [(0, 1), (1, 2), (2, 4), (20, 21), (5_000, 5_001), (5_001, 10_001), (10_001, 10_001)];
        for (round, (index, recorded)) in expected.into_iter().enumerate() {
            table = tables.extend(text.as_bytes(), 0, table, index, &mut scanner);
            assert_eq!(table.elements(), recorded, "for {index}");
            let value = tables.element(table, index).map(|span| span.of(text.as_bytes()));
            let expected: Option<&[u8]> = if index < 10_000 { Some(b"0") } else { None };
            assert_eq!(value, expected);
            if round % 2 == 0 {
                // The table of another object comes behind.
                tables.build(b"{\"a\":1}", 0, Wanted::ALL, &mut Scanner::default());
            }
        }
        let last = tables.element(table, 10_000).map(|span| span.of(text.as_bytes()));
        assert_eq!(last, Some(&b"[7]"[..]));
        assert!(tables.entries.len() < 25_000, "{}", tables.entries.len());
        let (empty, _) = tables.build(b"[]", 0, Wanted::ALL, &mut Scanner::default());
        assert_eq!(tables.extend(b"[]", 0, empty, 7, &mut Scanner::default()).elements(), 0);
    }
}
