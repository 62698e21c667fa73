//! The table of connections, the slowest first.

use ratatui_core::style::Style;

use super::columns::{Column, Room, Table, lay_out};
use super::style::Theme;
use crate::cli::top::figures::{Connection, Status};
use crate::cli::top::format::{ago, bytes, count, rate, took};
use crate::cli::top::state::{ConnectionSort, State};
use crate::cli::top::trend::Trend;

/// What cells need besides their connection.
struct Known<'a> {
    status: &'a Status,
    trend: &'a Trend,
}

const fn column<'a>(
    head: &'static str,
    least: usize,
    dispensable: u8,
    cell: fn(&Connection, &Known<'a>) -> String,
) -> Column<Connection, Known<'a>> {
    Column { head, is_number: least > 0, dispensable, least, cell }
}

fn columns<'a>() -> [Column<Connection, Known<'a>>; 11] {
    [
        column("Principal", 0, 0, |one, _| one.principal.clone()),
        column("From", 0, 3, |one, _| one.remote_addr.clone()),
        column("Queued", 8, 0, |one, _| bytes(one.queued_bytes)),
        column("Oldest", 7, 1, |one, _| {
            #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
            let micros = one.queued_age_milliseconds as f64 * 1e3;
            if one.queued_age_milliseconds == 0 { "-".to_owned() } else { took(micros) }
        }),
        column("Ev/s", 6, 4, |one, known| known.trend.rate_of(&one.remote_addr).map_or("-".to_owned(), rate)),
        column("Delivered", 9, 2, |one, _| count(one.delivered_events)),
        column("Dropped", 7, 2, |one, _| count(one.dropped_events)),
        column("Regs", 5, 5, |one, _| count(one.registrations)),
        column("Age", 7, 6, |one, known| known.status.seconds_since(&one.create_time).map_or("-".to_owned(), ago)),
        column("Policy", 0, 8, |one, _| one.overflow.clone().unwrap_or_default()),
        column("Encoding", 0, 9, |one, _| one.encoding.clone().unwrap_or_default()),
    ]
}

/// Returns the head of the column by which rows are sorted.
fn head(sort: ConnectionSort) -> &'static str {
    match sort {
        ConnectionSort::Queued => "Queued",
        ConnectionSort::Oldest => "Oldest",
        ConnectionSort::Dropped => "Dropped",
        ConnectionSort::Rate => "Ev/s",
        ConnectionSort::Delivered => "Delivered",
        ConnectionSort::Registrations => "Regs",
        ConnectionSort::Age => "Age",
        ConnectionSort::Principal => "Principal",
    }
}

pub(super) fn table(state: &State, status: &Status, all: &[Connection], terminal: usize, theme: Theme) -> Table {
    let room = Room { columns: terminal, first: 24, theme };
    let known = Known { status, trend: &state.trend };
    let style = |one: &Connection| match one {
        one if one.dropped_events > 0 => theme.attention(),
        one if one.queued_bytes > 0 => Theme::strong(),
        _ => Style::new(),
    };
    lay_out(&columns(), all, &known, head(state.connection_sort), style, room)
}
