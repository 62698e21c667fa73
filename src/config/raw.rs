//! The given value of each setting, where it was given, and what is wrong with it.
//!
//! A file, the environment and flags are all collected in a [`RawSettings`]: the text of each value with its location.
//! The tables of settings parse their values from it; checks add errors for inconsistent settings.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors, Location};
use super::kind::{self, Kind};

/// The variable that names the configuration file if `--config` is not given.
pub const CONFIG_VARIABLE: &str = "HYDRANT_CONFIG";

/// The longest configuration file, in bytes.
const LONGEST_FILE: u64 = 1 << 20;

/// The description of one setting.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Name of the setting in the file, with its table: `limits.message_bytes`.
    pub key: &'static str,
    /// The default as text; empty if there is none or if it depends on the environment.
    pub default: &'static str,
    /// Description of a valid value.
    pub what: &'static str,
    /// What the setting does.
    pub doc: &'static str,
    /// The TOML types that are accepted.
    pub(super) toml: &'static [&'static str],
    /// Whether a message may repeat the given text.
    pub(super) shown: bool,
    /// The separator between the items of a list.
    pub(super) separator: &'static str,
    /// Returns whether a text is a valid value.
    pub(super) fits: fn(&str) -> bool,
}

impl Row {
    /// Returns the name of the environment variable for this setting.
    pub fn variable(&self) -> String {
        format!("HYDRANT_{}", self.key.replace('.', "_").to_ascii_uppercase())
    }

    /// Returns the first invalid element of a list of several, unless it may be a secret, or long.
    fn wrong_element<'t>(&self, text: &'t str) -> Option<&'t str> {
        if !self.shown || !self.what.starts_with("a list") || !text.contains(self.separator) {
            return None;
        }
        let wrong = text.split(self.separator).map(str::trim).find(|element| !(self.fits)(element));
        wrong.filter(|element| element.len() <= 64)
    }
}

/// A struct of settings that can declare its rows.
pub(super) trait Table: Sized {
    fn declare(rows: &mut Vec<Row>);
    fn take(raw: &RawSettings) -> Self;
}

/// The values found so far; a later source overwrites an earlier one.
pub(super) struct RawSettings {
    rows: Vec<Row>,
    values: HashMap<&'static str, (Location, String)>,
    /// The values of the file that a variable or a flag overrides, or repeats.
    overridden: HashMap<&'static str, (Location, String)>,
    /// Settings with an error of their own; further errors that involve them would be noise.
    bad: Vec<&'static str>,
    errors: Vec<ConfigError>,
    notes: Vec<String>,
    /// Whether the file is not valid TOML, so that some of it was not read.
    is_misread: bool,
}

impl RawSettings {
    /// Creates an empty set of values for these settings.
    pub(super) fn new(rows: Vec<Row>) -> Self {
        let (values, overridden) = (HashMap::new(), HashMap::new());
        Self { rows, values, overridden, bad: Vec::new(), errors: Vec::new(), notes: Vec::new(), is_misread: false }
    }

    /// Sets the default of a setting that depends on the environment.
    pub(super) fn set_default(&mut self, key: &'static str, text: String) {
        self.values.insert(key, (Location::Default, text));
    }

