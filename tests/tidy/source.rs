//! The project's text files, and what of a source counts as its code.

use std::fs;
use std::path::{Path, PathBuf};

/// What is not ours to look at. (`.git` is a file in a worktree.)
const FOREIGN: [&str; 5] = [".git", "target", "node_modules", "data", "corpus"];

/// The crates whose sources are held to the rules.
pub(crate) const ROOTS: [&str; 2] = ["src/", "loadtest/src/"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A text file of the project, by its path from the root.
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn is_source(&self) -> bool {
        self.name.ends_with(".rs") && !self.is_test() && ROOTS.iter().any(|root| self.name.starts_with(root))
    }

    fn is_test(&self) -> bool {
        self.name.ends_with("/tests.rs") || self.name.ends_with("_tests.rs") || self.is_in("simulation")
    }

    /// Whether this is the module at `path` below `src/`, or inside it.
    pub(crate) fn is_in(&self, path: &str) -> bool {
        let inside = self.name.strip_prefix("src/").and_then(|name| name.strip_prefix(path));
        inside.is_some_and(|rest| rest.starts_with(['/', '.']))
    }

    /// The path of its module in the crate at `root`, such as `["fanout", "driver", "drain"]`; nothing for `lib.rs`,
    /// and for the files of other crates, `main.rs` among them.
    pub(crate) fn module(&self, root: &str) -> Option<Vec<String>> {
        let path = self.name.strip_prefix(root)?.strip_suffix(".rs")?;
        let path = path.strip_suffix("/mod").unwrap_or(path);
        (!matches!(path, "lib" | "main")).then(|| path.split('/').map(str::to_owned).collect())
    }

    /// The lines that are no tests, each with its number.
    pub(crate) fn lines(&self) -> Vec<(usize, &str)> {
        without_tests(&self.text)
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

pub(crate) fn project() -> Vec<File> {
    let mut all = Vec::new();
    files(root(), &mut all);
    assert!(all.iter().filter(|file| file.is_source()).count() > 50, "the sources are not where they are looked for");
    all
}

pub(crate) fn sources() -> Vec<File> {
    project().into_iter().filter(File::is_source).collect()
}

/// The lines of a source without `#[cfg(test)]` items, each with its number. rustfmt puts the end of an item at its
/// indent.
pub(crate) fn without_tests(text: &str) -> Vec<(usize, &str)> {
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
pub(crate) fn code(text: &str) -> String {
    let lines = without_tests(text).into_iter().map(|(_, line)| line);
    let lines = lines.map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    lines.collect::<Vec<_>>().join("\n")
}
