//! Gathering the values from flags, environment and file, and all their errors.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::CONFIG_VARIABLE;
use super::check;
use super::error::{ConfigError, ConfigErrors, Place};
use super::kind::{self, Kind};
use super::settings::{Row, Settings, Table, rows};

/// A setting given on the command line.
#[derive(Debug, Clone)]
pub struct FlagValue {
    /// Which setting.
    pub key: &'static str,
    /// The flag as people type it: `--listen`.
    pub flag: &'static str,
    /// The value; several are joined as the setting has it, mostly by commas.
    pub text: String,
}

/// Where settings come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file; without one, the file that `HYDRANT_CONFIG` names, if it is set.
    pub file: Option<PathBuf>,
    /// Environment variables, in any order. Others than `HYDRANT_*`, `XDG_DATA_HOME` and `HOME` are not looked at.
    pub env: Vec<(String, String)>,
    /// What the command line says.
    pub flags: Vec<FlagValue>,
}

impl Sources {
    /// The process's environment, with a file if one is named.
    pub fn environment(file: Option<PathBuf>) -> Self {
        let text = |part: std::ffi::OsString| part.to_string_lossy().into_owned();
        let env = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        Self { file, env, flags: Vec::new() }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let found = self.env.iter().find(|(n, value)| n == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// The file that is read.
    pub fn path(&self) -> Option<PathBuf> {
        self.file.clone().or_else(|| self.variable(CONFIG_VARIABLE).map(PathBuf::from))
    }

    fn data_dir(&self) -> PathBuf {
        // The XDG base directory specification wants relative paths ignored.
        let absolute = |name| self.variable(name).map(Path::new).filter(|path| path.is_absolute());
        absolute("XDG_DATA_HOME")
            .map(|base| base.join("hydrant"))
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share/hydrant")))
            .unwrap_or_else(|| PathBuf::from("/var/lib/hydrant"))
    }
}

impl Settings {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// [`ConfigErrors`] with all that is wrong.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        let mut given = Given { rows: rows(), values: HashMap::new(), bad: Vec::new(), errors: Vec::new() };
        given.values.insert("data_dir", (Place::Default, sources.data_dir().display().to_string()));
        if let Some(path) = sources.path() {
            given.read_file(&path);
        }
        given.read_env(&sources.env);
        for flag in &sources.flags {
            given.set(flag.key, Place::Flag(flag.flag), &flag.text);
        }
        let settings = Self::take(&given);
        check::all(&settings, &mut given);
        if given.errors.is_empty() { Ok(settings) } else { Err(ConfigErrors(given.errors)) }
    }
}

/// The values found so far; a later source overwrites an earlier one.
pub(super) struct Given {
    rows: Vec<Row>,
    values: HashMap<&'static str, (Place, String)>,
    /// Settings with an error of their own: what is said about them together with others would be noise.
    bad: Vec<&'static str>,
    errors: Vec<ConfigError>,
}

impl Given {
    /// The value of a setting, its default if none was given or it was bad.
    pub(super) fn take<K: Kind>(&self, key: &str, default: &str) -> K::Value {
        let given = self.values.get(key).and_then(|(_, text)| K::parse(text));
        given.unwrap_or_else(|| K::parse(default).expect("defaults are of their own kind (tested)"))
    }

