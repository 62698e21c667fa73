//! Which file imports which: every path in `use` lines and in code, resolved as the compiler would.
//!
//! An arrow goes from the file that names a path to the file of the deepest module in that path and, where that module
//! re-exports the item, to the file that has it. What a module takes from the modules below it is no arrow: a `mod.rs`
//! declares and re-exports its children, and only what it uses beside and above itself counts. `lib.rs` and `main.rs`
//! stand outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

use crate::source::{File, code};

static USE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^\s*(?:pub(?:\([^)]*\))? )?use ([^;]+);").unwrap());
static IN_CODE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[\w:$.]*\w+(?:::\w+)+").unwrap());

/// The path of a module or an item, from the root of its crate.
type Path = Vec<String>;

/// A path that a file names.
struct Import {
    path: Path,
    /// What a `use` calls it here; nothing for a path in code.
    name: Option<String>,
}

/// A file, by its module.
struct Node {
    file: String,
    imports: Vec<Import>,
}

/// The files of one crate and the arrows between them.
pub(crate) struct Graph {
    nodes: BTreeMap<Path, Node>,
}

impl Graph {
    /// That of the crate whose sources are below `root`.
    pub(crate) fn of<'a>(root: &str, files: impl IntoIterator<Item = &'a File>) -> Self {
        let nodes = files.into_iter().filter_map(|file| {
            let node = Node { file: file.name.clone(), imports: imports(&code(&file.text)) };
            Some((file.module(root)?, node))
        });
        Self { nodes: nodes.collect() }
    }

    /// A path from the root of the crate; nothing if it leads into another crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Path> {
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([module, &path[1..]].concat()),
            "super" => {
                let up = path.iter().take_while(|segment| *segment == "super").count();
                Some([&module[..module.len().checked_sub(up)?], &path[up..]].concat())
            }
            _ => {
                let path = [module, path].concat();
                self.nodes.contains_key(&path[..=module.len()]).then_some(path)
            }
        }
    }

    /// How much of a path is a module.
    fn depth(&self, path: &[String]) -> usize {
        (1..=path.len()).rev().find(|depth| self.nodes.contains_key(&path[..*depth])).unwrap_or(0)
    }

    /// What names mean that modules have from `use` lines.
    fn names(&self) -> BTreeMap<(&[String], &str), Path> {
        let mut names = BTreeMap::new();
        for (module, node) in &self.nodes {
            for import in &node.imports {
                if let (Some(name), Some(path)) = (&import.name, self.absolute(module, &import.path)) {
                    names.insert((module.as_slice(), name.as_str()), path);
                }
            }
        }
        names
    }

    /// For each module the others that it imports.
    pub(crate) fn arrows(&self) -> BTreeMap<&[String], BTreeSet<Path>> {
        let names = self.names();
        let mut arrows: BTreeMap<&[String], BTreeSet<Path>> = BTreeMap::new();
        for (module, node) in &self.nodes {
            let into = arrows.entry(module).or_default();
            for path in node.imports.iter().filter_map(|import| self.absolute(module, &import.path)) {
                self.follow(path, &names, into);
            }
            into.retain(|to| !to.is_empty() && !to.starts_with(module));
        }
        arrows
    }

    /// Every module that a path leads through, from re-export to re-export.
    fn follow(&self, mut path: Path, names: &BTreeMap<(&[String], &str), Path>, into: &mut BTreeSet<Path>) {
        // More would be names that mean each other.
        for _ in 0..16 {
            let depth = self.depth(&path);
            into.insert(path[..depth].to_vec());
            let Some(item) = path.get(depth) else { return };
            let Some(meant) = names.get(&(&path[..depth], item.as_str())) else { return };
            path = [meant.as_slice(), &path[depth + 1..]].concat();
        }
    }

    /// The sets of files that import each other, directly or by way of others.
    pub(crate) fn circles(&self) -> BTreeSet<Vec<&str>> {
        let arrows = self.arrows();
        let reached: BTreeMap<_, _> = arrows.keys().map(|from| (*from, reached(from, &arrows))).collect();
        let circle = |from: &[String]| -> Vec<&str> {
            let together = reached[from].iter().filter(|to| reached[**to].contains(from));
            together.map(|module| self.nodes[*module].file.as_str()).collect()
        };
        arrows.keys().map(|from| circle(from)).filter(|circle| !circle.is_empty()).collect()
    }

    /// Every arrow from one top-level module to another, as it is written, with a file that has it.
    pub(crate) fn rooms(&self) -> BTreeSet<(String, String, String)> {
        let mut rooms = BTreeSet::new();
        for (module, node) in &self.nodes {
            for path in node.imports.iter().filter_map(|import| self.absolute(module, &import.path)) {
                if let Some(to) = path[..self.depth(&path)].first().filter(|to| **to != module[0]) {
                    rooms.insert((module[0].clone(), to.clone(), node.file.clone()));
                }
            }
        }
        rooms
    }
}

