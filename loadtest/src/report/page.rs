//! What is shown to people, before it is text or HTML.

use std::io::Write;

use anyhow::Result;

use super::{Chart, Machine};

/// A whole result.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// What was done.
    pub title: String,
    /// Where, with what, by whom: name and value.
    pub facts: Vec<(String, String)>,
    /// The results.
    pub sections: Vec<Section>,
}

/// A part of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// What it is about.
    pub title: String,
    /// What has to be known to read it.
    pub notes: Vec<String>,
    /// The figures.
    pub table: Option<Table>,
    /// The figures again; only on the HTML page.
    pub charts: Vec<Chart>,
    /// What was wrong.
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
    /// A page without sections.
    pub fn new(title: &str, machine: &Machine) -> Self {
        let facts = vec![("machine".to_owned(), machine.line())];
        Self { title: title.to_owned(), facts, sections: Vec::new() }
    }

    /// Adds a fact.
    pub fn fact(&mut self, name: &str, value: impl Into<String>) {
        self.facts.push((name.to_owned(), value.into()));
    }

    /// Writes the page as text.
    ///
    /// # Errors
    /// `out` takes no more.
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
    /// An empty section.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), notes: Vec::new(), table: None, charts: Vec::new(), faults: Vec::new() }
    }

    /// Adds a note.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Adds something that was wrong.
    pub fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
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
    /// A table without rows, its heads divided by `|`.
    pub fn new(heads: &str) -> Self {
        Self { head: heads.split('|').map(str::to_owned).collect(), rows: Vec::new() }
    }

    /// Adds a row; cells that are missing are empty, cells too many are left out.
    pub fn row(&mut self, mut cells: Vec<String>) {
        cells.resize(self.head.len(), String::new());
        self.rows.push(cells);
    }

    /// A cell is a figure: it stands to the right.
    pub(super) fn is_figure(cell: &str) -> bool {
        cell.starts_with(|c: char| c.is_ascii_digit()) || cell == "-"
    }

    fn write_text(&self, out: &mut dyn Write) -> Result<()> {
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| row[at].chars().count());
            cells.chain([self.head[at].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        for row in std::iter::once(&self.head).chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let padding = " ".repeat(width - cell.chars().count());
                if Self::is_figure(cell) && !cell.contains(' ') {
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

#[cfg(test)]
mod tests {
    use super::*;

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
