//! Navigates a text that simd-json has parsed, by the offsets of its tokens.
//!
//! simd-json records where each token begins: brackets, commas, colons, and the first byte of strings, numbers and
//! names. One pass over these bytes matches the brackets; after that a value is skipped in one step, whatever it
//! contains, and ends where the white space before the next token begins. Strings with escapes need no special case.
//!
//! Contract: a [`Value`] must be made from valid JSON with the tokens of exactly that text
//! ([`super::Validator::read`]). It finds the same parts as a scan of the text ([`super::members`],
//! [`super::elements`]). Nothing here recurses.

use super::Member;

/// Which brackets belong together. Memory that is used again for each text.
#[derive(Debug, Default)]
pub(super) struct Brackets {
    /// For each token that is an opening bracket the number of the closing one, zero for other tokens.
    closing: Vec<u32>,
    /// The brackets that are open; none between two texts, since valid ones close them all.
    open: Vec<u32>,
}

impl Brackets {
    /// Reads the tokens of a text.
    pub(super) fn read(&mut self, text: &str, offsets: &[u32]) {
        let bytes = text.as_bytes();
        self.closing.clear();
        self.closing.resize(offsets.len(), 0);
        for (token, offset) in (0_u32..).zip(offsets) {
            let byte = bytes[*offset as usize];
            // Brackets have these bits, and nothing else that a token begins with has all of them.
            if byte | 0x26 != 0x7f {
                continue;
            }
            if byte & 0x02 != 0 {
                self.open.push(token);
            } else if let Some(opening) = self.open.pop() {
                self.closing[opening as usize] = token;
            }
        }
    }

    /// The bytes of memory that are kept.
    pub(super) fn bytes(&self) -> usize {
        (self.closing.capacity() + self.open.capacity()) * size_of::<u32>()
    }
}

/// A text and its tokens, known by their numbers.
#[derive(Debug, Clone, Copy)]
struct Tokens<'t, 'p> {
    text: &'t str,
    /// Where each begins.
    offsets: &'p [u32],
    /// See [`Brackets`].
    closing: &'p [u32],
}

impl<'t> Tokens<'t, '_> {
    /// Where a token begins; the end of the text if there is none.
    fn offset(&self, token: usize) -> usize {
        self.offsets.get(token).map_or(self.text.len(), |offset| *offset as usize)
    }

    fn byte(&self, token: usize) -> Option<u8> {
        self.text.as_bytes().get(self.offset(token)).copied()
    }

    /// The token after the value that begins with this one.
    fn after(&self, token: usize) -> usize {
        let closing = self.closing.get(token).map_or(0, |closing| *closing as usize);
        closing.max(token) + 1
    }

    /// The text from one token to where the white space before another begins.
    fn cut(&self, from: usize, to: usize) -> &'t str {
        let (start, end) = (self.offset(from), self.offset(to));
        let space = self.text.as_bytes()[start..end].iter().rev().take_while(|byte| **byte <= b' ').count();
        &self.text[start..end - space]
    }
}

/// A value in a text that was read.
#[derive(Debug, Clone, Copy)]
pub struct Value<'t, 'p> {
    tokens: Tokens<'t, 'p>,
    /// Its first token.
    first: usize,
}

impl<'t, 'p> Value<'t, 'p> {
    /// The value that is the whole text.
    pub(super) fn new(text: &'t str, offsets: &'p [u32], brackets: &'p Brackets) -> Self {
        Self { tokens: Tokens { text, offsets, closing: &brackets.closing }, first: 0 }
    }

    /// The value as it stands in the text, without white space around it.
    pub fn text(&self) -> &'t str {
        self.tokens.cut(self.first, self.tokens.after(self.first))
    }

    /// The whole text that was read, white space included.
    pub(super) fn whole(&self) -> &'t str {
        self.tokens.text
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.tokens.byte(self.first) == Some(b'{')
    }

    /// Whether it is an array.
    pub fn is_array(&self) -> bool {
        self.tokens.byte(self.first) == Some(b'[')
    }

    /// Its members in the order of the text, duplicates included. Empty for anything but an object.
    pub fn members(&self) -> Members<'t, 'p> {
        Members(self.inside(self.is_object()))
    }

    /// Its elements in order. Empty for anything but an array.
    pub fn elements(&self) -> Elements<'t, 'p> {
        Elements(self.inside(self.is_array()))
    }

    /// What stands between its brackets if it has some.
    fn inside(&self, has_brackets: bool) -> Inside<'t, 'p> {
        let end = if has_brackets { self.tokens.after(self.first) - 1 } else { 0 };
        Inside { tokens: self.tokens, next: self.first + 1, end }
    }
}

/// What is still to be read of an object or an array.
#[derive(Debug, Clone)]
struct Inside<'t, 'p> {
    tokens: Tokens<'t, 'p>,
    next: usize,
    /// The closing bracket.
    end: usize,
}

impl<'t, 'p> Inside<'t, 'p> {
    fn is_over(&self) -> bool {
        self.next >= self.end
    }

    /// The value that begins with this token; it and the comma after it are read then.
    fn take(&mut self, first: usize) -> Value<'t, 'p> {
        self.next = self.tokens.after(first) + 1;
        Value { tokens: self.tokens, first }
    }
}

/// See [`Value::members`].
#[derive(Debug, Clone)]
pub struct Members<'t, 'p>(Inside<'t, 'p>);

impl<'t> Iterator for Members<'t, '_> {
    type Item = Member<'t>;

    fn next(&mut self) -> Option<Member<'t>> {
        let inside = &mut self.0;
        if inside.is_over() {
            return None;
        }
        let (name, colon) = (inside.next, inside.next + 1);
        let value = inside.take(colon + 1);
        let tokens = &inside.tokens;
        Some(Member { name: tokens.cut(name, colon), value: value.text(), offset: tokens.offset(value.first) })
    }
}

/// See [`Value::elements`].
#[derive(Debug, Clone)]
pub struct Elements<'t, 'p>(Inside<'t, 'p>);

impl<'t, 'p> Iterator for Elements<'t, 'p> {
    type Item = Value<'t, 'p>;

    fn next(&mut self) -> Option<Value<'t, 'p>> {
        let first = self.0.next;
        if self.0.is_over() { None } else { Some(self.0.take(first)) }
    }
}
