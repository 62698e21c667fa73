//! Escapes and classes: the parts of a pattern that stand for one character.

use super::PatternError::{self, Class, Escape, MissingBracket};
use super::classes;
use super::translate::{Step, Translator, write_code};

impl<'p> Translator<'p> {
    /// Parses `\d`, `\p{..}` and the like. Returns the items and whether they are negated.
    pub(super) fn class_escape(&mut self) -> Step<Option<(String, bool)>> {
        let start = self.at;
        let Some(letter) = self.rest().strip_prefix('\\').and_then(|rest| rest.bytes().next()) else {
            return Ok(None);
        };
        if let Some(items) = classes::perl(letter) {
            self.at += 2;
            return Ok(Some((items.to_owned(), letter.is_ascii_uppercase())));
        }
        if !matches!(letter, b'p' | b'P') {
            return Ok(None);
        }
        self.at += 2;
        let name = self.class_name().ok_or((start, Class))?;
        let (name, inverted) = name.strip_prefix('^').map_or((name, false), |rest| (rest, true));
        let items = classes::unicode(name).ok_or((start, Class))?;
        Ok(Some((items, (letter == b'P') != inverted)))
    }

    /// Parses the name after `\p`: one character, or the text in braces.
    fn class_name(&mut self) -> Option<&'p str> {
        let rest = self.rest();
        let (name, width) = match rest.strip_prefix('{') {
            Some(inner) => inner.split_once('}').map(|(name, _)| (name, name.len() + 2))?,
            None => rest.chars().next().map(|c| (&rest[..c.len_utf8()], c.len_utf8()))?,
        };
        self.at += width;
        Some(name)
    }

    /// Parses one escaped character, inside or outside a class.
    pub(super) fn char_escape(&mut self) -> Step<u32> {
        let start = self.at;
        self.at += 1;
        let c = self.take_char().ok_or((start, PatternError::TrailingBackslash))?;
        let octal = |b: Option<u8>| b.filter(|b| (b'0'..=b'7').contains(b)).map(|b| u32::from(b - b'0'));
        match c {
            '1'..='7' if octal(self.peek()).is_none() => Err((start, Escape)),
            '0'..='7' => {
                let mut code = u32::from(c) - u32::from('0');
                for _ in 0..2 {
                    let Some(digit) = octal(self.peek()) else { break };
                    code = code * 8 + digit;
                    self.at += 1;
                }
                Ok(code)
            }
            'x' => self.hexadecimal().ok_or((start, Escape)),
            'a' => Ok(7),
            'f' => Ok(0xC),
            'n' => Ok(0xA),
            'r' => Ok(0xD),
            't' => Ok(9),
            'v' => Ok(0xB),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(u32::from(c)),
            _ => Err((start, Escape)),
        }
    }

    /// Parses the digits after `\x`: two, or any number of them in braces.
    fn hexadecimal(&mut self) -> Option<u32> {
        let rest = self.rest();
        let (digits, width) = match rest.strip_prefix('{') {
            Some(inner) => inner.split_once('}').map(|(digits, _)| (digits, digits.len() + 2))?,
            None => (rest.get(..2)?, 2),
        };
        let all_hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let significant = digits.trim_start_matches('0');
        let code = if significant.is_empty() { 0 } else { u32::from_str_radix(significant, 16).ok()? };
        self.at += width;
        (all_hex && code <= u32::from(char::MAX)).then_some(code)
    }

    /// Parses `[..]`.
    pub(super) fn class(&mut self) -> Step<()> {
        let start = self.at;
        self.at += 1;
        let negated = self.take_if("^");
        let mut items = String::new();
        let mut first = true;
        while first || self.peek() != Some(b']') {
            first = false;
            self.class_item(start, &mut items)?;
        }
        self.at += 1;
        self.write_class(start, &items, negated)
    }

    fn class_item(&mut self, class: usize, items: &mut String) -> Step<()> {
        if let Some((name, width)) = self.posix_name() {
            let (name, negated) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
            nest(items, classes::posix(name).ok_or((self.at, Class))?, negated);
            self.at += width;
            return Ok(());
        }
        if let Some((inner, negated)) = self.class_escape()? {
            nest(items, &inner, negated);
            return Ok(());
        }
        let start = self.at;
        let low = self.class_char(class)?;
        let mut high = low;
        if self.rest().len() >= 2 && self.rest().starts_with('-') && !self.rest().starts_with("-]") {
            self.at += 1;
            high = self.class_char(class)?;
        }
        if high < low {
            return Err((start, Class));
        }
        write_range(items, low, high);
        Ok(())
    }

    /// Returns the name of `[:name:]` and the width of the whole, if it starts here.
    fn posix_name(&self) -> Option<(&'p str, usize)> {
        let name = self.rest().strip_prefix("[:")?.split_once(":]")?.0;
        Some((name, name.len() + 4))
    }

    fn class_char(&mut self, class: usize) -> Step<u32> {
        match self.peek() {
            None => Err((class, MissingBracket)),
            Some(b'\\') => self.char_escape(),
            Some(_) => Ok(self.take_char().map_or(0, u32::from)),
        }
    }

    pub(super) fn write_class(&mut self, start: usize, items: &str, negated: bool) -> Step<()> {
        let cost = classes::cost(items, self.flags.fold);
        self.classes = self.classes.checked_sub(cost).ok_or((start, PatternError::Classes))?;
        self.begin_atom();
        self.out.push_str(if self.flags.fold { "(?i:[" } else { "[" });
        if negated {
            self.out.push('^');
        }
        // It contained only half surrogate pairs, so this is the empty class.
        self.out.push_str(if items.is_empty() { classes::EMPTY } else { items });
        self.out.push_str(if self.flags.fold { "])" } else { "]" });
        Ok(())
    }
}

/// Appends a class within a class, so that its negation applies to it alone.
fn nest(items: &mut String, inner: &str, negated: bool) {
    items.push_str(if negated { "[^" } else { "[" });
    items.push_str(inner);
    items.push(']');
}

/// Appends a range of a class without the surrogates in it, which no text contains.
fn write_range(items: &mut String, low: u32, high: u32) {
    const SURROGATES: std::ops::RangeInclusive<u32> = 0xD800..=0xDFFF;
    for (low, high) in [(low, high.min(SURROGATES.start() - 1)), (low.max(SURROGATES.end() + 1), high)] {
        if low <= high {
            write_code(items, low);
            items.push('-');
            write_code(items, high);
        }
    }
}
