//! Results: a table for people, JSON for programs, an HTML page with charts for both.
//!
//! A subcommand gives an [`Outcome`]: a [`Page`] from which the terminal's text and the HTML are made, so that they
//! cannot differ, and [`Figure`]s by name, so that two runs of anything can be compared.

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
use std::io::Write;

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

/// A figure by name, for comparing runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is of; the same in every run of the same work.
    pub name: String,
    /// What it is measured in.
    pub unit: String,
    /// The figure; the less the better.
    pub value: f64,
    /// The least in this run, if there were several.
    pub min: f64,
    /// The greatest in this run.
    pub max: f64,
}

impl Figure {
    /// A figure with its spread.
    pub fn of(name: impl Into<String>, unit: &str, spread: Spread) -> Self {
        let Spread { median, min, max } = spread;
        Self { name: name.into(), unit: unit.to_owned(), value: median, min, max }
    }

    /// A figure that was taken once.
    pub fn once(name: impl Into<String>, unit: &str, value: f64) -> Self {
        Self { name: name.into(), unit: unit.to_owned(), value, min: value, max: value }
    }
}

/// What a subcommand has found out.
pub trait Outcome {
    /// Nothing was lost, repeated, reordered or harmed, or, with a comparison, nothing has become worse.
    fn is_clean(&self) -> bool;

    /// For people.
    fn page(&self) -> Page;

    /// For comparing.
    fn figures(&self) -> Vec<Figure>;

    /// All there is, for programs.
    ///
    /// # Errors
    /// A value has no JSON form.
    fn json(&self) -> Result<Value>;
}

/// Writes an outcome as text to `out`, and to the files that were asked for.
///
/// # Errors
/// `out` takes no more, or a file cannot be written.
pub fn publish(outcome: &dyn Outcome, output: &Output, out: &mut dyn Write) -> Result<()> {
    let mut page = outcome.page();
    page.verdict.get_or_insert_with(|| Verdict::of_faults(outcome.is_clean()));
    page.write_text(out)?;
    if let Some(path) = &output.json {
        let mut value = outcome.json()?;
        value["figures"] = serde_json::to_value(outcome.figures())?;
        fs::write(path, format!("{value:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &output.html {
        fs::write(path, html::document(&page)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
