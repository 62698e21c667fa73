//! `hydrant config check|default|doc`.

#![expect(clippy::doc_markdown, reason = "the comments on flags are their help texts")]

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use thiserror::Error;

use super::console::report;
use crate::config::{self, ConfigErrors, Settings, Sources};

#[derive(Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Report every problem in the file, the environment and the certificates they name; exits with 64 if there is any
    Check {
        /// TOML file [env: HYDRANT_CONFIG]
        file: Option<PathBuf>,
    },
    /// Print a file with every setting at its default
    Default,
    /// Print the reference of all settings (Markdown)
    Doc,
}

/// The reason why a check did not end with `ok`.
#[derive(Debug, Error)]
pub(crate) enum ConfigCommandError {
    #[error(transparent)]
    Wrong(#[from] ConfigErrors),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

pub(super) fn run(args: &ConfigArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), ConfigCommandError> {
    let text = match &args.what {
        What::Check { file } => {
            let (_, notes) = Settings::load_with_notes(&Sources::environment(file.clone()))?;
            notes.iter().for_each(|note| report(err, format_args!("note: {note}")));
            "ok\n".to_owned()
        }
        What::Default => config::default_file(),
        What::Doc => config::markdown(),
    };
    Ok(out.write_all(text.as_bytes())?)
}
