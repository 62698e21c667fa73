//! `top --once`: prints the figures once, as plain text, or as JSON for scripts.
//!
//! It polls twice, an interval apart, because rates need two polls.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::sleep;

use super::error::TopError;
use super::poll::{Asker, Extent, Rows, read_rows, status_of};
use super::state::{Look, RegistrationSort, State};
use super::trend::Rates;
use super::view;
use crate::cli::console::{Screen, report};
use crate::client::Target;

/// Width of the text in columns when it is not printed on a terminal.
const COLUMNS: usize = 120;
/// Maximum number of rows of each table.
const ROWS: usize = 10;

/// The JSON document: the server's responses, what its lists lack, and the rates between the two polls.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Picture<'a> {
    /// Nothing if two nodes, or two runs of one, have answered.
    rates: Option<Rates>,
    status: &'a RawValue,
    connections: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_missing: Option<&'a str>,
    registrations: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registrations_missing: Option<&'a str>,
}

fn text(rows: &Rows) -> Option<&RawValue> {
    rows.as_ref().ok().map(|rows| &*rows.text)
}

fn missing(rows: &Rows) -> Option<&str> {
    rows.as_ref().ok()?.missing.as_deref()
}

pub(super) async fn once(
    target: Target,
    interval: Duration,
    is_json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), TopError> {
    let mut state = State::new(target.endpoint.to_string());
    let mut asker = Asker::new(target);
    let extent = if is_json { Extent::All } else { Extent::Shown };
    let first = asker.status().await?;
    // The text has rates of connections, JSON has none.
    let connections = match extent {
        Extent::Shown => Some(read_rows(asker.connections(extent).await?, "connections")?),
        Extent::All => None,
    };
    state.looked(Look { status: status_of(&first)?, connections, registrations: None });
    sleep(interval).await;
    let status = asker.status().await?;
    let connections = asker.connections(extent).await?;
    let registrations = asker.registrations(RegistrationSort::default(), extent).await?;
    let look = Look {
        status: status_of(&status)?,
        connections: Some(read_rows(connections.clone(), "connections")?),
        registrations: Some(read_rows(registrations.clone(), "registrations")?),
    };
    state.looked(look);
    if !is_json {
        let columns = Screen::of(&io::stdout()).columns.unwrap_or(COLUMNS);
        out.write_all(view::text(&mut state, columns, ROWS).as_bytes())?;
        return Ok(out.flush()?);
    }
    for reason in [&connections, &registrations].into_iter().filter_map(|rows| rows.as_ref().err()) {
        report(err, format_args!("{reason}"));
    }
    let picture = Picture {
        rates: state.trend.rates(),
        status: &status,
        connections: text(&connections),
        connections_missing: missing(&connections),
        registrations: text(&registrations),
        registrations_missing: missing(&registrations),
    };
    serde_json::to_writer(&mut *out, &picture).map_err(io::Error::from)?;
    writeln!(out)?;
    out.flush()?;
    if picture.rates.is_some() { Ok(()) } else { Err(TopError::NoRates) }
}
