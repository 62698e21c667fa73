//! Translates Go's RE2 syntax to the same language in the syntax of the `regex` crate.
//!
//! One pass without a tree. Every atom is written with its own flags and escapes, so that nothing in the output depends
//! on the mode of the other parser: literals as `x` or `\x{..}`, classes as explicit items, groups as `(?:..)`. Only
//! whether there is a match matters, so captures and laziness are dropped. Go's rules on what is an error, and its
//! limit of 1000 on nested counts, are preserved.

use std::fmt::Write;

use super::PatternError;
use super::classes;

/// Go's limit on `{n}`, with nested counts multiplied.
const MOST_REPEATS: u32 = 1000;

/// Translates `pattern`.
pub(super) fn translate(pattern: &str) -> Result<String, (usize, PatternError)> {
    let mut translator = Translator::new(pattern);
    while translator.at < pattern.len() {
        let repeat = translator.step()?;
        translator.after_repeat = repeat;
    }
    match translator.groups.last() {
        Some(group) => Err((group.opened, PatternError::MissingParen)),
        None => Ok(translator.out),
    }
}

#[derive(Clone, Copy, Default)]
pub(super) struct Flags {
    pub(super) fold: bool,
    dot_newline: bool,
    multi_line: bool,
}

/// The last atom written, to which a repetition operator would apply.
struct Atom {
    /// Its start in the output.
    start: usize,
    /// The largest product of nested counts in it.
    weight: u32,
    /// Whether it ends in a repetition operator, so that another one needs a group in between.
    repeated: bool,
}

struct Group {
    /// Its start in the pattern and in the output.
    opened: usize,
    start: usize,
    /// The flags outside.
    flags: Flags,
    /// The largest weight outside so far.
    weight: u32,
}

pub(super) struct Translator<'p> {
    pub(super) pattern: &'p str,
    pub(super) at: usize,
    pub(super) out: String,
    pub(super) flags: Flags,
    groups: Vec<Group>,
    atom: Option<Atom>,
    /// The largest weight of the finished atoms in this group.
    weight: u32,
    after_repeat: bool,
    /// The cost still allowed for large classes.
    pub(super) classes: u32,
}

pub(super) type Step<T> = Result<T, (usize, PatternError)>;

impl<'p> Translator<'p> {
    fn new(pattern: &'p str) -> Self {
        Self {
            pattern,
            at: 0,
            out: String::with_capacity(pattern.len() * 2),
            flags: Flags::default(),
            groups: Vec::new(),
            atom: None,
            weight: 1,
            after_repeat: false,
            classes: classes::MOST,
        }
    }

