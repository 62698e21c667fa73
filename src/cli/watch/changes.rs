//! `--changed`: shows what differs between Original and Object, a line per field. Nothing is decoded, so numbers keep
//! their digits.

use std::collections::HashMap;
use std::io::Write;

use crate::cli::console::Screen;
use crate::cli::feed::Loss;
use crate::cli::text::{cut, escaped, printable};
use crate::json;

/// Maximum nesting that is compared; below it, a differing value is shown as a whole.
const DEEPEST: usize = 32;
/// The placeholder for a missing value.
const NOTHING: &str = "(nothing)";
/// Minimum width of a value in columns, however narrow the terminal is.
const NARROWEST: usize = 12;

/// The view of `--changed`, for one output.
#[derive(Debug)]
pub(super) struct Changes {
    screen: Screen,
}

/// One field that differs.
#[derive(Debug, PartialEq, Eq)]
struct Change<'t> {
    path: String,
    before: Option<&'t str>,
    after: Option<&'t str>,
}

impl Changes {
    pub(super) fn new(screen: Screen) -> Self {
        Self { screen }
    }

    /// Appends the changes of an event, or what a gap notice reports.
    pub(super) fn event(&self, event: &str, loss: Option<&Loss>, out: &mut Vec<u8>) {
        let member = |name| json::members(event).find(|member| member.name() == name).map(|member| member.value);
        let text = |name| {
            let text = member(name).and_then(json::as_string).unwrap_or_default();
            printable(&text).into_owned()
        };
        let head = format!("{} {}.{} {}", text("Time"), text("Type"), text("Action"), text("Key"));
        self.line(&head, "1", out);
        if let Some(loss) = loss {
            return self.line(&format!("  {loss}"), "", out);
        }
        let some = |name| member(name).filter(|value| *value != "null");
        match (some("Original"), some("Object")) {
            (Some(original), Some(object)) => self.changes(&between(original, object), out),
            (None, _) => self.line("  no Original to compare with", "", out),
            (_, None) => self.line("  no Object to compare with", "", out),
        }
    }

