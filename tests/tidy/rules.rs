//! House rules that no compiler checks: which module may use which, what no file may contain, how long things may be.
//!
//! The rules are tables below; a failure names the file, the line and the rule. What the compiler and clippy can check
//! is not repeated here (see `Cargo.toml` and `clippy.toml`).

#![allow(
    clippy::unwrap_used,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a helper of tests fails the test"
)]

use std::collections::BTreeSet;

mod agreement;
mod figures;
mod imports;
mod source;

use imports::Graph;
use regex::Regex;
use source::{File, ROOTS, code, project, sources};

/// Each top-level module and the others that it may use, lowest first. An arrow that is not here, or that nobody needs
/// any more, fails a test; so does a module that uses one below which it stands. docs/architecture.md has this table
/// too.
const MODULES: [(&str, &[&str]); 29] = [
    ("clock", &[]),
    ("backoff", &[]),
    ("logging", &[]),
    ("files", &[]),
    ("tasks", &[]),
    ("spans", &["clock", "tasks"]),
    ("overflow", &[]),
    ("places", &[]),
    ("json", &[]),
    ("websocket", &[]),
    ("tls", &[]),
    ("stats", &["overflow"]),
    ("event", &["json", "websocket"]),
    ("protocol", &["event", "websocket"]),
    ("client", &["backoff", "json", "tasks", "websocket"]),
    ("auth", &["clock", "files", "overflow", "tasks"]),
    ("index", &["event", "json"]),
    ("explain", &["auth", "event", "index"]),
    ("config", &["client", "clock", "overflow"]),
    ("metrics", &["clock", "event", "logging", "overflow", "protocol", "stats"]),
    ("transport", &["auth", "clock", "files", "logging", "metrics", "places", "tasks", "tls", "websocket"]),
    ("broker", &["clock", "event", "logging", "metrics", "protocol", "spans"]),
    ("demo", &["broker", "clock", "event", "json", "metrics"]),
    ("cluster", &["auth", "backoff", "broker", "clock", "event", "json", "logging", "metrics", "protocol", "tasks"]),
    (
        "endpoint",
        &["auth", "broker", "client", "clock", "event", "json", "logging", "metrics", "places", "protocol", "tasks"],
    ),
    (
        "fanout",
        &[
            "auth",
            "broker",
            "clock",
            "event",
            "index",
            "logging",
            "metrics",
            "overflow",
            "protocol",
            "stats",
            "tls",
            "websocket",
        ],
    ),
    (
        "api",
        &[
            "auth",
            "broker",
            "clock",
            "cluster",
            "endpoint",
            "event",
            "explain",
            "fanout",
            "files",
            "index",
            "json",
            "logging",
            "metrics",
            "overflow",
            "places",
            "protocol",
            "spans",
            "tasks",
            "transport",
            "websocket",
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
            "files",
            "index",
            "logging",
            "metrics",
            "spans",
            "stats",
            "tasks",
            "transport",
        ],
    ),
    (
        "cli",
        &[
            "auth", "client", "clock", "config", "event", "explain", "index", "json", "logging", "overflow",
            "protocol", "server", "tasks",
        ],
    ),
];

/// Modules, by their path, without I/O, threads and clocks: their arguments are all they know.
const PURE: [&str; 9] =
    ["json", "websocket", "overflow", "event", "protocol", "index", "explain", "stats", "fanout/outbox"];

/// What a pure module must not name. (The traits of `tokio::io` are none of it: fastwebsockets reads memory by them.)
const IMPURE: [&str; 15] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "mio::",
    "Instant::now",
    "tokio::fs",
    "tokio::net",
    "tokio::process",
    "tokio::runtime",
    "tokio::spawn",
    "tokio::sync",
    "tokio::task",
    "tokio::time",
];

/// Lines of a source file, tests not counted.
const FILE_LINES: usize = 400;

/// Files that are longer, and why.
const LONG_FILES: [(&str, &str); 0] = [];

/// Columns of a line of code. rustfmt does not hold comments and strings to that, nor what it cannot format.
const COLUMNS: usize = 120;

/// The endings of files of code.
const CODE: [&str; 8] = [".rs", ".js", ".mjs", ".css", ".html", ".py", ".go", ".sh"];

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

/// Documentation of an item that tells a reader of the API nothing.
const EMPTY_DOCUMENTATION: [&str; 9] =
    ["See the module's text.", "Why.", "Which one.", "Which.", "When.", "Who.", "What.", "How.", "Everything."];

/// Every arrow from one top-level module to another, with a file that has it.
fn rooms() -> BTreeSet<(String, String, String)> {
    Graph::of(ROOTS[0], &sources()).rooms()
}

