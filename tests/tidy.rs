//! House rules that no compiler checks: which module may use which, what no file may contain, how long things may be.
//!
//! The rules are tables below; a failure names the file, the line and the rule. What the compiler and clippy can check is
//! not repeated here (see `Cargo.toml` and `clippy.toml`).

#![allow(
    clippy::unwrap_used,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a helper of tests fails the test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each top-level module and the others that it may use, lowest first. An arrow that is not here, or that nobody needs any
/// more, fails a test; so does a module that uses one below which it stands.
const MODULES: [(&str, &[&str]); 21] = [
    ("clock", &[]),
    ("overflow", &[]),
    ("json", &[]),
    ("websocket", &[]),
    ("stats", &["overflow"]),
    ("event", &["json", "websocket"]),
    ("protocol", &["event", "websocket"]),
    ("client", &["json"]),
    ("auth", &["clock", "overflow"]),
    ("index", &["event", "json"]),
    ("config", &["client", "overflow"]),
    ("metrics", &["event", "overflow", "protocol", "stats"]),
    ("transport", &["auth", "metrics", "websocket"]),
    ("broker", &["clock", "event", "metrics", "protocol"]),
    ("demo", &["broker", "clock", "event", "json", "metrics"]),
    ("cluster", &["auth", "broker", "clock", "event", "json", "metrics", "protocol"]),
    ("endpoint", &["auth", "broker", "client", "clock", "event", "json", "metrics", "protocol"]),
    ("fanout", &["auth", "broker", "clock", "event", "index", "metrics", "overflow", "protocol", "stats", "websocket"]),
    (
        "api",
        &[
            "auth",
            "broker",
            "clock",
            "cluster",
            "endpoint",
            "event",
            "fanout",
            "json",
            "metrics",
            "overflow",
            "protocol",
            "transport",
        ],
    ),
    (
        "server",
        &[
            "api",
            "auth",
            "broker",
            "client",
            "clock",
            "cluster",
            "config",
            "demo",
            "endpoint",
            "fanout",
            "index",
            "metrics",
            "protocol",
            "stats",
            "transport",
        ],
    ),
    ("cli", &["auth", "client", "clock", "config", "event", "index", "json", "overflow", "server"]),
];

/// Modules, by their path, without I/O, threads and clocks: their arguments are all they know.
const PURE: [&str; 8] = ["json", "websocket", "overflow", "event", "protocol", "index", "stats", "fanout/outbox"];

/// What a pure module must not name.
const IMPURE: [&str; 8] =
    ["std::fs", "std::net", "std::env", "std::process", "std::thread", "tokio", "mio::", "Instant::now"];

/// Lines of a source file, tests not counted.
const FILE_LINES: usize = 400;

/// Lines of a function, from `fn` to the closing brace.
const FUNCTION_LINES: usize = 70;

/// What no source file may contain, and what to do instead. Split, so that this file may be looked at too.
const BANNED_IN_CODE: [(&str, &str); 8] = [
    (concat!("unbounded", "("), "every queue has a bound"),
    (concat!("unbounded_", "channel"), "every queue has a bound"),
    (concat!("print", "ln!"), "write to a `Write` that you are given"),
    (concat!("eprint", "!"), "write to a `Write` that you are given"),
    (concat!(" print", "!("), "write to a `Write` that you are given"),
    (concat!("dbg", "!("), "take it out"),
    (concat!("todo", "!("), "do it, or leave the function out"),
    (concat!("unimplemented", "!("), "do it, or leave the function out"),
];

/// What no file at all may contain.
const BANNED: [(&str, &str); 4] = [
    (concat!("/wo", "rk/"), "a path of somebody's machine"),
    (concat!("../sha", "red"), "copy what tests need to tests/data"),
    (concat!("TO", "DO"), "an open end belongs into an issue"),
    (concat!("FIX", "ME"), "an open end belongs into an issue"),
];

