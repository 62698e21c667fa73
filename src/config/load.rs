//! Collects values from flags, environment and file, with all their errors.

use std::path::{Path, PathBuf};

use super::check;
use super::error::{ConfigErrors, Location};
use super::raw::{CONFIG_VARIABLE, RawSettings, Table as _};
use super::settings::{Settings, rows};

/// A setting given on the command line.
#[derive(Debug, Clone)]
pub struct FlagValue {
    /// Name of the setting.
    pub key: &'static str,
    /// The flag, as typed: `--listen`.
    pub flag: &'static str,
    /// The value; several values are joined by the setting's separator, usually a comma.
    pub text: String,
}

/// The sources of settings.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file; if `None`, the file named by `HYDRANT_CONFIG`, if any.
    pub file: Option<PathBuf>,
    /// Environment variables, in any order. Only `HYDRANT_*`, `XDG_DATA_HOME` and `HOME` are used.
    pub env: Vec<(String, String)>,
    /// Settings from the command line.
    pub flags: Vec<FlagValue>,
}

impl Sources {
    /// Returns the process's environment, with the file if one is given.
    pub fn environment(file: Option<PathBuf>) -> Self {
        let text = |part: std::ffi::OsString| part.to_string_lossy().into_owned();
        let env = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        Self { file, env, flags: Vec::new() }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let found = self.env.iter().find(|(n, value)| n == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the path of the file that is read.
    pub fn path(&self) -> Option<PathBuf> {
        self.file.clone().or_else(|| self.variable(CONFIG_VARIABLE).map(PathBuf::from))
    }

    fn data_dir(&self) -> PathBuf {
        // The XDG base directory specification requires that relative paths are ignored.
        let absolute = |name| self.variable(name).map(Path::new).filter(|path| path.is_absolute());
        absolute("XDG_DATA_HOME")
            .map(|base| base.join("hydrant"))
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share/hydrant")))
            .unwrap_or_else(|| PathBuf::from("/var/lib/hydrant"))
    }
}

impl Settings {
    /// Loads and checks all settings.
    ///
    /// # Errors
    /// Returns [`ConfigErrors`] with all errors found.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        Self::load_with_notes(sources).map(|(settings, _)| settings)
    }

    /// Like [`Settings::load`], with notes: valid settings that may not be what the operator intended.
    ///
    /// # Errors
    /// Returns [`ConfigErrors`] with all errors found.
    pub fn load_with_notes(sources: &Sources) -> Result<(Self, Vec<String>), ConfigErrors> {
        let mut raw = RawSettings::new(rows());
        raw.set_default("data_dir", sources.data_dir().display().to_string());
        if let Some(path) = sources.path() {
            raw.read_file(&path);
        }
        raw.read_env(&sources.env);
        for flag in &sources.flags {
            raw.set(flag.key, Location::Flag(flag.flag), &flag.text);
        }
        raw.note_overrides();
        let settings = Self::take(&raw);
        check::all(&settings, &mut raw);
        raw.finish().map(|notes| (settings, notes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::Row;

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
}