    /// Returns the text given for a setting, if any.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|(_, text)| text.as_str())
    }

    /// Returns the settings that were given whose names begin with `prefix`.
    pub(super) fn given(&self, prefix: &str) -> Vec<&'static str> {
        let given = |key: &&'static str| {
            key.starts_with(prefix)
                && self.values.get(key).is_some_and(|(location, _)| !matches!(location, Location::Default))
        };
        self.rows.iter().map(|row| row.key).filter(given).collect()
    }

    /// Adds a note about something that is noteworthy, but valid.
    pub(super) fn note(&mut self, key: &str, text: &str) {
        self.notes.push(format!("{key}: {text}"));
    }

    /// Returns the notes, or all errors.
    pub(super) fn finish(self) -> Result<Vec<String>, ConfigErrors> {
        if self.errors.is_empty() { Ok(self.notes) } else { Err(ConfigErrors(self.errors)) }
    }

    /// Returns the value of a setting, or its default if none was given or it was invalid.
    pub(super) fn take<K: Kind>(&self, key: &str, default: &str) -> K::Value {
        let raw = self.values.get(key).and_then(|(_, text)| K::parse(text));
        raw.unwrap_or_else(|| K::parse(default).expect("defaults are of their own kind (tested)"))
    }

    /// Reports that settings contradict each other; `keys[0]` is the one to change. Does nothing if one of them has an
    /// error of its own, or may be in a part of the file that was not read.
    pub(super) fn refuse(&mut self, keys: &[&'static str], reason: String) {
        if self.is_misread || keys.iter().any(|key| self.bad.contains(key)) {
            return;
        }
        let location = keys.iter().find_map(|key| Some(self.values.get(key)?.0.clone())).unwrap_or(Location::Default);
        self.errors.push(ConfigError::Value { location, key: keys[0], reason });
    }

    fn row(&self, key: &str) -> Option<Row> {
        self.rows.iter().find(|row| row.key == key).copied()
    }

    /// Sets a known setting from a text, which must be valid even if a later source overrides it.
    pub(super) fn set(&mut self, key: &'static str, location: Location, text: &str) {
        let row = self.row(key).expect("only declared settings have flags (tested)");
        if (row.fits)(text) {
            let old = self.values.insert(row.key, (location, text.to_owned()));
            if let Some(file @ (Location::File { .. }, _)) = old {
                self.overridden.insert(row.key, file);
            }
        } else {
            let reason = kind::complaint(text, row.shown, row.what);
            let wrong = row.wrong_element(text).map(|element| format!(": `{element}` is wrong"));
            self.value_error(row, location, reason + &wrong.unwrap_or_default());
        }
    }

    /// Notes which values of the file are not in force, and which are instead: whoever edits the file may not know what
    /// else the program is given. Called after the last source.
    pub(super) fn note_overrides(&mut self) {
        let note = |row: &Row| {
            let ((file, old), (location, text)) = (self.overridden.get(row.key)?, self.values.get(row.key)?);
            let note = if row.shown {
                format!("`{text}` of {location} overrides `{old}` of {file}")
            } else {
                format!("the value of {location} overrides that of {file}")
            };
            (old != text).then_some((row.key, note))
        };
        let notes: Vec<_> = self.rows.iter().filter_map(note).collect();
        notes.iter().for_each(|(key, note)| self.note(key, note));
    }

    fn value_error(&mut self, row: Row, location: Location, reason: String) {
        self.bad.push(row.key);
        self.errors.push(ConfigError::Value { location, key: row.key, reason });
    }

    pub(super) fn read_env(&mut self, env: &[(String, String)]) {
        let mut ours: Vec<_> = env.iter().filter(|(name, _)| name.starts_with("HYDRANT_")).collect();
        ours.sort();
        for (name, value) in ours.into_iter().filter(|(name, _)| name != CONFIG_VARIABLE) {
            let location = Location::Variable(name.clone());
            if let Some(row) = self.rows.iter().find(|row| row.variable() == *name) {
                self.set(row.key, location, value);
            } else {
                let near = nearest(name, self.rows.iter().map(Row::variable));
                self.errors.push(ConfigError::Unknown { location, what: "variable", name: name.clone(), near });
            }
        }
    }

    pub(super) fn read_file(&mut self, path: &Path) {
        match text_of_file(path) {
            Ok(text) => self.read_toml(path, &text),
            Err(reason) => self.errors.push(ConfigError::Read { path: path.to_owned(), reason }),
        }
    }

    /// Reads settings from TOML. After the first syntax error the rest may only look wrong: neither it nor combinations
    /// of settings are checked.
    fn read_toml(&mut self, path: &Path, text: &str) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let start = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
        let slip = errors.iter().min_by_key(|error| start(error));
        let file = File { path, text, sound: slip.map_or(usize::MAX, start) };
        if let Some(slip) = slip {
            self.is_misread = true;
            let location = file.location(file.sound);
            self.errors.push(ConfigError::Syntax { location, reason: slip.message().to_owned() });
        }
        // In the order of the text, so that errors are sorted by line.
        self.read_table(&file, "", table.get_ref());
    }

    fn read_table(&mut self, file: &File<'_>, prefix: &str, table: &DeTable<'_>) {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries.into_iter().filter(|(name, _)| name.span().start < file.sound) {
            let key = format!("{prefix}{}", name.get_ref());
            match (self.row(&key), value.get_ref()) {
                (Some(_), _) if value.span().end >= file.sound => {}
                (Some(row), _) => self.read_value(file, row, value),
                (None, DeValue::Table(inner)) if self.is_table(&key) => {
                    self.read_table(file, &format!("{key}."), inner);
                }
                (None, _) => self.key_error(key, file.location(name.span().start)),
            }
        }
    }

    /// Reports a key that is not a setting.
    fn key_error(&mut self, key: String, location: Location) {
        self.errors.push(if self.is_table(&key) {
            let reason = format!("`{key}` is a table: write `[{key}]`, and its settings below it");
            ConfigError::Syntax { location, reason }
        } else {
            let near = nearest(&key, self.rows.iter().map(|row| row.key.to_owned()));
            ConfigError::Unknown { location, what: "key", name: key, near }
        });
    }

    fn is_table(&self, key: &str) -> bool {
        self.rows.iter().any(|row| row.key.split_once('.').is_some_and(|(table, _)| table == key))
    }

    fn read_value(&mut self, file: &File<'_>, row: Row, value: &Spanned<DeValue<'_>>) {
        let location = file.location(value.span().start);
        let kind = value.get_ref().type_str();
        let text = if row.toml.contains(&kind) { text_of(value.get_ref(), row.separator) } else { None };
        match text {
            Some(text) => self.set(row.key, location, &text),
            None => self.value_error(row, location, format!("a value of type {kind} is not {}", row.what)),
        }
    }
}