/// What is not ours to look at. (`.git` is a file in a worktree.)
const FOREIGN: [&str; 5] = [".git", "target", "node_modules", "data", "corpus"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A text file of the project, by its path from the root.
struct File {
    name: String,
    text: String,
}

impl File {
    fn is_source(&self) -> bool {
        let place = self.name.starts_with("src/") || self.name.starts_with("loadtest/src/");
        place && self.name.ends_with(".rs") && !self.is_test()
    }

    fn is_test(&self) -> bool {
        self.name.ends_with("/tests.rs") || self.name.ends_with("_tests.rs")
    }

    /// Whether this is the module at `path` below `src/`, or inside it.
    fn is_in(&self, path: &str) -> bool {
        let inside = self.name.strip_prefix("src/").and_then(|name| name.strip_prefix(path));
        inside.is_some_and(|rest| rest.starts_with(['/', '.']))
    }

    /// The module path, such as `["transport", "driver", "drain"]`.
    fn module(&self) -> Vec<&str> {
        let path = self.name.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').collect()
    }
}

/// Every text file below `dir` that belongs to the project.
fn files(dir: &Path, into: &mut Vec<File>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths.into_iter().filter(|path| !FOREIGN.iter().any(|name| path.ends_with(name))) {
        if path.is_dir() {
            files(&path, into);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            into.push(File { name, text });
        }
    }
}

fn project() -> Vec<File> {
    let mut all = Vec::new();
    files(root(), &mut all);
    assert!(all.iter().filter(|file| file.is_source()).count() > 50, "the sources are not where they are looked for");
    all
}

fn sources() -> Vec<File> {
    project().into_iter().filter(File::is_source).collect()
}

/// The lines of a source without `#[cfg(test)]` items, each with its number. rustfmt puts the end of an item at its indent.
fn without_tests(text: &str) -> Vec<(usize, &str)> {
    let mut kept = Vec::new();
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    while let Some((number, line)) = lines.next() {
        if line != "#[cfg(test)]" {
            kept.push((number, line));
            continue;
        }
        for (_, line) in lines.by_ref() {
            if line == "}" || (!line.starts_with(' ') && line.ends_with(';')) {
                break;
            }
        }
    }
    kept
}

/// Source text as one string: no tests, no comments, so that what is named there is used.
fn code(text: &str) -> String {
    let lines = without_tests(text).into_iter().map(|(_, line)| line);
    let lines = lines.map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    lines.collect::<Vec<_>>().join("\n")
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The names that a path goes on with: one, or those of a group in braces.
fn continued(text: &str) -> Vec<&str> {
    let Some(group) = text.strip_prefix('{') else { return vec![identifier(text)] };
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(identifier(group[start..at].trim_start()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

/// The top-level modules that a module's code names, by `crate::` or by enough `super::`.
fn uses(module: &[&str], code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let begins = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | ':'));
    let after_crate = code.match_indices("crate::").filter(|(at, _)| begins(*at)).map(|(at, text)| at + text.len());
    let up = "super::".repeat(module.len());
    let after_super = code.match_indices(&up).filter(|(at, _)| begins(*at)).map(|(at, text)| at + text.len());
    for at in after_crate.chain(after_super) {
        found.extend(continued(&code[at..]).into_iter().map(str::to_owned));
    }
    // What starts with a capital is an item of lib.rs itself.
    found.retain(|name| name.starts_with(|c: char| c.is_lowercase()) && name != module[0] && name != "self");
    found
}

/// Every arrow from one top-level module to another, with a file that has it.
fn arrows() -> BTreeSet<(String, String, String)> {
    let files = sources().into_iter().filter(|file| file.name.starts_with("src/"));
    let files = files.filter(|file| !matches!(file.name.as_str(), "src/lib.rs" | "src/main.rs"));
    let mut arrows = BTreeSet::new();
    for file in files {
        let module = file.module();
        for to in uses(&module, &code(&file.text)) {
            arrows.insert((module[0].to_owned(), to, file.name.clone()));
        }
    }
    arrows
}

fn allowed(from: &str) -> Option<&'static [&'static str]> {
    MODULES.iter().find(|(name, _)| *name == from).map(|(_, allowed)| *allowed)
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn arrows_between_modules_point_one_way() {
    let faults = arrows().into_iter().filter_map(|(from, to, file)| match allowed(&from) {
        None => Some(format!("{file}: the module `{from}` is not in the table of tests/tidy.rs")),
        Some(allowed) if !allowed.contains(&to.as_str()) => Some(format!("{file}: `{from}` must not use `{to}`")),
        Some(_) => None,
    });
    none(&faults.collect::<Vec<_>>());
}

#[test]
fn the_table_of_modules_is_no_wider_than_the_code_and_has_no_circle() {
    let arrows = arrows();
    let mut faults = Vec::new();
    for (at, (from, allowed)) in MODULES.iter().enumerate() {
        for to in *allowed {
            if !MODULES[..at].iter().any(|(name, _)| name == to) {
                faults.push(format!("`{from}` may use `{to}`, which does not stand below it"));
            }
            if !arrows.iter().any(|(a, b, _)| a == from && b == to) {
                faults.push(format!("`{from}` may use `{to}`, but does not: take it out of the table"));
            }
        }
    }
    none(&faults);
}

#[test]
fn pure_modules_touch_nothing() {
    let mut faults = Vec::new();
    let pure = |file: &&File| PURE.iter().any(|path| file.is_in(path));
    for file in sources().iter().filter(pure) {
        let code = code(&file.text);
        for name in IMPURE.iter().filter(|name| code.contains(**name)) {
            faults.push(format!("{}: `{name}` in a module that does no I/O and reads no clock", file.name));
        }
    }
    none(&faults);
}

#[test]
fn every_module_says_what_it_is() {
    let silent = sources().into_iter().filter(|file| !file.text.starts_with("//! "));
    none(&silent.map(|file| format!("{}: does not begin with `//! `", file.name)).collect::<Vec<_>>());
}

#[test]
fn files_are_short() {
    let mut faults = Vec::new();
    for file in sources() {
        let lines = without_tests(&file.text).len();
        if lines > FILE_LINES {
            faults.push(format!("{}: {lines} lines without tests", file.name));
        }
    }
    none(&faults);
}

/// Functions that are too long, as `line: lines`.
fn long_functions(text: &str) -> Vec<(usize, usize)> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let heads = ["fn ", "pub ", "pub(", "async ", "const ", "unsafe ", "extern "];
    let begins = |line: &str| {
        let line = line.trim_start();
        heads.iter().any(|head| line.starts_with(head)) && format!(" {line}").contains(" fn ")
    };
    let lines = without_tests(text);
    let mut long = Vec::new();
    for (at, (number, line)) in lines.iter().enumerate().filter(|(_, (_, line))| begins(line)) {
        let end = lines[at..].iter().position(|(_, other)| other.trim() == "}" && indent(other) == indent(line));
        let length = end.map_or(0, |end| end + 1);
        if length > FUNCTION_LINES && !line.trim_end().ends_with(';') {
            long.push((*number, length));
        }
    }
    long
}

#[test]
fn functions_are_short() {
    let mut faults = Vec::new();
    for file in sources() {
        for (line, length) in long_functions(&file.text) {
            faults.push(format!("{}:{line}: a function of {length} lines", file.name));
        }
    }
    none(&faults);
}

fn banned(file: &File, table: &[(&str, &str)], faults: &mut Vec<String>) {
    for (at, line) in file.text.lines().enumerate() {
        for (word, instead) in table.iter().filter(|(word, _)| line.contains(word)) {
            faults.push(format!("{}:{}: `{word}`: {instead}", file.name, at + 1));
        }
    }
}

#[test]
fn nothing_banned_is_anywhere() {
    let mut faults = Vec::new();
    for file in project() {
        banned(&file, &BANNED, &mut faults);
        if file.is_source() {
            banned(&file, &BANNED_IN_CODE, &mut faults);
        }
    }
    none(&faults);
}

/// The checks see what they are for.
mod checks {
    use super::*;

    fn found(module: &[&str], text: &str) -> Vec<String> {
        uses(module, &code(text)).into_iter().collect()
    }

    #[test]
    fn uses_are_seen_however_they_are_written() {
        assert_eq!(found(&["index"], "use crate::auth::Access;"), ["auth"]);
        assert_eq!(found(&["index"], "use crate::{AUDIT, clock,\n    fanout::{Fanout, self}};"), ["clock", "fanout"]);
        assert_eq!(found(&["index"], "fn f() -> crate::broker::Broker {}"), ["broker"]);
        assert_eq!(found(&["index", "trie"], "use super::super::broker::Broker;"), ["broker"]);
        assert_eq!(found(&["index", "trie"], "use super::spec::Spec;\nuse crate::index::Slot;"), [""; 0]);
    }

    #[test]
    fn comments_and_tests_are_not_uses() {
        assert_eq!(found(&["index"], "//! See [`crate::auth`].\n/// crate::auth\nfn f() {} // crate::auth"), [""; 0]);
        let tested = "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use crate::auth;\n}\nuse crate::event;\n";
        assert_eq!(found(&["index"], tested), ["event"]);
        assert_eq!(found(&["index"], "#[cfg(test)]\nmod tests;\nuse crate::event;"), ["event"]);
    }

    #[test]
    fn long_functions_are_seen() {
        let body = |lines: usize| {
            format!("impl A {{\n    pub(super) fn f(&self) {{\n{}    }}\n}}\n", "        g();\n".repeat(lines))
        };
        assert_eq!(long_functions(&body(68)), []);
        assert_eq!(long_functions(&body(69)), [(2, 71)]);
    }

    #[test]
    fn banned_words_are_seen_with_their_line() {
        let file = File { name: "src/x.rs".to_owned(), text: format!("\n    {}1);", concat!("dbg", "!(")) };
        let mut faults = Vec::new();
        banned(&file, &BANNED_IN_CODE, &mut faults);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].starts_with("src/x.rs:2: "), "{faults:?}");
    }
}
