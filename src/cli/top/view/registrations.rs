//! The table of registrations, the most expensive first.

use ratatui_core::style::Style;

use super::columns::{Column, Room, Table, lay_out};
use super::style::Theme;
use crate::cli::top::figures::{Registration, Status};
use crate::cli::top::format::{ago, bytes, count, took};
use crate::cli::top::state::{RegistrationSort, State};

type One = Column<Registration, Status>;

const fn column(head: &'static str, least: usize, dispensable: u8, cell: fn(&Registration, &Status) -> String) -> One {
    Column { head, is_number: least > 0, dispensable, least, cell }
}

/// Filter work is in units of about a nanosecond.
#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn work(one: &Registration) -> String {
    if one.filter_bytes == 0 { "-".to_owned() } else { took(one.filter_work as f64 / 1e3) }
}

fn columns() -> [One; 7] {
    [
        column("Registration", 0, 0, |one, _| one.spec.clone()),
        column("Cost", 8, 0, |one, _| work(one)),
        column("Hits", 8, 1, |one, _| count(one.hits)),
        column("Deliveries", 10, 2, |one, _| count(one.deliveries)),
        column("Shared by", 9, 3, |one, _| count(one.shared)),
        column("Last hit", 8, 4, |one, status| {
            let last = one.last_hit.as_ref().and_then(|last| status.seconds_since(last));
            last.map_or("never".to_owned(), ago)
        }),
        column("Filter", 8, 5, |one, _| if one.filter_bytes == 0 { "-".to_owned() } else { bytes(one.filter_bytes) }),
    ]
}

/// Returns the head of the column by which rows are sorted.
fn head(sort: RegistrationSort) -> &'static str {
    match sort {
        RegistrationSort::Work => "Cost",
        RegistrationSort::Hits => "Hits",
        RegistrationSort::Deliveries => "Deliveries",
    }
}

pub(super) fn table(state: &State, status: &Status, all: &[Registration], terminal: usize, theme: Theme) -> Table {
    let room = Room { columns: terminal, first: 40, theme };
    let style = |one: &Registration| if one.hits == 0 { Theme::quiet() } else { Style::new() };
    lay_out(&columns(), all, status, head(state.registration_sort), style, room)
}
