//! `hydrant config check|default|doc`.

#![expect(clippy::doc_markdown, reason = "the comments on flags are their help texts")]

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::CliError;
use crate::config::{self, Settings, Sources};

#[derive(Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Tell all that is wrong with the file and the environment; exits with 64 if anything is
    Check {
        /// TOML file [env: HYDRANT_CONFIG]
        file: Option<PathBuf>,
    },
    /// Print a file with every setting at its default
    Default,
    /// Print the reference of all settings (Markdown)
    Doc,
}

pub(super) fn run(args: &ConfigArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let text = match &args.what {
        What::Check { file } => {
            Settings::load(&Sources::environment(file.clone()))?;
            "ok\n".to_owned()
        }
        What::Default => config::default_file(),
        What::Doc => config::markdown(),
    };
    Ok(out.write_all(text.as_bytes())?)
}