    /// Tells that settings do not go together; `keys[0]` is the one to change. Silent if one of them is bad by itself.
    pub(super) fn refuse(&mut self, keys: &[&'static str], reason: String) {
        if keys.iter().any(|key| self.bad.contains(key)) {
            return;
        }
        let place = keys.iter().find_map(|key| Some(self.values.get(key)?.0.clone())).unwrap_or(Place::Default);
        self.errors.push(ConfigError::Value { place, key: keys[0], reason });
    }

    fn row(&self, key: &str) -> Option<Row> {
        self.rows.iter().find(|row| row.key == key).copied()
    }

    /// Takes a text for a known setting; even one that a later source overrides must be right.
    fn set(&mut self, key: &'static str, place: Place, text: &str) {
        let row = self.row(key).expect("only declared settings have flags (tested)");
        if (row.fits)(text) {
            self.values.insert(row.key, (place, text.to_owned()));
        } else {
            self.value_error(row, place, kind::complaint(text, row.shown, row.what));
        }
    }

    fn value_error(&mut self, row: Row, place: Place, reason: String) {
        self.bad.push(row.key);
        self.errors.push(ConfigError::Value { place, key: row.key, reason });
    }

    fn read_env(&mut self, env: &[(String, String)]) {
        let mut ours: Vec<_> = env.iter().filter(|(name, _)| name.starts_with("HYDRANT_")).collect();
        ours.sort();
        for (name, value) in ours.into_iter().filter(|(name, _)| name != CONFIG_VARIABLE) {
            let place = Place::Variable(name.clone());
            if let Some(row) = self.rows.iter().find(|row| row.variable() == *name) {
                self.set(row.key, place, value);
            } else {
                let near = nearest(name, self.rows.iter().map(Row::variable));
                self.errors.push(ConfigError::Unknown { place, what: "variable", name: name.clone(), near });
            }
        }
    }

    fn read_file(&mut self, path: &Path) {
        match std::fs::read_to_string(path) {
            Ok(text) => self.read_toml(&File { path, text: &text }),
            Err(e) => self.errors.push(ConfigError::Read { path: path.to_owned(), reason: e.to_string() }),
        }
    }

    fn read_toml(&mut self, file: &File<'_>) {
        let (table, errors) = DeTable::parse_recoverable(file.text);
        for error in errors {
            let place = file.place(error.span().map_or(0, |span| span.start));
            self.errors.push(ConfigError::Syntax { place, reason: error.message().to_owned() });
        }
        // In the order of the text, so that errors come as one reads.
        self.read_table(file, "", table.get_ref());
    }

    fn read_table(&mut self, file: &File<'_>, prefix: &str, table: &DeTable<'_>) {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let key = format!("{prefix}{}", name.get_ref());
            let place = file.place(name.span().start);
            match (self.row(&key), value.get_ref()) {
                (Some(row), _) => self.read_value(file, row, value),
                (None, DeValue::Table(inner)) if self.is_table(&key) => {
                    self.read_table(file, &format!("{key}."), inner);
                }
                (None, _) if self.is_table(&key) => {
                    let reason = format!("`{key}` is a table: write `[{key}]` and its settings below");
                    self.errors.push(ConfigError::Syntax { place, reason });
                }
                (None, _) => {
                    let near = nearest(&key, self.rows.iter().map(|row| row.key.to_owned()));
                    self.errors.push(ConfigError::Unknown { place, what: "key", name: key, near });
                }
            }
        }
    }

    fn is_table(&self, key: &str) -> bool {
        self.rows.iter().any(|row| row.key.split_once('.').is_some_and(|(table, _)| table == key))
    }

    fn read_value(&mut self, file: &File<'_>, row: Row, value: &Spanned<DeValue<'_>>) {
        let place = file.place(value.span().start);
        let kind = value.get_ref().type_str();
        let text = if row.toml.contains(&kind) { text_of(value.get_ref(), row.joint) } else { None };
        match text {
            Some(text) => self.set(row.key, place, &text),
            None => self.value_error(row, place, format!("a value of type {kind} is not {}", row.what)),
        }
    }
}

/// A TOML value as the text that a variable would hold.
fn text_of(value: &DeValue<'_>, joint: &str) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(digits) => i128::from_str_radix(digits.as_str(), digits.radix()).ok().map(|n| n.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Array(items) => text_of_all(items, joint),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn text_of_all(items: &DeArray<'_>, joint: &str) -> Option<String> {
    let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
    texts.map(|texts| texts.join(joint))
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place::File {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// The name that is at most two slips away.
fn nearest(name: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let near = names.map(|candidate| (distance(name, &candidate), candidate)).min()?;
    (near.0 <= 2).then_some(near.1)
}

/// Levenshtein's distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_of_its_kind_and_every_variable_is_its_own() {
        let rows = rows();
        for row in rows.iter().filter(|row| row.key != "data_dir") {
            assert!((row.fits)(row.default), "{}", row.key);
            assert!(row.doc.ends_with('.'), "{}", row.key);
        }
        let mut variables: Vec<String> = rows.iter().map(Row::variable).collect();
        variables.sort();
        variables.dedup();
        assert_eq!(variables.len(), rows.len());
        assert!(!variables.contains(&CONFIG_VARIABLE.to_owned()));
    }

    #[test]
    fn distances_count_slips() {
        assert_eq!(distance("listen", "listen"), 0);
        assert_eq!(distance("lisen", "listen"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(nearest("lisen", ["listen".to_owned(), "log".to_owned()].into_iter()).as_deref(), Some("listen"));
        assert_eq!(nearest("upstream", ["listen".to_owned()].into_iter()), None);
    }
}
