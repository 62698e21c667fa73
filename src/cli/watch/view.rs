//! The formats in which `watch` shows events. Pure: views write into memory, and the caller passes the time.
//!
//! Contract: whatever a server sends, no character that a terminal interprets is written raw ([`crate::cli::text`]).
//! JSON keeps its digits, the order of its names, and its meaning. The formats for people show only what was asked for:
//! the feed reports losses in words.

use std::time::Instant;

use super::changes::Changes;
use super::pretty;
use super::shown::Shown;
use super::stats::Stats;
use super::table::Table;
use crate::cli::console::Screen;
use crate::cli::feed::Arrival;
use crate::cli::text::escaped;
use crate::clock::ClockReading;
use crate::json;

/// One of the formats.
#[derive(Debug)]
pub(super) enum View {
    /// An event per line.
    Lines,
    /// Indented JSON.
    Pretty,
    /// A table of selected fields.
    Table(Table),
    /// The changes of each update.
    Changes(Changes),
    /// Counts by type.
    Stats(Stats),
}

impl View {
    pub(super) fn of(shown: &Shown, screen: &Screen, now: Instant) -> Self {
        match shown {
            Shown { pretty: true, .. } => Self::Pretty,
            Shown { changed: true, .. } => Self::Changes(Changes::new(*screen)),
            Shown { stats: true, .. } => Self::Stats(Stats::new(screen.columns, now)),
            Shown { fields, .. } if !fields.is_empty() => Self::Table(Table::new(fields.clone(), screen.columns)),
            _ => Self::Lines,
        }
    }

    /// Appends an event.
    pub(super) fn event(&mut self, arrival: &Arrival, out: &mut Vec<u8>) {
        if !arrival.is_asked_for() && !matches!(self, Self::Lines | Self::Pretty) {
            return;
        }
        let Arrival { event, loss } = arrival;
        // Hydrant sends compact JSON, but other servers can be watched too.
        let mut compact = Vec::with_capacity(event.len());
        json::compact(event, &mut compact);
        let compact = String::from_utf8(compact).expect("white space is taken out between characters");
        match self {
            Self::Lines => {
                out.extend_from_slice(escaped(&compact).as_bytes());
                out.push(b'\n');
            }
            Self::Pretty => {
                pretty::indent(&escaped(&compact), out);
                out.push(b'\n');
            }
            Self::Table(table) => table.event(&compact, out),
            Self::Changes(changes) => changes.event(&compact, loss.as_ref(), out),
            Self::Stats(stats) => stats.event(&compact),
        }
    }

    /// Called once per second.
    pub(super) fn tick(&mut self, now: ClockReading, out: &mut Vec<u8>) {
        if let Self::Stats(stats) = self {
            stats.tick(now, out);
        }
    }

    /// Called after the last event.
    pub(super) fn end(&mut self, now: ClockReading, out: &mut Vec<u8>) {
        if let Self::Stats(stats) = self {
            stats.end(now, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::text::acts;
    use crate::index::filter::Path;

    #[test]
    fn no_view_passes_on_what_a_terminal_acts_on() {
        let hostile = "\u{9b}31m\u{7f}\u{202e}\u{2028}";
        let field = format!("k{hostile}");
        let good = format!(
            r#"{{"Type":"a{hostile}","Action":"b{hostile}","Key":"\u001b]0;x\u0007{hostile}","Principal":"{hostile}",
            "Object":{{"{field}":"{hostile}","a.b":"\u001b[2J"}},"Original":{{"{field}":1,"z{hostile}":[]}}}}"#
        );
        // Text that a server other than hydrant may send.
        let bad = format!("\u{1b}[2J{{\"Type\":\"a\u{1b}[2J\",\u{7} \"Object\":\u{1b}{{\"a\":\"\u{8}\"}}, x{hostile}");
        let screen = Screen { columns: Some(80), is_coloured: false };
        let now = crate::clock::simulated::at(0);
        let fields = ["Type", "Key", "Object", &field, "/a.b"].map(|field| Path::parse(field).unwrap()).to_vec();
        let views = [
            View::Lines,
            View::Pretty,
            View::Table(Table::new(fields.clone(), None)),
            View::Table(Table::new(fields, Some(40))),
            View::Changes(Changes::new(screen)),
            View::Stats(Stats::new(None, now.instant)),
        ];
        for mut view in views {
            let mut out = Vec::new();
            for event in [&good, &bad] {
                view.event(&Arrival { event: event.clone(), loss: None }, &mut out);
                view.tick(now, &mut out);
            }
            view.end(now, &mut out);
            let text = String::from_utf8(out).unwrap();
            let found: Vec<char> = text.chars().filter(|c| acts(*c) && *c != '\n').collect();
            assert!(found.is_empty() && !text.is_empty(), "{view:?}: {found:?}");
        }
    }
}