    pub(super) fn rest(&self) -> &'p str {
        &self.pattern[self.at..]
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.pattern.as_bytes().get(self.at).copied()
    }

    pub(super) fn take_char(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    pub(super) fn take_if(&mut self, prefix: &str) -> bool {
        let there = self.rest().starts_with(prefix);
        self.at += if there { prefix.len() } else { 0 };
        there
    }

    /// Translates one element of the pattern; returns true if it was a repetition operator.
    fn step(&mut self) -> Step<bool> {
        let start = self.at;
        match self.pattern.as_bytes()[start] {
            b'(' if self.rest().starts_with("(?") => self.special_group()?,
            b'(' => self.open_group(start, 1),
            b')' => self.close_group()?,
            b'|' => self.alternative(),
            b'*' | b'+' | b'?' => return self.simple_repeat().map(|()| true),
            b'{' => match self.counts() {
                Some((min, max)) => return self.counted_repeat(start, min, max).map(|()| true),
                None => self.literal_char(),
            },
            b'[' => self.class()?,
            b'\\' => self.escape()?,
            b'^' => self.assertion(if self.flags.multi_line { "(?m:^)" } else { r"\A" }, 1),
            b'$' => self.assertion(if self.flags.multi_line { "(?m:$)" } else { r"\z" }, 1),
            b'.' => self.assertion(if self.flags.dot_newline { "(?s:.)" } else { r"[^\n]" }, 1),
            _ => self.literal_char(),
        }
        Ok(false)
    }

    /// Begins a new atom; the one before can no longer be repeated.
    pub(super) fn begin_atom(&mut self) -> usize {
        self.finish_atom();
        self.atom = Some(Atom { start: self.out.len(), weight: 1, repeated: false });
        self.out.len()
    }

    fn finish_atom(&mut self) {
        if let Some(atom) = self.atom.take() {
            self.weight = self.weight.max(atom.weight);
        }
    }

    fn assertion(&mut self, translated: &str, width: usize) {
        self.begin_atom();
        self.out.push_str(translated);
        self.at += width;
    }

    fn literal_char(&mut self) {
        if let Some(c) = self.take_char() {
            self.literal(u32::from(c));
        }
    }

    fn literal(&mut self, code: u32) {
        self.begin_atom();
        match char::from_u32(code) {
            // Valid text never contains half a surrogate pair.
            None => self.out.push_str(classes::EMPTY),
            Some(c) if self.flags.fold && (c.is_ascii_alphabetic() || !c.is_ascii()) => {
                self.out.push_str("(?i:");
                write_code(&mut self.out, code);
                self.out.push(')');
            }
            Some(_) => write_code(&mut self.out, code),
        }
    }

    fn open_group(&mut self, opened: usize, width: usize) {
        self.finish_atom();
        self.groups.push(Group { opened, start: self.out.len(), flags: self.flags, weight: self.weight });
        self.weight = 1;
        self.out.push_str("(?:");
        self.at += width;
    }

    fn close_group(&mut self) -> Step<()> {
        let group = self.groups.pop().ok_or((self.at, PatternError::UnexpectedParen))?;
        self.finish_atom();
        self.atom = Some(Atom { start: group.start, weight: self.weight, repeated: false });
        self.weight = group.weight;
        self.flags = group.flags;
        self.out.push(')');
        self.at += 1;
        Ok(())
    }

    fn alternative(&mut self) {
        self.finish_atom();
        self.out.push('|');
        self.at += 1;
    }

    /// Parses `(?P<name>`, `(?<name>`, `(?flags)` or `(?flags:`.
    fn special_group(&mut self) -> Step<()> {
        let start = self.at;
        let rest = self.rest();
        let name = match rest.strip_prefix("(?P<") {
            Some(name) if !name.is_empty() => Some((name, 4)),
            _ => rest.strip_prefix("(?<").filter(|name| !name.is_empty()).map(|name| (name, 3)),
        };
        let Some((name, prefix)) = name else {
            return self.flag_group(start);
        };
        let end = name.find('>').ok_or((start, PatternError::GroupName))?;
        let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
        if end == 0 || !name[..end].chars().all(word) {
            return Err((start, PatternError::GroupName));
        }
        self.open_group(start, prefix + end + 1);
        Ok(())
    }

    fn flag_group(&mut self, start: usize) -> Step<()> {
        self.at += 2;
        let mut flags = self.flags;
        let mut on = true;
        let mut complete = true;
        loop {
            match self.take_char() {
                Some('i') => flags.fold = on,
                Some('m') => flags.multi_line = on,
                Some('s') => flags.dot_newline = on,
                Some('U') => {}
                Some('-') if on => {
                    (on, complete) = (false, false);
                    continue;
                }
                Some(':') if complete => {
                    self.open_group(start, 0);
                    break;
                }
                Some(')') if complete => break,
                _ => return Err((start, PatternError::Group)),
            }
            complete = true;
        }
        self.flags = flags;
        Ok(())
    }

    fn simple_repeat(&mut self) -> Step<()> {
        let start = self.at;
        let operator = &self.pattern[start..=start];
        self.at += 1;
        self.repeat(start, operator, 1)
    }

    /// Parses `{n}`, `{n,}` or `{n,m}`; anything else is a literal brace and not consumed. A number that overflows is
    /// returned as too large.
    fn counts(&mut self) -> Option<(u32, Option<u32>)> {
        let body = self.rest()[1..].split_once('}')?.0;
        let (min, max) = match body.split_once(',') {
            None => (number(body)?, Some(number(body)?)),
            Some((min, "")) => (number(min)?, None),
            Some((min, max)) => (number(min)?, Some(number(max)?)),
        };
        self.at += body.len() + 2;
        Some((min, max))
    }

    fn counted_repeat(&mut self, start: usize, min: u32, max: Option<u32>) -> Step<()> {
        let too_many = min > MOST_REPEATS || max.is_some_and(|max| max > MOST_REPEATS || max < min);
        if too_many {
            return Err((start, PatternError::RepeatSize));
        }
        let operator = match max {
            Some(max) if max == min => format!("{{{min}}}"),
            Some(max) => format!("{{{min},{max}}}"),
            None => format!("{{{min},}}"),
        };
        self.repeat(start, &operator, max.unwrap_or(min))
    }

    fn repeat(&mut self, start: usize, operator: &str, count: u32) -> Step<()> {
        self.take_if("?");
        if self.after_repeat {
            return Err((start, PatternError::DoubleRepeat));
        }
        let Some(atom) = &mut self.atom else {
            return Err((start, PatternError::MissingArgument));
        };
        // `{0}` repeats nothing, however large the atom.
        atom.weight = if operator == "{0}" { 1 } else { atom.weight.saturating_mul(count.max(1)) };
        if count >= 2 && atom.weight > MOST_REPEATS {
            return Err((start, PatternError::RepeatSize));
        }
        if atom.repeated {
            self.out.insert_str(atom.start, "(?:");
            self.out.push(')');
        }
        atom.repeated = true;
        self.out.push_str(operator);
        Ok(())
    }

    fn escape(&mut self) -> Step<()> {
        match self.pattern.as_bytes().get(self.at + 1) {
            Some(b'A') => self.assertion(r"\A", 2),
            Some(b'z') => self.assertion(r"\z", 2),
            Some(b'b') => self.assertion(r"(?-u:\b)", 2),
            Some(b'B') => self.assertion(r"(?-u:\B)", 2),
            Some(b'Q') => self.quoted(),
            _ => {
                let start = self.at;
                if let Some((items, negated)) = self.class_escape()? {
                    self.write_class(start, &items, negated)?;
                } else {
                    let code = self.char_escape()?;
                    self.literal(code);
                }
            }
        }
        Ok(())
    }

    fn quoted(&mut self) {
        let quoted = &self.rest()[2..];
        let (text, skip) = quoted.split_once(r"\E").map_or((quoted, 2), |(text, _)| (text, 4));
        self.at += skip + text.len();
        for c in text.chars() {
            self.literal(u32::from(c));
        }
    }
}

/// Parses a count by Go's rules: no leading zeros. A number that overflows is too large.
fn number(digits: &str) -> Option<u32> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let canonical = digits == "0" || !digits.starts_with('0');
    (plain && canonical).then(|| digits.parse().unwrap_or(u32::MAX))
}

pub(super) fn write_code(out: &mut String, code: u32) {
    match char::from_u32(code) {
        Some(c) if c.is_ascii_alphanumeric() => out.push(c),
        _ => write!(out, "\\x{{{code:X}}}").expect("strings take everything"),
    }
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[test]
    fn atoms_stand_for_themselves() {
        for (go, rust) in [
            ("a.c", r"a[^\n]c"),
            ("(?s)a.c$", r"a(?s:.)c\z"),
            ("(?i)a1", r"(?i:a)1"),
            ("(?P<x>a|b)+?", "(?:a|b)+"),
            (r"\d\D", "[0-9][^0-9]"),
            (r"[^\W-x]", r"[^[^0-9A-Za-z_]\x{2D}-\x{2D}x-x]"),
            (r"a+\Q\E?", "(?:a+)?"),
            ("a{2,}", "a{2,}"),
        ] {
            assert_eq!(translate(go).unwrap(), rust, "{go}");
        }
    }
}
