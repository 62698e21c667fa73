//! `--fields`: an aligned table with a row per event, written as events arrive.
//!
//! A column is as wide as its widest value so far, up to a limit, so that one long value does not push all others away.
//! On a terminal rows are cut at the edge; a pipe gets whole rows.

use std::borrow::Cow;

use crate::cli::text::{cut, printable, width};
use crate::index::filter::Path;
use crate::index::filter::path::array_index;
use crate::json;

/// A value wider than this does not widen its column.
const WIDEST: usize = 40;
/// The space between two columns.
const BETWEEN: &str = "  ";
/// The placeholder for a missing field.
const MISSING: &str = "-";
/// Width of a full Time: `2026-01-02T03:04:05.123456789Z`.
const TIME: usize = 30;

/// The view of `--fields`: its columns, with their widths so far.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    /// Width of the terminal in columns, if the output is one.
    edge: Option<usize>,
    has_head: bool,
}

#[derive(Debug)]
struct Column {
    head: String,
    path: Path,
    width: usize,
}

impl Table {
    pub(super) fn new(fields: Vec<Path>, edge: Option<usize>) -> Self {
        let column = |path: Path| {
            let head = printable(&path.to_string()).into_owned();
            // The number of decimals varies, so a Time would shift the columns after it.
            let least = if head == "Time" { TIME } else { 0 };
            Column { width: width(&head).max(least), head, path }
        };
        Self { columns: fields.into_iter().map(column).collect(), edge, has_head: false }
    }

    /// Appends the row of an event, preceded by the heads before the first row.
    pub(super) fn event(&mut self, event: &str, out: &mut Vec<u8>) {
        let cells: Vec<String> = self.columns.iter().map(|column| cell(event, &column.path)).collect();
        for (column, cell) in self.columns.iter_mut().zip(&cells) {
            column.width = column.width.max(width(cell).min(WIDEST));
        }
        if !std::mem::replace(&mut self.has_head, true) {
            let heads: Vec<String> = self.columns.iter().map(|column| column.head.clone()).collect();
            self.row(&heads, out);
        }
        self.row(&cells, out);
    }

    fn row(&self, cells: &[String], out: &mut Vec<u8>) {
        let mut line = String::new();
        for (column, cell) in self.columns.iter().zip(cells) {
            if !line.is_empty() {
                line.push_str(BETWEEN);
            }
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', column.width.saturating_sub(width(cell))));
        }
        let line = line.trim_end();
        out.extend_from_slice(self.edge.map_or(Cow::Borrowed(line), |edge| cut(line, edge)).as_bytes());
        out.push(b'\n');
    }
}

/// Returns the text of a field: of the event, or else of its Object.
fn cell(event: &str, path: &Path) -> String {
    let in_object = || find(find(event, &["Object".into()])?, path.segments());
    let Some(value) = find(event, path.segments()).or_else(in_object) else { return MISSING.to_owned() };
    match json::as_string(value) {
        // Quoted, to distinguish it from a missing field.
        Some(text) if text.is_empty() || text == MISSING => value.to_owned(),
        Some(text) => printable(&text).into_owned(),
        None => printable(value).into_owned(),
    }
}

/// Returns the value at a path, as written in the text.
fn find<'t>(text: &'t str, path: &[Box<str>]) -> Option<&'t str> {
    path.iter().try_fold(text, |value, name| {
        if value.starts_with('[') {
            return json::elements(value).nth(array_index(name)?);
        }
        // Of duplicate names the last one counts, as in every decoder.
        json::members(value).filter(|member| member.name() == **name).last().map(|member| member.value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(fields: &[&str], edge: Option<usize>, events: &[&str]) -> String {
        let fields = fields.iter().map(|field| Path::parse(field).unwrap()).collect();
        let mut table = Table::new(fields, edge);
        let mut out = Vec::new();
        events.iter().for_each(|event| table.event(event, &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_what_has_come() {
        let events = [
            r#"{"Type":"machines","Key":"m1","Object":{"Stage":"local","Params":{"a/b":[1,{"x":true}]},"E":""}}"#,
            r#"{"Type":"jobs","Key":"a-longer-key","Object":{"Type":"inner","Stage":"日本"}}"#,
            r#"{"Type":"jobs","Key":"","Object":null}"#,
        ];
        let expected = "\
            Type      Key  Stage  Params.a/b\n\
            machines  m1   local  [1,{\"x\":true}]\n\
            jobs      a-longer-key  日本   -\n\
            jobs      \"\"            -      -\n";
        assert_eq!(shown(&["Type", "Key", "Stage", "Params.a/b"], None, &events), expected);
        let expected = "Object.Type  Params.a/b.1.x  E\n-            true            \"\"\n";
        assert_eq!(shown(&["Object.Type", "Params.a/b.1.x", "E"], None, &events[..1]), expected);
    }

    #[test]
    fn a_terminal_gets_no_row_wider_than_itself_and_a_pipe_everything() {
        let long = format!(r#"{{"Key":"{}","Type":"a"}}"#, "k".repeat(100));
        let (cut, whole) = (shown(&["Key", "Type"], Some(30), &[&long]), shown(&["Key", "Type"], None, &[&long, "{}"]));
        assert!(cut.lines().all(|line| line.chars().count() <= 30), "{cut}");
        assert!(whole.contains(&format!("{}  a\n", "k".repeat(100))), "{whole}");
        assert_eq!(whole.lines().last(), Some(format!("-{}-", " ".repeat(WIDEST + 1)).as_str()));
    }
}