fn allowed(from: &str) -> Option<&'static [&'static str]> {
    MODULES.iter().find(|(name, _)| *name == from).map(|(_, allowed)| *allowed)
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn arrows_between_modules_point_one_way() {
    let faults = rooms().into_iter().filter_map(|(from, to, file)| match allowed(&from) {
        None => Some(format!("{file}: the module `{from}` is not in the table of tests/tidy/rules.rs")),
        Some(allowed) if !allowed.contains(&to.as_str()) => Some(format!("{file}: `{from}` must not use `{to}`")),
        Some(_) => None,
    });
    none(&faults.collect::<Vec<_>>());
}

#[test]
fn the_table_of_modules_is_no_wider_than_the_code_and_has_no_circle() {
    let arrows = rooms();
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
fn tasks_are_started_in_one_place() {
    let mut faults = Vec::new();
    for file in sources().iter().filter(|file| file.name != "src/tasks.rs") {
        let code = code(&file.text);
        let mut names = vec!["tokio::spawn(", "task::spawn_blocking("];
        // By a method of a runtime or a set. Threads are started by methods of these names too.
        if ["runtime::Handle", "Handle::current()", "Runtime", "JoinSet"].iter().any(|kind| code.contains(kind)) {
            names.extend([".spawn(", ".spawn_on(", ".spawn_blocking("]);
        }
        for name in names.into_iter().filter(|name| code.contains(name)) {
            faults.push(format!("{}: `{name}`: the functions of `tasks` cost the compiler far less", file.name));
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
fn no_files_import_each_other() {
    let files = sources();
    let mut faults = Vec::new();
    for graph in ROOTS.map(|root| Graph::of(root, &files)) {
        let circles = graph.circles();
        faults.extend(circles.iter().map(|circle| format!("a circle of files: {}", circle.join(", "))));
    }
    none(&faults);
}

/// A test that lacks what it needs is marked `ignore`, or fails; it does not pass.
#[test]
fn no_test_passes_because_a_variable_is_missing() {
    let skip = Regex::new(r"env::var(_os)?\([^;]*?else\s*\{\s*return").unwrap();
    let passes = sources().into_iter().filter(|file| skip.is_match(&file.text));
    none(&passes.map(|file| format!("{}: returns where a variable is not set", file.name)).collect::<Vec<_>>());
}

/// What says that something has to be done within so many seconds: it fails where others use the machine. Waiting no
/// longer than PATIENCE is no assertion, and neither is waiting for at least so long.
fn asserts_on_time(text: &str) -> bool {
    let quick = Regex::new(r"assert!\([^;]*?elapsed\(\)\s*<=?\s*[\w:]*Duration::").unwrap();
    let soon = r"timeout\(\s*[\w:]*Duration::from_(secs|millis)\([^;]*?\)\s*\.await\s*\.(expect|unwrap)\b";
    quick.is_match(text) || Regex::new(soon).unwrap().is_match(text)
}

#[test]
fn no_test_asserts_on_time() {
    let tests = sources().into_iter().filter(|file| file.name.starts_with("tests/") && !file.name.contains("/tidy/"));
    let quick = tests.filter(|file| asserts_on_time(&file.text));
    none(&quick.map(|file| format!("{}: asserts on time", file.name)).collect::<Vec<_>>());
    assert!(asserts_on_time("assert!(begun.elapsed() < Duration::from_secs(1));"));
    assert!(asserts_on_time("timeout(Duration::from_secs(1), changes.changed()).await.expect(\"soon\")"));
    assert!(!asserts_on_time("assert!(begun.elapsed() < PATIENCE); timeout(PATIENCE, ended).await.unwrap()"));
    assert!(!asserts_on_time("assert!(begun.elapsed() >= Duration::from_secs(1));"));
    assert!(!asserts_on_time("timeout(Duration::from_secs(1), changes.changed()).await.is_err()"));
}

/// `x/mod.rs` and never `x.rs` beside `x/`.
#[test]
fn modules_have_one_style() {
    let files = sources();
    let has_folder = |file: &&File| {
        let folder = file.name.replace(".rs", "/");
        files.iter().any(|other| other.name.starts_with(&folder))
    };
    let beside = files.iter().filter(has_folder);
    none(&beside.map(|file| format!("{}: belongs into its folder, as mod.rs", file.name)).collect::<Vec<_>>());
}

/// The errors that a source declares, each with the word that declares it.
fn errors(code: &str) -> Vec<(String, String)> {
    let declared = r"#\[derive\([^)]*\bError\b[^)]*\)\]\s*(?:#\[[^\n]*\s*)*(?:pub(?:\([^)]*\))? )?(enum|struct) (\w+)";
    let declared = Regex::new(declared).unwrap();
    declared.captures_iter(code).map(|found| (found[1].to_owned(), found[2].to_owned())).collect()
}

#[test]
fn errors_are_named_so_and_one_enum_a_module() {
    let mut faults = Vec::new();
    for file in sources() {
        let errors = errors(&code(&file.text));
        let named = |name: &str| name.ends_with("Error") || name.ends_with("Errors");
        let misnamed = errors.iter().filter(|(_, name)| !named(name));
        faults
            .extend(misnamed.map(|(_, name)| format!("{}: `{name}` is an error and should end in `Error`", file.name)));
        if errors.iter().filter(|(word, _)| word == "enum").count() > 1 {
            faults.push(format!("{}: several enums of errors in one module", file.name));
        }
    }
    none(&faults);
}

#[test]
fn files_are_short() {
    let mut faults = Vec::new();
    for file in sources() {
        let (lines, excused) = (file.lines().len(), LONG_FILES.iter().any(|(name, _)| *name == file.name));
        if (lines > FILE_LINES) != excused {
            faults.push(format!("{}: {lines} lines without tests", file.name));
        }
    }
    none(&faults);
}

/// The lines of a file that are too wide. A row of a table cannot be broken.
fn wide_lines(file: &File) -> impl Iterator<Item = String> {
    let lines = file.text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//! | "));
    let wide = lines.filter(|(_, line)| line.chars().count() > COLUMNS);
    wide.map(|(at, line)| format!("{}:{}: {} columns", file.name, at + 1, line.chars().count()))
}

#[test]
fn code_keeps_to_its_columns() {
    let files = project();
    let code = files.iter().filter(|file| CODE.iter().any(|ending| file.name.ends_with(ending)));
    let wide: Vec<String> = code.flat_map(wide_lines).collect();
    assert!(wide.is_empty(), "{} lines over {COLUMNS} columns:\n{}", wide.len(), wide.join("\n"));
}

/// The lines of prose in a document that are too wide. Code, tables and what cannot be broken (code spans) do not
/// count.
fn wide_prose(file: &File) -> Vec<String> {
    let mut is_code = false;
    let mut wide = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        is_code ^= line.starts_with("```");
        let prose: String = line.split('`').step_by(2).collect();
        if !is_code && !line.starts_with(['|', '<']) && !line.starts_with("    ") && prose.chars().count() > COLUMNS {
            wide.push(format!("{}:{}: {} columns", file.name, at + 1, line.chars().count()));
        }
    }
    wide
}

#[test]
fn documents_are_no_wider_than_code() {
    let files = project();
    none(&files.iter().filter(|file| file.name.ends_with(".md")).flat_map(wide_prose).collect::<Vec<_>>());
}

fn empty_documentation(file: &File) -> impl Iterator<Item = String> {
    let lines = file.text.lines().enumerate();
    let texts = lines.filter_map(|(at, line)| Some((at, line.trim_start().strip_prefix("/// ")?)));
    let empty = texts.filter(|(_, text)| EMPTY_DOCUMENTATION.contains(text) || text.contains("See the module's text"));
    empty.map(|(at, text)| format!("{}:{}: {text:?} documents nothing", file.name, at + 1))
}

#[test]
fn documentation_says_something() {
    none(&sources().iter().flat_map(empty_documentation).collect::<Vec<_>>());
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

    #[test]
    fn errors_are_seen() {
        let text =
            "#[derive(Debug, Error)]\n#[error(\"x\")]\npub(super) struct A;\n\n#[derive(Error, Clone)]\nenum B {\n";
        let expected = [("struct", "A"), ("enum", "B")].map(|(word, name)| (word.to_owned(), name.to_owned()));
        assert_eq!(errors(text), expected);
    }

    #[test]
    fn wide_lines_are_seen_and_tables_are_not() {
        let long = "x".repeat(COLUMNS);
        let text = format!("//! {long}\n//! | {long} |\n    // {long}\nlet text = \"{long}\";\n// short\n");
        let file = File { name: "src/x.rs".to_owned(), text };
        let found: Vec<String> = wide_lines(&file).collect();
        assert_eq!(found, ["src/x.rs:1: 124 columns", "src/x.rs:3: 127 columns", "src/x.rs:4: 134 columns"]);
    }

    #[test]
    fn wide_prose_is_seen_and_code_is_not() {
        let long = "x".repeat(COLUMNS);
        let text = format!("# A\n{long}\n{long}y\n| {long} |\n    {long}\n```\n{long}y\n```\n`{long}y`\n");
        let file = File { name: "docs/x.md".to_owned(), text };
        assert_eq!(wide_prose(&file), ["docs/x.md:3: 121 columns"]);
    }

    #[test]
    fn empty_documentation_is_seen() {
        let text = "/// Why.\n/// Why it is so.\n    /// The queue. See the module's text.\n".to_owned();
        let file = File { name: "src/x.rs".to_owned(), text };
        assert_eq!(empty_documentation(&file).count(), 2);
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
