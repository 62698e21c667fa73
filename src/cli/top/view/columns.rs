//! A table that fits its area: if there is no room, the least important columns are left out first. Pure.

use ratatui_core::style::Style;
use ratatui_core::text::{Line, Span};

use super::style::Theme;
use crate::cli::text::{cut, printable, width};

/// Number of columns between two columns of a table.
const BETWEEN: usize = 2;
/// One column; `C` is what all cells need besides their row.
pub(super) struct Column<T, C> {
    pub(super) head: &'static str,
    /// Whether the column is aligned to the right, as numbers are.
    pub(super) is_number: bool,
    /// Columns with the highest value are left out first.
    pub(super) dispensable: u8,
    /// Minimum width, so that the table does not jump as numbers grow.
    pub(super) least: usize,
    pub(super) cell: fn(&T, &C) -> String,
}

/// The area of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Width of the terminal.
    pub(super) columns: usize,
    /// Minimum width of the first column before others are left out; it gets the width that they leave.
    pub(super) first: usize,
    pub(super) theme: Theme,
}

/// A table, laid out.
pub(super) struct Table {
    pub(super) head: Line<'static>,
    pub(super) rows: Vec<Line<'static>>,
}

/// Lays out rows. The column with the head `sorted` is marked; `style` returns the style of a row.
pub(super) fn lay_out<T, C>(
    columns: &[Column<T, C>],
    rows: &[T],
    known: &C,
    sorted: &str,
    style: impl Fn(&T) -> Style,
    room: Room,
) -> Table {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| columns.iter().map(|column| printable(&(column.cell)(row, known)).into_owned()).collect())
        .collect();
    let head = |column: &Column<T, C>| {
        if column.head == sorted { format!("{}▾", column.head) } else { column.head.to_owned() }
    };
    let mut widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let widest = cells.iter().map(|row| width(&row[at])).max().unwrap_or(0);
            // Includes room for the mark, so that widths do not change with the sort column.
            widest.max(width(column.head) + 1).max(column.least)
        })
        .collect();
    let shown = fitting(columns, &mut widths, room);
    let line = |cells: &[String], style: Style| {
        let mut text = String::new();
        for &at in &shown {
            push(&mut text, &cells[at], widths[at], columns[at].is_number);
        }
        Line::from(Span::styled(cut(text.trim_end(), room.columns).into_owned(), style))
    };
    let heads: Vec<String> = columns.iter().map(head).collect();
    let rows = rows.iter().zip(&cells).map(|(row, cells)| line(cells, style(row))).collect();
    Table { head: line(&heads, room.theme.head()), rows }
}

/// Returns the columns that are shown; the first one gets the remaining width.
fn fitting<T, C>(columns: &[Column<T, C>], widths: &mut [usize], room: Room) -> Vec<usize> {
    let Room { columns: room, first: kept, .. } = room;
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    loop {
        let others: usize = shown.iter().skip(1).map(|at| widths[*at] + BETWEEN).sum();
        let first = widths[0].min(room);
        let least = first.min(kept);
        if others + least <= room || shown.len() == 1 {
            widths[0] = room.saturating_sub(others).min(first).max(least);
            return shown;
        }
        let most = shown.iter().enumerate().skip(1).max_by_key(|(_, at)| columns[**at].dispensable);
        let Some((index, _)) = most else { return shown };
        shown.remove(index);
    }
}

fn push(line: &mut String, cell: &str, columns: usize, is_number: bool) {
    if !line.is_empty() {
        line.push_str("  ");
    }
    let cell = cut(cell, columns);
    let space = " ".repeat(columns.saturating_sub(width(&cell)));
    if is_number {
        line.push_str(&space);
        line.push_str(&cell);
    } else {
        line.push_str(&cell);
        line.push_str(&space);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_least_goes_first_and_the_first_column_gives_way() {
        let column = |head, dispensable, cell: fn(&(&str, u32), &()) -> String| Column {
            head,
            is_number: head != "Name",
            dispensable,
            least: 0,
            cell,
        };
        let columns = [
            column("Name", 0, |row, ()| row.0.to_owned()),
            column("Count", 1, |row, ()| row.1.to_string()),
            column("Rest", 2, |_, ()| "rest".to_owned()),
        ];
        let rows = [("a\u{1b}[2J-name-of-many-characters", 1), ("b", 1_000_000)];
        let shown = |terminal| {
            let room = Room { columns: terminal, first: 16, theme: Theme::default() };
            let table = lay_out(&columns, &rows, &(), "Count", |_| Style::new(), room);
            let lines: Vec<String> =
                std::iter::once(table.head).chain(table.rows).map(|line| line.to_string()).collect();
            assert!(lines.iter().all(|line| width(line) <= room.columns), "{lines:?}");
            lines
        };
        assert_eq!(
            shown(50),
            [
                "Name                            Count▾   Rest",
                "a\u{fffd}[2J-name-of-many-characters        1   rest",
                "b                              1000000   rest"
            ]
            .map(str::to_owned)
        );
        assert_eq!(shown(34)[1], "a\u{fffd}[2J-name-of-man…        1   rest");
        assert_eq!(shown(26)[0], "Name                Count▾");
        assert_eq!(shown(10)[1], "a\u{fffd}[2J-nam…");
        assert_eq!(shown(0), ["", "", ""]);
    }
}
