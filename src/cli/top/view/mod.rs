//! Draws `top`. Pure: a state and an area in, cells out.
//!
//! The display has a title, the tabs, the body and a line of keys. A wide terminal shows the overview in two columns;
//! on a small one, what does not fit is left out or can be scrolled to. Whatever a server sends, no cell contains a
//! control character.

mod columns;
mod connections;
mod overview;
mod registrations;
mod style;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::text::{Line, Span};
use ratatui_core::widgets::Widget;

use self::columns::Table;
pub(super) use self::style::Theme;
use super::figures::{Registration, Status};
use super::format::{ago, count};
use super::state::{Link, List, State, Tab};
use crate::cli::text::printable;
use crate::client::RefusedError;

/// The width from which the overview has two columns.
const TWO_COLUMNS: u16 = 130;
/// Maximum number of connections requested from the server.
pub(super) const MOST_ROWS: usize = 500;

/// The number of registrations that a shard reports: fewer are all there are.
const MOST_OF_SHARD: usize = 100;

const KEYS: &str = "q quit  1 2 3 tabs  s sort  r reverse  space pause  ? help";

const HELP: [&str; 14] = [
    "1, 2, 3            show overview, connections, registrations",
    "Tab, left, right   next or previous tab",
    "s, S               sort by the next or previous column",
    "r                  reverse the order",
    "space, p           pause or resume",
    "up, down, j, k     scroll by one row",
    "PgUp, PgDn         scroll by ten rows; Home, End: first, last row",
    "?                  show this help",
    "q, Ctrl-C          quit",
    "",
    "Rates cover the last five seconds. Cost is the total time that the",
    "filter of a registration has taken. Queued is data not yet sent to a",
    "client; beyond outbox.bytes its overflow policy applies.",
    "Press any key to close this help.",
];

/// Draws the whole display.
pub(super) fn draw(state: &State, theme: Theme, area: Rect, cells: &mut Buffer) {
    let row = |y: u16, height: u16| Rect { x: area.x, y: area.y + y, width: area.width, height };
    if area.height == 0 || area.width == 0 {
        return;
    }
    cells.set_style(row(0, 1), Theme::bar());
    Line::raw(title(state)).render(row(0, 1), cells);
    if area.height < 4 {
        return;
    }
    tabs(state).render(row(1, 1), cells);
    body(state, theme, row(2, area.height - 3), cells);
    footer(state, theme).render(row(area.height - 1, 1), cells);
    if state.shows_help {
        help(area, cells);
    }
}

fn footer(state: &State, theme: Theme) -> Line<'static> {
    match &state.link {
        Link::Lost(error) => Line::styled(printable(error).into_owned(), theme.bad()),
        Link::Connecting => Line::styled(format!("connecting to {}", printable(&state.endpoint)), Theme::quiet()),
        Link::Live => Line::styled(KEYS, Theme::quiet()),
    }
}

fn title(state: &State) -> String {
    let standing = match (&state.link, state.is_paused) {
        (Link::Lost(_), _) => "LOST",
        (Link::Connecting, _) => "connecting",
        (Link::Live, true) => "PAUSED",
        (Link::Live, false) => "live",
    };
    let endpoint = printable(&state.endpoint);
    let Some(status) = &state.status else { return format!(" hydrant  {endpoint}  {standing}") };
    let (version, node) = (printable(&status.version), printable(&status.id));
    let up = status.seconds_since(&status.started).map_or(String::new(), |up| format!("  up {}", ago(up)));
    format!(" hydrant {version}  {endpoint}  {standing}{up}  {node}")
}

fn tabs(state: &State) -> Line<'static> {
    let tab = |(at, tab): (usize, Tab)| {
        let style = if tab == state.tab { Theme::bar() } else { Theme::quiet() };
        [Span::styled(format!(" {} {} ", at + 1, tab.title()), style), Span::raw(" ")]
    };
    Line::from(Tab::ALL.into_iter().enumerate().flat_map(tab).collect::<Vec<_>>())
}

fn body(state: &State, theme: Theme, area: Rect, cells: &mut Buffer) {
    if state.tab != Tab::Overview {
        return table_body(state, theme, area, cells);
    }
    let Some(status) = &state.status else { return waiting(state).render(area, cells) };
    let is_wide = area.width >= TWO_COLUMNS;
    let half = if is_wide { area.width / 2 } else { area.width };
    let (mut left, right) = overview::lines(state, status, usize::from(half), theme);
    if is_wide {
        let at = |x: u16| Rect { x: area.x + x, width: half.saturating_sub(2), ..area };
        stack(scrolled(right, state.scroll, area.height), at(half), cells);
        stack(scrolled(left, state.scroll, area.height), at(0), cells);
    } else {
        left.push(Line::default());
        left.extend(right);
        stack(scrolled(left, state.scroll, area.height), area, cells);
    }
}

/// Returns what is shown in place of figures that have not come yet.
fn waiting(state: &State) -> Line<'static> {
    Line::styled(if state.is_paused { "not requested before the pause; space resumes" } else { "" }, Theme::quiet())
}

