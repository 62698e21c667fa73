//! What other files say of the sources: the modules in docs/architecture.md, the cases that proptest has saved.

use crate::source::{File, project};

/// Where proptest saves the cases that have failed, and looks for them by the path of the source.
const SAVED: &str = "proptest-regressions/";

/// The rows of the table of modules in a document: each module and those that it may use, sorted.
fn modules(text: &str) -> Vec<(&str, Vec<&str>)> {
    let rows = text.lines().skip_while(|line| *line != "| module | what it is | may use |").skip(2);
    let cells = rows.map_while(|row| Some(row.strip_prefix('|')?.strip_suffix('|')?.split('|').collect::<Vec<_>>()));
    cells.map(|cells| (cells[0].trim().trim_matches('`'), uses(cells[2]))).collect()
}

/// The modules in a cell such as "auth for secrets, backoff", sorted.
fn uses(cell: &str) -> Vec<&str> {
    let mut names: Vec<&str> = cell.split(',').filter_map(|part| part.split_whitespace().next()).collect();
    names.sort_unstable();
    names
}

#[test]
fn the_architecture_has_the_table_of_modules() {
    let files = project();
    let document = files.iter().find(|file| file.name == "docs/architecture.md").unwrap();
    assert_eq!(modules(&document.text), crate::MODULES.map(|(name, allowed)| (name, allowed.to_vec())));
}

/// The saved cases that belong to no source, so that nobody replays them.
fn orphans(files: &[File]) -> impl Iterator<Item = &str> {
    let saved = files.iter().filter_map(|file| Some((&*file.name, file.name.strip_prefix(SAVED)?)));
    let is_orphan = |path: &str| {
        let source = format!("src/{}", path.replace(".txt", ".rs"));
        !files.iter().any(|file| file.name == source)
    };
    saved.filter(move |(_, path)| is_orphan(path)).map(|(name, _)| name)
}

#[test]
fn saved_cases_of_proptest_are_replayed() {
    let files = project();
    assert!(files.iter().any(|file| file.name.starts_with(SAVED)), "no saved cases were looked at");
    crate::none(&orphans(&files).map(|name| format!("{name}: no source has this path")).collect::<Vec<_>>());
}

/// The checks see what they are for.
mod checks {
    use super::*;

    #[test]
    fn modules_are_read_from_a_table() {
        let text =
            "# A\n| module | what it is | may use |\n|---|---|---|\n| `a` | x | |\n| `b` | y | c for d, a |\n\nB";
        assert_eq!(modules(text), [("a", vec![]), ("b", vec!["a", "c"])]);
    }

    #[test]
    fn orphans_are_seen() {
        let names = ["src/a/b.rs", "proptest-regressions/a/b.txt", "proptest-regressions/b.txt"];
        let files = names.map(|name| File { name: name.to_owned(), text: String::new() });
        assert_eq!(orphans(&files).collect::<Vec<_>>(), ["proptest-regressions/b.txt"]);
    }
}
