//! The store that these commands read and change, and what they share.
//!
//! Every change prints which file was changed: with another `--data-dir`, or as another user, it may not be the
//! intended one.

#![expect(clippy::doc_markdown, reason = "the comments on flags are their help texts")]

use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::error::UsersError;
use crate::auth::{Store, StoreError, edit_store, read_store, store_file};
use crate::cli::console::report;
use crate::config::{ConfigErrors, Settings, Sources};

/// The flags that select the data directory.
#[derive(Args)]
pub(super) struct DataDir {
    /// The server's data directory [env: HYDRANT_DATA_DIR] [default: as `hydrant serve`]
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// TOML file with the server's settings, to find the data directory [env: HYDRANT_CONFIG]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl DataDir {
    /// Returns the directory given by a flag, otherwise the one that `hydrant serve` would use.
    pub(super) fn path(&self) -> Result<PathBuf, ConfigErrors> {
        match &self.data_dir {
            Some(path) => Ok(path.clone()),
            None => Ok(Settings::load(&Sources::environment(self.config.clone()))?.data_dir),
        }
    }

    /// Reads the store.
    pub(super) fn read(&self) -> Result<Store, UsersError> {
        let path = self.path()?;
        if let Err(source) = std::fs::read_dir(&path) {
            return Err(UsersError::Directory { path, source });
        }
        Ok(read_store(&path)?)
    }

    /// Changes the store, and prints which file was changed.
    pub(super) fn edit(
        &self,
        err: &mut dyn Write,
        change: impl FnOnce(&mut Store) -> Result<(), StoreError>,
    ) -> Result<(), UsersError> {
        let path = self.path()?;
        edit_store(&path, change)?;
        report_change(&path, &store_file(&path), err);
        Ok(())
    }
}

/// Prints which file of a data directory was changed.
pub(super) fn report_change(dir: &Path, file: &Path, err: &mut dyn Write) {
    report(err, format_args!("changed {}", file.display()));
    // The server writes it when it starts for the first time.
    if !dir.join("id").exists() {
        let dir = dir.display();
        report(
            err,
            format_args!(
                "note: no server has used {dir} yet; a server sees this change only if it is started with \
                 `--data-dir {dir}`"
            ),
        );
    }
}

/// Reads the first line, at most `limit` bytes of it, without its line break. The input may stay open: nobody who types
/// a line, or holds a pipe, should have to end it too.
pub(super) fn first_line(input: &mut dyn BufRead, limit: usize) -> Result<Vec<u8>, UsersError> {
    let mut line = Vec::new();
    input.take(limit as u64).read_until(b'\n', &mut line).map_err(UsersError::Input)?;
    line.pop_if(|last| *last == b'\n');
    Ok(line)
}

/// Splits a comma list, ignoring blanks and empty elements.
pub(super) fn names(list: &[String]) -> Vec<String> {
    list.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect()
}

/// Writes columns as wide as they need to be; an empty cell is a dash, so that scripts can split at white space.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]], out: &mut dyn Write) -> io::Result<()> {
    let cell = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let lines = std::iter::once(header.map(ToOwned::to_owned))
        .chain(rows.iter().map(|row| row.each_ref().map(|text| cell(text))));
    let lines: Vec<[String; N]> = lines.collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    for line in &lines {
        let padded = |(column, cell): (usize, &String)| format!("{cell:0$}", width(column));
        let cells: Vec<String> = line.iter().enumerate().map(padded).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_split_at_white_space() {
        let mut out = Vec::new();
        let rows = [["alice".to_owned(), String::new()], ["b".to_owned(), "reader".to_owned()]];
        table(["NAME", "ROLES"], &rows, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME   ROLES\nalice  -\nb      reader\n");
    }
}
