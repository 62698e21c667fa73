//! Makes foreign text safe for a terminal: no character that a terminal interprets ([`acts`]) is written raw. Pure.

use std::borrow::Cow;
use std::fmt::Write;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

pub(super) use crate::client::{acts, printable};

/// Has the character before it shown as an emoji, which is two columns wide.
const EMOJI: char = '\u{fe0f}';

/// Returns compact JSON with the same meaning, with such characters as JSON escapes.
pub(super) fn escaped(json: &str) -> Cow<'_, str> {
    if !json.chars().any(acts) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if acts(c) {
            write!(out, "\\u{:04x}", u32::from(c)).expect("a string takes everything");
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Returns a count with its noun, in the plural unless there is one: `1 event`, `2 events`.
pub(super) fn number_of(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// Returns the width of a text on a terminal, in columns.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// Returns the beginning of a text, at most `columns` wide, with an ellipsis if something was cut.
pub(super) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if text.len() <= columns || width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let (mut used, mut last) = (0, 0);
    let fits = |c: &char| {
        // The only one that widens the character before it.
        let is_widening = *c == EMOJI && last == 1;
        last = if is_widening { 1 } else { c.width().unwrap_or_default() };
        used += last;
        used < columns
    };
    let mut beginning: String = text.chars().take_while(fits).collect();
    if columns > 0 {
        beginning.push('…');
    }
    Cow::Owned(beginning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_replaced_or_escaped() {
        let hostile = "a\u{1b}[2Jb\u{9b}31m\u{7f}\r\u{202e}\u{2028}é";
        assert_eq!(printable(hostile), "a\u{fffd}[2Jb\u{fffd}31m\u{fffd}\u{fffd}\u{fffd}\u{fffd}é");
        let json = format!("{{\"k\":\"{}\"}}", hostile.replace(['\u{1b}', '\r'], ""));
        let safe = escaped(&json);
        assert!(!safe.chars().any(acts), "{safe:?}");
        let meaning = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(meaning(&safe), meaning(&json));
        assert!(matches!(escaped("{\"é\":1}"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_cut_text_is_never_wider() {
        for (text, columns, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("日本語", 4, "日…"),
            ("日本語", 6, "日本語"),
            ("❤\u{fe0f}❤\u{fe0f}❤\u{fe0f}", 4, "❤\u{fe0f}❤…"),
            ("a❤\u{fe0f}b", 4, "a❤\u{fe0f}b"),
            ("ab", 1, "…"),
            ("ab", 0, ""),
            ("", 0, ""),
        ] {
            let found = cut(text, columns);
            assert_eq!(found, expected);
            assert!(width(&found) <= columns);
        }
    }
}
