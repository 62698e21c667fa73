//! Turns changed cells into the bytes that show them on a terminal.
//!
//! Contract: pure. The style is the default one before and after. It knows the colours of
//! [`Theme`](super::view::Theme), and shows any other colour as the default.

use std::io::{self, Write};

use crossterm::cursor::MoveTo;
use crossterm::queue;
use crossterm::style::{Attribute, Attributes, Color, ContentStyle, Print, SetAttribute, SetStyle};
use ratatui_core::buffer::Cell;
use ratatui_core::style::{Color as CellColor, Modifier};

use crate::cli::text::width;

/// The weights that cells have.
const WEIGHTS: [(Modifier, Attribute); 3] =
    [(Modifier::BOLD, Attribute::Bold), (Modifier::DIM, Attribute::Dim), (Modifier::REVERSED, Attribute::Reverse)];

/// Writes cells at their columns and rows.
///
/// # Errors
/// Those of `out`.
pub(super) fn paint<'a>(cells: impl Iterator<Item = (u16, u16, &'a Cell)>, out: &mut impl Write) -> io::Result<()> {
    let (mut style, mut next, mut end) = (ContentStyle::new(), None, (0, 0));
    for (column, row, cell) in cells {
        if row == end.1 && column < end.0 {
            // The symbol before it is wide and covers it.
            continue;
        }
        if next != Some((column, row)) {
            queue!(out, MoveTo(column, row))?;
        }
        let wanted = style_of(cell);
        if wanted != style {
            queue!(out, SetAttribute(Attribute::Reset), SetStyle(wanted))?;
            style = wanted;
        }
        queue!(out, Print(cell.symbol()))?;
        let columns = width(cell.symbol()).try_into().unwrap_or(u16::MAX);
        end = (column.saturating_add(columns), row);
        // Terminals do not agree where a wide symbol ends.
        next = (columns == 1).then_some(end);
    }
    if style == ContentStyle::new() { Ok(()) } else { queue!(out, SetAttribute(Attribute::Reset)) }
}

fn style_of(cell: &Cell) -> ContentStyle {
    let weights = WEIGHTS.iter().filter(|(modifier, _)| cell.modifier.contains(*modifier));
    let attributes = weights.fold(Attributes::default(), |all, (_, attribute)| all.with(*attribute));
    ContentStyle { foreground_color: colour(cell.fg), attributes, ..ContentStyle::new() }
}

/// The normal colours: crossterm calls these dark, and the bright ones by the bare names.
fn colour(colour: CellColor) -> Option<Color> {
    match colour {
        CellColor::Red => Some(Color::DarkRed),
        CellColor::Green => Some(Color::DarkGreen),
        CellColor::Yellow => Some(Color::DarkYellow),
        CellColor::Cyan => Some(Color::DarkCyan),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ratatui_core::buffer::Buffer;
    use ratatui_core::layout::Rect;
    use ratatui_core::style::Style;

    use super::*;

    fn painted(draw: impl FnOnce(&mut Buffer)) -> String {
        let area = Rect::new(0, 0, 8, 2);
        let (before, mut after) = (Buffer::empty(area), Buffer::empty(area));
        draw(&mut after);
        let mut out = Vec::new();
        paint(before.diff_iter(&after), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_changed_cells_are_painted_each_at_its_place() {
        assert_eq!(painted(|_| ()), "");
        let plain = painted(|cells| {
            cells.set_string(1, 0, "ab", Style::new());
            cells.set_string(0, 1, "日c", Style::new());
        });
        assert_eq!(plain, "\x1b[1;2Hab\x1b[2;1H日\x1b[2;3Hc");
    }

    #[test]
    fn what_follows_an_emoji_stays_in_its_column() {
        let area = Rect::new(0, 0, 8, 1);
        let [before, after] = ["abcdef", "❤\u{fe0f}xyef"].map(|text| {
            let mut cells = Buffer::empty(area);
            cells.set_string(0, 0, text, Style::new());
            cells
        });
        let mut out = Vec::new();
        paint(before.diff_iter(&after), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "\x1b[1;1H❤\u{fe0f}\x1b[1;3Hxy");
    }

    #[test]
    fn a_style_lasts_as_long_as_its_cells() {
        // Whatever NO_COLOR says to those who run the tests.
        crossterm::style::force_color_output(true);
        let styled = painted(|cells| {
            cells.set_string(0, 0, "ab", Style::new().fg(CellColor::Cyan).add_modifier(Modifier::BOLD));
            cells.set_string(2, 0, "c", Style::new().fg(CellColor::Green));
            cells.set_string(3, 0, "d", Style::new());
            cells.set_string(4, 0, "e", Style::new().add_modifier(Modifier::REVERSED | Modifier::DIM));
        });
        let cyan = "\x1b[0m\x1b[38;5;6m\x1b[1mab";
        assert_eq!(styled, format!("\x1b[1;1H{cyan}\x1b[0m\x1b[38;5;2mc\x1b[0md\x1b[0m\x1b[2m\x1b[7me\x1b[0m"));
    }
}