    fn changes(&self, changes: &[Change<'_>], out: &mut Vec<u8>) {
        if changes.is_empty() {
            self.line("  nothing changed", "", out);
        }
        let widest = changes.iter().map(|change| change.path.chars().count()).max().unwrap_or(0).min(32);
        for Change { path, before, after } in changes {
            // The path, the arrow and the spaces between take a part of the line.
            let room = self.screen.columns.map(|all| (all.saturating_sub(widest + 8) / 2).max(NARROWEST));
            let shown = |value: Option<&str>| {
                let value = value.map_or(NOTHING.into(), escaped);
                room.map_or_else(|| value.to_string(), |room| cut(&value, room).into_owned())
            };
            let (before, after) = (self.styled(&shown(*before), "31"), self.styled(&shown(*after), "32"));
            writeln!(out, "  {path:widest$}  {before} -> {after}").expect("memory takes everything");
        }
    }

    fn line(&self, text: &str, style: &str, out: &mut Vec<u8>) {
        let text = self.screen.columns.map_or(text.into(), |columns| cut(text, columns));
        out.extend_from_slice(self.styled(&text, style).as_bytes());
        out.push(b'\n');
    }

    /// Writes a value; `style` is an SGR number of ECMA-48.
    fn styled(&self, text: &str, style: &str) -> String {
        if self.screen.is_coloured && !style.is_empty() {
            format!("\u{1b}[{style}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Collects the differences in the order of `after`, then the fields that only `before` has.
fn between<'t>(before: &'t str, after: &'t str) -> Vec<Change<'t>> {
    let mut changes = Vec::new();
    compare(&mut Vec::new(), Some(before), Some(after), &mut changes);
    changes
}

/// Recursion is bounded by [`DEEPEST`].
fn compare<'t>(path: &mut Vec<String>, before: Option<&'t str>, after: Option<&'t str>, found: &mut Vec<Change<'t>>) {
    if before == after {
        return;
    }
    let pair = before.zip(after).filter(|_| path.len() < DEEPEST);
    let Some((old, new)) = pair.and_then(|(old, new)| Some((parts(old)?, parts(new)?)).filter(|_| alike(old, new)))
    else {
        return found.push(Change { path: spell(path), before, after });
    };
    let (known, kept): (HashMap<&str, &str>, HashMap<&str, &str>) = (pairs(&old).collect(), pairs(&new).collect());
    for (name, value) in pairs(&new) {
        step(path, name, known.get(name).copied(), Some(value), found);
    }
    for (name, value) in pairs(&old).filter(|(name, _)| !kept.contains_key(name)) {
        step(path, name, Some(value), None, found);
    }
}

fn step<'t>(
    path: &mut Vec<String>,
    name: &str,
    before: Option<&'t str>,
    after: Option<&'t str>,
    found: &mut Vec<Change<'t>>,
) {
    path.push(name.to_owned());
    compare(path, before, after, found);
    path.pop();
}

/// Returns whether both values are objects, or both arrays.
fn alike(a: &str, b: &str) -> bool {
    a.as_bytes().first() == b.as_bytes().first()
}

fn pairs<'p, 't>(parts: &'p [(String, &'t str)]) -> impl Iterator<Item = (&'p str, &'t str)> {
    parts.iter().map(|(name, value)| (name.as_str(), *value))
}

/// Returns the members of an object, or the elements of an array with their indexes; nothing for other values.
fn parts(value: &str) -> Option<Vec<(String, &str)>> {
    match value.as_bytes().first()? {
        b'{' => Some(json::members(value).map(|member| (member.name().into_owned(), member.value)).collect()),
        b'[' => Some(json::elements(value).enumerate().map(|(at, value)| (at.to_string(), value)).collect()),
        _ => None,
    }
}

/// Appends a name to a path as filters spell it: names between dots, or a pointer if a name contains a dot.
fn spell(path: &[String]) -> String {
    let plain = |name: &String| !name.is_empty() && !name.contains('.');
    let text = if path.iter().all(plain) && !path.first().is_some_and(|name| name.starts_with('/')) {
        path.join(".")
    } else {
        path.iter().flat_map(|name| ["/".to_owned(), name.replace('~', "~0").replace('/', "~1")]).collect()
    };
    printable(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(before: &str, after: &str) -> Vec<String> {
        let side = |value: Option<&str>| value.unwrap_or(NOTHING).to_owned();
        let shown = |change: Change| format!("{}: {} -> {}", change.path, side(change.before), side(change.after));
        between(before, after).into_iter().map(shown).collect()
    }

    #[test]
    fn only_what_differs_is_found_and_only_so_deep_as_it_does() {
        let before = concat!(
            r#"{"Same":{"a":[1]},"Stage":"none","N":12345678901234567890123,"Params":{"x/y":1,"gone":[]},"L":[1,2,"#,
            r#"3],"T":{}}"#,
        );
        let after = concat!(
            r#"{"L":[1,5],"Stage":"local","Same":{"a":[1]},"N":12345678901234567890124,"Params":{"x/y":2,"#,
            r#""a.b":null},"T":[]}"#,
        );
        let expected = [
            "L.1: 2 -> 5",
            "L.2: 3 -> (nothing)",
            r#"Stage: "none" -> "local""#,
            "N: 12345678901234567890123 -> 12345678901234567890124",
            "Params.x/y: 1 -> 2",
            "/Params/a.b: (nothing) -> null",
            "Params.gone: [] -> (nothing)",
            "T: {} -> []",
        ];
        assert_eq!(changes(before, after), expected);
        assert_eq!(changes(r#"{"a":1}"#, r#"{"a":1}"#), [""; 0]);
    }

    #[test]
    fn nesting_does_not_exhaust_the_stack() {
        let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(100_000), "]".repeat(100_000));
        let found = changes(&deep("1"), &deep("2"));
        assert_eq!((found.len(), found[0].split(':').next().unwrap()), (1, ["0"; DEEPEST].join(".").as_str()));
    }

    #[test]
    fn an_event_has_its_head_and_a_line_for_each_change() {
        let event = |original: &str| {
            format!(
                "{{\"Time\":\"T\",\"Type\":\"machines\",\"Action\":\"update\",\"Key\":\"m1\",\
                 \"Object\":{{\"Stage\":\"local\",\"A\":1}},\"Original\":{original}}}"
            )
        };
        let shown = |screen: Screen, original: &str| {
            let mut out = Vec::new();
            Changes::new(screen).event(&event(original), None, &mut out);
            String::from_utf8(out).unwrap()
        };
        let plain = Screen::default();
        let expected = "T machines.update m1\n  Stage  \"none\" -> \"local\"\n  A      (nothing) -> 1\n";
        assert_eq!(shown(plain, r#"{"Stage":"none"}"#), expected);
        assert!(shown(plain, "null").ends_with("m1\n  no Original to compare with\n"));
        assert!(shown(plain, r#"{"Stage":"local","A":1}"#).ends_with("m1\n  nothing changed\n"));
        let coloured = shown(Screen { columns: Some(40), is_coloured: true }, r#"{"Stage":"none","A":1}"#);
        assert!(coloured.ends_with("  Stage  \u{1b}[31m\"none\"\u{1b}[0m -> \u{1b}[32m\"local\"\u{1b}[0m\n"));
    }
}
