//! The content of a result, independent of text or HTML.

use std::io::Write;

use anyhow::Result;
use serde_json::Value;

use super::{Chart, Machine};

/// A whole result.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Title: the command that was run.
    pub title: String,
    /// Facts about the run, such as machine, versions and settings: name and value.
    pub facts: Vec<(String, String)>,
    /// Whether the run was successful; if `None`, a verdict on faults is added.
    pub verdict: Option<Verdict>,
    /// The results.
    pub sections: Vec<Section>,
}

/// Whether the run was successful, in a few words; only on the HTML page, since the terminal has the exit status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the run was successful.
    pub good: bool,
    /// The verdict as a sentence.
    pub text: String,
}

impl Verdict {
    pub(super) fn of_faults(is_clean: bool) -> Self {
        let text = if is_clean {
            "No faults: all deliveries arrived once, in order and undamaged"
        } else {
            "Faults: see below"
        };
        Self { good: is_clean, text: text.to_owned() }
    }
}

/// A part of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Title of the section.
    pub title: String,
    /// Explanations of the figures.
    pub notes: Vec<String>,
    /// The figures.
    pub table: Option<Table>,
    /// The figures as charts; only on the HTML page.
    pub charts: Vec<Chart>,
    /// What went wrong.
    pub faults: Vec<String>,
}

/// A table; every row has as many cells as the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Names of the columns.
    pub head: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

impl Page {
    /// Creates a page without sections.
    pub fn new(title: &str, machine: &Machine) -> Self {
        let facts = vec![("when".to_owned(), machine.when.clone()), ("machine".to_owned(), machine.line())];
        Self { title: title.to_owned(), facts, verdict: None, sections: Vec::new() }
    }

    /// Adds a fact.
    pub fn fact(&mut self, name: &str, value: impl Into<String>) {
        self.facts.push((name.to_owned(), value.into()));
    }

    /// Writes the page as text.
    ///
    /// # Errors
    /// Fails if `out` cannot be written.
    pub fn write_text(&self, out: &mut dyn Write) -> Result<()> {
        writeln!(out, "{}", self.title)?;
        for (name, value) in &self.facts {
            writeln!(out, "{name}: {value}")?;
        }
        for section in &self.sections {
            section.write_text(out)?;
        }
        Ok(())
    }
}

impl Section {
    /// Creates an empty section.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), notes: Vec::new(), table: None, charts: Vec::new(), faults: Vec::new() }
    }

    /// Adds a note.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Adds something that went wrong.
    pub fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
    }

    /// Removes repeated notes.
    pub fn distinct_notes(&mut self) {
        let mut said = std::collections::HashSet::new();
        self.notes.retain(|note| said.insert(note.clone()));
    }

    fn write_text(&self, out: &mut dyn Write) -> Result<()> {
        writeln!(out, "\n{}", self.title)?;
        for note in &self.notes {
            writeln!(out, "{note}")?;
        }
        if let Some(table) = &self.table {
            writeln!(out)?;
            table.write_text(out)?;
        }
        if !self.faults.is_empty() {
            writeln!(out)?;
        }
        for fault in &self.faults {
            writeln!(out, "FAULT {fault}")?;
        }
        Ok(())
    }
}

impl Table {
    /// Creates a table without rows; `heads` are separated by `|`.
    pub fn new(heads: &str) -> Self {
        Self { head: heads.split('|').map(str::to_owned).collect(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty, surplus cells are dropped.
    pub fn row(&mut self, mut cells: Vec<String>) {
        cells.resize(self.head.len(), String::new());
        self.rows.push(cells);
    }

    /// Returns whether all cells of a column are figures or empty, so that it is aligned to the right.
    pub(super) fn is_of_figures(&self, column: usize) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| is_figure(&row[column]))
    }

    fn write_text(&self, out: &mut dyn Write) -> Result<()> {
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| row[at].chars().count());
            cells.chain([self.head[at].chars().count()]).max().unwrap_or(0)
        };
        let columns: Vec<(usize, bool)> = (0..self.head.len()).map(|at| (width(at), self.is_of_figures(at))).collect();
        for row in std::iter::once(&self.head).chain(&self.rows) {
            let mut line = String::new();
            for (cell, (width, right)) in row.iter().zip(&columns) {
                let padding = " ".repeat(width - cell.chars().count());
                if *right {
                    line.extend([padding.as_str(), cell, "  "]);
                } else {
                    line.extend([cell, padding.as_str(), "  "]);
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Formats the arguments of a run, without its cores and output files; the items of lists are separated by spaces.
pub(crate) fn settings_line(settings: &Value) -> String {
    let shown = |value: &Value| match value {
        Value::Array(all) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    let is_told = |(name, value): &(&String, &Value)| {
        let is_empty = value.as_array().is_some_and(Vec::is_empty);
        *name != "run" && !is_empty && **value != Value::Bool(false)
    };
    let all = settings.as_object().into_iter().flatten().filter(is_told);
    all.map(|(name, value)| format!("{name} {}", shown(value))).collect::<Vec<_>>().join(", ")
}

/// Returns whether a cell has a number, with a unit of at most one word, or says that there is none.
fn is_figure(cell: &str) -> bool {
    let is_number = cell.starts_with(|c: char| c.is_ascii_digit());
    let words = cell.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).count();
    (is_number && words <= 1) || matches!(cell, "" | "-" | LEFT_OUT)
}

/// Replaces the figures of work that was left out.
pub(super) const LEFT_OUT: &str = "left out";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_words() {
        let settings = serde_json::json!({ "k": [1, 16], "run": {}, "rate": [], "runners": 5, "selective": false });
        assert_eq!(settings_line(&settings), "k 1 16, runners 5");
    }

    #[test]
    fn columns_of_figures_stand_to_the_right_with_their_heads() {
        let mut table = Table::new("figures|text");
        table.row(vec!["1.00 (0.50 .. 2.00)".to_owned(), "3 got all, 4 told".to_owned()]);
        table.row(vec!["944 MB".to_owned(), "5".to_owned()]);
        table.row(vec![LEFT_OUT.to_owned(), "-".to_owned()]);
        assert!(table.is_of_figures(0) && !table.is_of_figures(1));
        assert!(!Table::new("nothing").is_of_figures(0));
        let mut text = Vec::new();
        table.write_text(&mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().starts_with("            figures  text\n"));
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new("name|count");
        table.row(vec!["a longer one".to_owned(), "5".to_owned()]);
        table.row(vec!["b".to_owned()]);
        let mut text = Vec::new();
        table.write_text(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, "name          count\na longer one      5\nb\n");
    }
}
