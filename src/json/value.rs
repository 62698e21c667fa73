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

/// The matching of opening and closing brackets. Its memory is reused for each text.
#[derive(Debug, Default)]
pub(super) struct Brackets {
    /// For each token that is an opening bracket, the number of its closing bracket; zero for other tokens.
    closing: Vec<u32>,
    /// The open brackets; empty between two texts, since valid ones close them all.
    open: Vec<u32>,
}

impl Brackets {
    /// Matches the brackets among the tokens of a text.
    pub(super) fn read(&mut self, text: &str, offsets: &[u32]) {
        let bytes = text.as_bytes();
        self.closing.clear();
        self.closing.resize(offsets.len(), 0);
        for (token, offset) in (0_u32..).zip(offsets) {
            let byte = bytes[*offset as usize];
            // All brackets have these bits set, and no other first byte of a token has all of them.
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

    /// Returns the bytes of retained memory.
    pub(super) fn bytes(&self) -> usize {
        (self.closing.capacity() + self.open.capacity()) * size_of::<u32>()
    }
}

/// A text and its tokens, which are identified by number.
#[derive(Debug, Clone, Copy)]
struct Tokens<'t, 'p> {
    text: &'t str,
    /// Offset of each token.
    offsets: &'p [u32],
    /// The `closing` of [`Brackets`].
    closing: &'p [u32],
}

impl<'t> Tokens<'t, '_> {
    /// Returns the offset of a token, or the end of the text if there is no such token.
    fn offset(&self, token: usize) -> usize {
        self.offsets.get(token).map_or(self.text.len(), |offset| *offset as usize)
    }

    fn byte(&self, token: usize) -> Option<u8> {
        self.text.as_bytes().get(self.offset(token)).copied()
    }

    /// Returns the token after the value that begins with this one.
    fn after(&self, token: usize) -> usize {
        let closing = self.closing.get(token).map_or(0, |closing| *closing as usize);
        closing.max(token) + 1
    }

    /// Returns the text from one token to the white space before another.
    fn cut(&self, from: usize, to: usize) -> &'t str {
        let (start, end) = (self.offset(from), self.offset(to));
        let space = self.text.as_bytes()[start..end].iter().rev().take_while(|byte| **byte <= b' ').count();
        &self.text[start..end - space]
    }
}

/// A value in a parsed text.
#[derive(Debug, Clone, Copy)]
pub struct Value<'t, 'p> {
    tokens: Tokens<'t, 'p>,
    /// The first token of the value.
    first: usize,
}

impl<'t, 'p> Value<'t, 'p> {
    /// Returns the value that is the whole text.
    pub(super) fn new(text: &'t str, offsets: &'p [u32], brackets: &'p Brackets) -> Self {
        Self { tokens: Tokens { text, offsets, closing: &brackets.closing }, first: 0 }
    }

    /// Returns the value's text, without surrounding white space.
    pub fn text(&self) -> &'t str {
        self.tokens.cut(self.first, self.tokens.after(self.first))
    }

    /// Returns the offset of the value in the whole parsed text.
    pub fn offset(&self) -> usize {
        self.tokens.offset(self.first)
    }

    /// Returns the whole parsed text, including white space.
    pub(super) fn whole(&self) -> &'t str {
        self.tokens.text
    }

    /// Returns whether the value is an object.
    pub fn is_object(&self) -> bool {
        self.tokens.byte(self.first) == Some(b'{')
    }

    /// Returns whether the value is an array.
    pub fn is_array(&self) -> bool {
        self.tokens.byte(self.first) == Some(b'[')
    }

    /// Returns the members in the order of the text, duplicates included. Empty for any value but an object.
    pub fn members(&self) -> Members<'t, 'p> {
        Members(self.inside(self.is_object()))
    }

    /// Returns the elements in order. Empty for any value but an array.
    pub fn elements(&self) -> Elements<'t, 'p> {
        Elements(self.inside(self.is_array()))
    }

    /// Returns the tokens between the brackets; none if the value has no brackets.
    fn inside(&self, has_brackets: bool) -> Inside<'t, 'p> {
        let end = if has_brackets { self.tokens.after(self.first) - 1 } else { 0 };
        Inside { tokens: self.tokens, next: self.first + 1, end }
    }
}

/// The unread rest of an object or an array.
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

    /// Returns the value that begins with this token, and advances past it and the following comma.
    fn take(&mut self, first: usize) -> Value<'t, 'p> {
        self.next = self.tokens.after(first) + 1;
        Value { tokens: self.tokens, first }
    }
}

/// Iterator over the members of an object; returned by [`Value::members`].
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

/// Iterator over the elements of an array; returned by [`Value::elements`].
#[derive(Debug, Clone)]
pub struct Elements<'t, 'p>(Inside<'t, 'p>);

impl<'t, 'p> Iterator for Elements<'t, 'p> {
    type Item = Value<'t, 'p>;

    fn next(&mut self) -> Option<Value<'t, 'p>> {
        let first = self.0.next;
        if self.0.is_over() { None } else { Some(self.0.take(first)) }
    }
}