/// Returns the text of a file. Reads no other kind of file: a pipe may never end, nor may a device.
fn text_of_file(path: &Path) -> Result<String, String> {
    // Before it is opened, because opening a pipe waits for its other end.
    let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if about.is_dir() {
        return Err("it is a directory".to_owned());
    }
    if !about.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(format!("it is longer than {} MiB", LONGEST_FILE >> 20));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        format!("line {} is not valid UTF-8", memchr::memchr_iter(b'\n', valid).count() + 1)
    })
}

/// Returns a TOML value as the text that a variable would hold.
fn text_of(value: &DeValue<'_>, separator: &str) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(digits) => i128::from_str_radix(digits.as_str(), digits.radix()).ok().map(|n| n.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Array(items) => text_of_all(items, separator),
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn text_of_all(items: &DeArray<'_>, separator: &str) -> Option<String> {
    let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
    texts.map(|texts| texts.join(separator))
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
    /// Number of bytes before the first syntax error.
    sound: usize,
}

impl File<'_> {
    fn location(&self, offset: usize) -> Location {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Location::File {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// Returns the most similar name, if it differs by at most two edits.
fn nearest(name: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let near = names.map(|candidate| (distance(name, &candidate), candidate)).min()?;
    (near.0 <= 2).then_some(near.1)
}

/// Returns the Levenshtein distance in bytes.
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

/// Returns whether the file can be read; if not, reports an error. The file is opened rather than looked up, because a
/// key without read permission is as useless as a missing one.
pub(super) fn readable(key: &'static str, path: &Path, raw: &mut RawSettings) -> bool {
    let problem = match std::fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(about) if about.is_file() => return true,
        Ok(_) => "not a file".to_owned(),
        Err(e) => e.to_string(),
    };
    raw.refuse(&[key], format!("{}: {problem}", path.display()));
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_slips() {
        assert_eq!(distance("listen", "listen"), 0);
        assert_eq!(distance("lisen", "listen"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(nearest("lisen", ["listen".to_owned(), "log".to_owned()].into_iter()).as_deref(), Some("listen"));
        assert_eq!(nearest("upstream", ["listen".to_owned()].into_iter()), None);
    }
}