/// Returns the lines from the scroll position on, but never beyond the last page.
fn scrolled(lines: Vec<Line<'static>>, scroll: usize, height: u16) -> Vec<Line<'static>> {
    let last = lines.len().saturating_sub(usize::from(height));
    lines.into_iter().skip(scroll.min(last)).collect()
}

/// Writes lines one below the other, as many as fit.
fn stack(lines: impl IntoIterator<Item = Line<'static>>, area: Rect, cells: &mut Buffer) {
    for (line, row) in lines.into_iter().zip(area.rows()) {
        line.render(row, cells);
    }
}

fn table_body(state: &State, theme: Theme, area: Rect, cells: &mut Buffer) {
    let Shown { note, missing, table } = match table(state, usize::from(area.width), theme) {
        Some(Ok(shown)) => shown,
        Some(Err(reason)) => return Line::styled(reason, theme.attention()).render(area, cells),
        None => return waiting(state).render(area, cells),
    };
    let row = |y: u16, height: u16| Rect { y: area.y + y, height, ..area };
    let note = match missing {
        Some(missing) => Line::styled(format!("{note}, {missing}"), theme.attention()),
        None => Line::styled(note, Theme::quiet()),
    };
    note.render(row(0, 1), cells);
    if area.height < 3 {
        return;
    }
    table.head.render(row(1, 1), cells);
    stack(scrolled(table.rows, state.scroll, area.height - 2), row(2, area.height - 2), cells);
}

/// The table of a tab.
struct Shown {
    /// What the table shows.
    note: String,
    /// Why it does not show all of it.
    missing: Option<String>,
    table: Table,
}

impl Shown {
    fn new(note: String, missing: Option<&str>, table: Table) -> Self {
        Self { note, missing: missing.and_then(why_incomplete), table }
    }
}

/// Returns why a list is incomplete, in words, from the server's name for it.
fn why_incomplete(missing: &str) -> Option<String> {
    match missing {
        "endpoint" => Some("incomplete: the endpoint did not return its connections".to_owned()),
        // They are not shown here.
        "warnings" => None,
        other => Some(format!("incomplete: {} missing", printable(other))),
    }
}

/// Draws the table of a tab with a note above it, or the reason why there is none; nothing before the first response.
fn table(state: &State, room: usize, theme: Theme) -> Option<Result<Shown, String>> {
    let status = state.status.as_ref()?;
    let hidden = |refusal: &RefusedError| printable(&refusal.to_string()).into_owned();
    Some(match state.tab {
        Tab::Overview => return None,
        Tab::Connections => state.connections.as_ref()?.as_ref().map_err(hidden).map(|List { rows, missing }| {
            let note = if rows.len() >= MOST_ROWS {
                format!("the {MOST_ROWS} with the most queued bytes")
            } else {
                format!("{} websockets and streams", rows.len())
            };
            Shown::new(note, missing.as_deref(), connections::table(state, status, rows, room, theme))
        }),
        Tab::Registrations => state.registrations.as_ref()?.as_ref().map_err(hidden).map(|List { rows, missing }| {
            let note = match left_out(rows, status) {
                Some(all) => format!("the busiest {} of {} registrations", count(rows.len() as u64), count(all)),
                None => format!("{} different registrations", rows.len()),
            };
            Shown::new(note, missing.as_deref(), registrations::table(state, status, rows, room, theme))
        }),
    })
}

/// Returns the number of all registrations, including equal ones, if the server has not returned all that differ.
fn left_out(rows: &[Registration], status: &Status) -> Option<u64> {
    let all = u64::try_from(status.registrations).unwrap_or_default();
    let held: u64 = rows.iter().map(|row| row.shared).sum();
    (rows.len() >= MOST_OF_SHARD && held < all).then_some(all)
}

fn help(area: Rect, cells: &mut Buffer) {
    let size = |wanted: usize, room: u16| u16::try_from(wanted).unwrap_or(room).min(room);
    let (width, height) = (size(72, area.width), size(HELP.len() + 2, area.height));
    let (x, y) = (area.x + (area.width - width) / 2, area.y + (area.height - height) / 2);
    let within = Rect { x, y, width, height };
    within.positions().for_each(|position| cells[position].reset());
    cells.set_style(within, Theme::bar());
    stack(std::iter::once("").chain(HELP).map(|line| Line::from(format!("  {line}"))), within, cells);
}

/// Returns all figures as plain text, for a script or a report.
pub(super) fn text(state: &mut State, room: usize, rows: usize) -> String {
    let mut lines = vec![title(state).trim_start().to_owned(), String::new()];
    let theme = Theme::default();
    if let Some(status) = &state.status {
        let (left, right) = overview::lines(state, status, room, theme);
        lines.extend(left.iter().map(Line::to_string));
        lines.push(String::new());
        lines.extend(right.iter().map(Line::to_string));
    }
    for tab in [Tab::Connections, Tab::Registrations] {
        state.tab = tab;
        lines.extend([String::new(), tab.title().to_owned()]);
        match table(state, room, theme) {
            Some(Ok(Shown { note, missing, table })) => {
                lines.extend(missing);
                lines.push(table.head.to_string());
                lines.extend(table.rows.iter().take(rows).map(Line::to_string));
                lines.extend((table.rows.len() > rows).then(|| format!("... of {note}")));
            }
            Some(Err(reason)) => lines.push(reason),
            None => {}
        }
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests;
