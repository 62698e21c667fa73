//! The flags by which `watch` is told how to show events.

use clap::Args;

use crate::index::filter::Path;

/// How events are shown: at most one of them.
#[derive(Args)]
#[group(multiple = false)]
pub(super) struct Shown {
    /// Indent each event over several lines
    #[arg(long)]
    pub(super) pretty: bool,
    /// A table of these fields instead, separated by commas: Time, Key, Object.Name, or just Name for a field of the
    /// Object; - stands for what is not there
    #[arg(long, value_name = "FIELD,FIELD", value_delimiter = ',', value_parser = field)]
    pub(super) fields: Vec<Path>,
    /// Only what differs between Original and Object, a line for each field
    #[arg(long)]
    pub(super) changed: bool,
    /// Only counts: each second a line with the rate of each type, and a summary at the end
    #[arg(long)]
    pub(super) stats: bool,
}

fn field(text: &str) -> Result<Path, String> {
    Path::parse(text.trim()).map_err(|(_, error)| error.to_string())
}