/// Every module that can be reached, itself only if there is a way back.
fn reached<'a>(from: &[String], arrows: &'a BTreeMap<&[String], BTreeSet<Path>>) -> BTreeSet<&'a [String]> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&[String]> = arrows[from].iter().map(Vec::as_slice).collect();
    while let Some(module) = next.pop() {
        if found.insert(module) {
            next.extend(arrows[module].iter().map(Vec::as_slice));
        }
    }
    found
}

/// The paths that code names.
fn imports(code: &str) -> Vec<Import> {
    let mut imports = Vec::new();
    for tree in USE.captures_iter(code) {
        leaves(&tree[1], &[], &mut imports);
    }
    let rest = USE.replace_all(code, "");
    // A path begins at its first name: none of a variable's field, and none that goes on from a generic one.
    let paths = IN_CODE.find_iter(&rest).map(|path| path.as_str()).filter(|path| !path.starts_with([':', '.', '$']));
    imports.extend(
        paths.filter(|path| !path.contains(['.', '$'])).map(|path| Import { path: segments(path), name: None }),
    );
    imports
}

/// The leaves of the tree of a `use`, which stands below `base`.
fn leaves(tree: &str, base: &[String], into: &mut Vec<Import>) {
    if let Some((head, group)) = tree.split_once('{') {
        let base = [base, &segments(head)].concat();
        let group = group.trim_end();
        return parts(group.strip_suffix('}').unwrap_or(group)).for_each(|part| leaves(part, &base, into));
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias)));
    let mut path = [base, &segments(path)].concat();
    path.pop_if(|last| last == "self" && !base.is_empty());
    let name = alias.map(|alias| alias.trim().to_owned()).or_else(|| path.last().cloned());
    into.push(Import { path, name });
}

fn segments(path: &str) -> Path {
    path.split("::").map(str::trim).filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}

/// The parts of a group, which commas separate, its braces taken off.
fn parts(group: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let parts = group.split(move |c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

/// The checks see what they are for.
mod checks {
    use super::*;

    /// A crate of files, by name and text.
    fn graph(files: &[(&str, &str)]) -> Graph {
        let file = |(name, text): &(&str, &str)| File { name: format!("src/{name}"), text: (*text).to_owned() };
        Graph::of("src/", &files.iter().map(file).collect::<Vec<_>>())
    }

    /// The top-level modules that a file names, of some that there are.
    fn rooms(name: &str, text: &str) -> Vec<String> {
        let rooms = ["auth", "broker", "clock", "event", "fanout"].map(|room| format!("{room}/mod.rs"));
        let mut files: Vec<(&str, &str)> = rooms.iter().map(|room| (room.as_str(), "")).collect();
        files.extend([("index/spec.rs", ""), (name, text)]);
        graph(&files).rooms().into_iter().map(|(_, to, _)| to).collect()
    }

    #[test]
    fn uses_are_seen_however_they_are_written() {
        assert_eq!(rooms("index/mod.rs", "use crate::auth::Access;"), ["auth"]);
        let group = "use crate::{AUDIT, clock,\n    fanout::{Fanout, self}};";
        assert_eq!(rooms("index/mod.rs", group), ["clock", "fanout"]);
        assert_eq!(rooms("index/mod.rs", "fn f() -> crate::broker::Broker {}"), ["broker"]);
        assert_eq!(rooms("index/trie.rs", "use super::super::broker::Broker;"), ["broker"]);
        assert_eq!(rooms("index/trie.rs", "use super::spec::Spec;\nuse crate::index::Slot;"), [""; 0]);
    }

    #[test]
    fn comments_and_tests_are_not_uses() {
        let comments = "//! See [`crate::auth`].\n/// crate::auth\nfn f() {} // crate::auth";
        assert_eq!(rooms("index/mod.rs", comments), [""; 0]);
        let tested = "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use crate::auth;\n}\nuse crate::event;\n";
        assert_eq!(rooms("index/mod.rs", tested), ["event"]);
        assert_eq!(rooms("index/mod.rs", "#[cfg(test)]\nmod tests;\nuse crate::event;"), ["event"]);
    }

    #[test]
    fn circles_are_seen_through_other_files_and_through_re_exports() {
        let none = [("a/mod.rs", "pub mod b;\nuse b::B;"), ("a/b.rs", "use super::c::C;"), ("a/c.rs", "")];
        assert!(graph(&none).circles().is_empty(), "a parent uses its children");
        let three = [("a.rs", "use crate::b::B;"), ("b.rs", "fn f(c: crate::c::C) {}"), ("c.rs", "use super::a;")];
        assert_eq!(graph(&three).circles().into_iter().collect::<Vec<_>>(), [["src/a.rs", "src/b.rs", "src/c.rs"]]);
        let hidden =
            [("a/mod.rs", "pub use b::B as Other;"), ("a/b.rs", "use crate::c;"), ("c.rs", "use crate::a::Other;")];
        assert_eq!(graph(&hidden).circles().into_iter().collect::<Vec<_>>(), [["src/a/b.rs", "src/c.rs"]]);
    }
}
