//! Results: a table for humans, JSON for programs, and an HTML page with charts.
//!
//! A subcommand returns an [`Outcome`]: a [`Page`], from which both the terminal's text and the HTML are made, so that
//! they cannot differ, and named [`Figure`]s, so that two runs of the same work can be compared.

mod axis;
mod case;
mod chart;
mod closed;
mod diff;
mod html;
mod machine;
mod number;
mod page;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use axis::Ticks;
pub use case::{Case, Encodings, Pair, Round, Side, Summary};
pub use chart::{Bar, Chart, Line};
pub use closed::Report;
pub use diff::Difference;
pub use machine::Machine;
pub use number::{Spread, spread};
pub(crate) use number::{bytes, count, shown};
pub(crate) use page::settings_line;
pub use page::{Page, Section, Table, Verdict};

use crate::args::Output;

/// A named figure, for comparing runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What the figure measures; equal in all runs of the same work.
    pub name: String,
    /// Unit of the figure.
    pub unit: String,
    /// The figure; less is better.
    pub value: f64,
    /// The minimum in this run.
    pub min: f64,
    /// The maximum in this run.
    pub max: f64,
}

impl Figure {
    /// Creates a figure with its spread.
    pub fn of(name: impl Into<String>, unit: &str, spread: Spread) -> Self {
        let Spread { median, min, max } = spread;
        Self { name: name.into(), unit: unit.to_owned(), value: median, min, max }
    }

    /// Creates a figure that was measured once.
    pub fn once(name: impl Into<String>, unit: &str, value: f64) -> Self {
        Self { name: name.into(), unit: unit.to_owned(), value, min: value, max: value }
    }
}

/// The result of a subcommand.
pub trait Outcome {
    /// Returns whether nothing was lost, repeated, reordered or corrupted or, for a comparison, nothing has become
    /// worse.
    fn is_clean(&self) -> bool;

    /// Returns the result for humans.
    fn page(&self) -> Page;

    /// Returns why a part of the work could not be done; the rest was measured, and should be kept.
    fn failure(&self) -> Option<String> {
        None
    }

    /// Returns the figures for comparisons.
    fn figures(&self) -> Vec<Figure>;

    /// Returns the complete result for programs.
    ///
    /// # Errors
    /// Fails if a value has no JSON form.
    fn json(&self) -> Result<Value>;
}

/// Writes an outcome to the requested files, then as text to `out`. What took minutes to measure is kept: each is
/// written even if another cannot be, and that nobody reads the text any more is no failure.
///
/// # Errors
/// Fails if a file or `out` cannot be written, with the first error, after everything else has been written.
pub fn publish(outcome: &dyn Outcome, output: &Output, out: &mut dyn Write) -> Result<()> {
    let mut page = outcome.page();
    page.verdict.get_or_insert_with(|| Verdict::of_faults(outcome.is_clean()));
    let json = output.json.as_deref().map_or(Ok(()), |path| keep(path, || json(outcome)));
    let html = output.html.as_deref().map_or(Ok(()), |path| keep(path, || Ok(html::document(&page))));
    let text = page
        .write_text(out)
        .and_then(|()| Ok(out.flush()?))
        .or_else(|error| if is_closed(&error) { Ok(()) } else { Err(error) });
    json.and(html).and(text)
}

/// Writes a text to a file.
fn keep(path: &Path, text: impl FnOnce() -> Result<String>) -> Result<()> {
    fs::write(path, text()?).with_context(|| format!("cannot write {}", path.display()))
}

fn json(outcome: &dyn Outcome) -> Result<String> {
    let mut value = outcome.json()?;
    value["figures"] = serde_json::to_value(outcome.figures())?;
    Ok(format!("{value:#}\n"))
}

fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Outcome for Nothing {
        fn is_clean(&self) -> bool {
            true
        }

        fn page(&self) -> Page {
            Page::new("what took an hour", &Machine::here())
        }

        fn figures(&self) -> Vec<Figure> {
            Vec::new()
        }

        fn json(&self) -> Result<Value> {
            Ok(serde_json::json!({}))
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_costs_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let [json, html] = ["gone/out.json", "out.html"].map(|name| Some(home.path().join(name)));
        let mut out = Vec::new();
        let error = publish(&Nothing, &Output { json, html: html.clone() }, &mut out).unwrap_err();
        assert!(error.to_string().contains("out.json"), "{error:#}");
        for text in [String::from_utf8(out).unwrap(), fs::read_to_string(html.unwrap()).unwrap()] {
            assert!(text.contains("what took an hour"), "{text}");
        }
    }
}
