//! The figures of the house: how long functions are, and what `scripts/house-figures` prints.

use std::fs;

use crate::imports::Graph;
use crate::source::{File, ROOTS, sources, without_tests};

/// Lines of a function, from `fn` to the closing brace: half of those of `src/` and nineteen of twenty, and all of the
/// workspace.
const FUNCTION_LINES: Lengths = Lengths { median: 6, p95: 21, longest: 69 };

/// How long things are: half of them at most this, nineteen of twenty, all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lengths {
    median: usize,
    p95: usize,
    longest: usize,
}

impl Lengths {
    fn of(mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        let at = |percent| lengths[(lengths.len() - 1) * percent / 100];
        Self { median: at(50), p95: at(95), longest: at(100) }
    }
}

/// Every function of a source, as `line: lines`. rustfmt puts the end of one at the indent of its head.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let heads = ["fn ", "pub ", "pub(", "async ", "const ", "unsafe ", "extern "];
    let begins = |line: &str| {
        let line = line.trim_start();
        heads.iter().any(|head| line.starts_with(head)) && format!(" {line}").contains(" fn ")
    };
    let lines = without_tests(text);
    let found = lines.iter().enumerate().filter(|(_, (_, line))| begins(line));
    found.filter_map(|(at, (number, _))| Some((*number, length(&lines[at..])?))).collect()
}

/// How long the function is that begins with these lines; nothing if it is only declared.
fn length(lines: &[(usize, &str)]) -> Option<usize> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let head = lines.first()?.1;
    let own = lines.iter().position(|(_, line)| indent(line) == indent(head) && line.ends_with([';', '}']))?;
    lines[own].1.ends_with('}').then_some(own + 1)
}

fn function_lengths(files: &[File]) -> Lengths {
    let files = files.iter().filter(|file| file.name.starts_with(ROOTS[0]));
    Lengths::of(files.flat_map(|file| functions(&file.text)).map(|(_, lines)| lines).collect())
}

#[test]
fn functions_are_short() {
    let files = sources();
    let mut faults = Vec::new();
    for file in &files {
        let long = functions(&file.text).into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES.longest);
        faults.extend(long.map(|(line, lines)| format!("{}:{line}: a function of {lines} lines", file.name)));
    }
    crate::none(&faults);
    let found = function_lengths(&files);
    assert!(found.median <= FUNCTION_LINES.median && found.p95 <= FUNCTION_LINES.p95, "{found:?}");
}

/// Leaves the figures in a file for `scripts/house-figures`.
#[test]
fn figures() {
    let files = sources();
    let lines = files.iter().map(|file| file.lines().len());
    let Lengths { median, p95, longest } = function_lengths(&files);
    let graphs = ROOTS.map(|root| Graph::of(root, &files));
    let circles: usize = graphs.iter().map(|graph| graph.circles().len()).sum();
    let rooms = graphs[0].rooms();
    let mut arrows: Vec<_> = rooms.iter().map(|(from, to, _)| (from, to)).collect();
    arrows.dedup();
    let figures = [
        ("files", files.len().to_string()),
        ("lines without tests", lines.clone().sum::<usize>().to_string()),
        ("circles of files", circles.to_string()),
        ("lines of a function: median, 95 %, longest", format!("{median} / {p95} / {longest}")),
        (
            "files over the limit of lines",
            format!("{} over {}", lines.filter(|lines| *lines > crate::FILE_LINES).count(), crate::FILE_LINES),
        ),
        ("rooms", crate::MODULES.len().to_string()),
        ("arrows between rooms", arrows.len().to_string()),
    ];
    let lines = figures.map(|(what, figure)| format!("{what:<45}{figure}\n"));
    fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/house-figures.txt"), lines.concat()).unwrap();
}

/// The checks see what they are for.
mod checks {
    use super::*;

    #[test]
    fn functions_have_their_lengths() {
        let body = |lines: usize| {
            format!("impl A {{\n    pub(super) fn f(&self) {{\n{}    }}\n}}\n", "        g();\n".repeat(lines))
        };
        assert_eq!(functions(&body(69)), [(2, 71)]);
        assert_eq!(
            functions("fn f() -> u8 { 1 }\n\nfn g(\n    a: u8,\n) -> u8\nwhere\n{\n    a\n}\n"),
            [(1, 1), (3, 7)]
        );
        assert_eq!(functions("trait A {\n    fn f(&self);\n    fn g(\n        a: u8,\n    );\n}\n"), []);
    }

    #[test]
    fn lengths_are_counted_from_the_shortest() {
        let expected = Lengths { median: 50, p95: 95, longest: 100 };
        assert_eq!(Lengths::of((0..=100).rev().collect()), expected);
    }
}
