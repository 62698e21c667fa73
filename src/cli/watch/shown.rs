//! The flags that select how `watch` shows events.

use clap::Args;

use crate::index::filter::Path;

/// How events are shown: at most one of these.
#[derive(Args)]
#[group(multiple = false)]
pub(super) struct Shown {
    /// Indent each event over several lines
    #[arg(long)]
    pub(super) pretty: bool,
    /// Show a table of these fields instead, separated by commas: Time, Key, Object.Name, or just Name for a field of
    /// the Object; - stands for a missing field
    #[arg(long, value_name = "FIELD,FIELD", value_delimiter = ',', value_parser = field)]
    pub(super) fields: Vec<Path>,
    /// Show only what differs between Original and Object, a line per field
    #[arg(long)]
    pub(super) changed: bool,
    /// Show only counts: each second a line with the rate of each type, and a summary at the end
    #[arg(long)]
    pub(super) stats: bool,
}

fn field(text: &str) -> Result<Path, String> {
    Path::parse(text.trim()).map_err(|(_, error)| error.to_string())
}
