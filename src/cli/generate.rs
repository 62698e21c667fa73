//! `hydrant completions` and `hydrant man`: generate files for packages from the command tree.

use std::io::{self, Write};

use clap::{Args, Command};
use clap_complete::Shell;
use thiserror::Error;

#[derive(Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

#[derive(Args)]
pub(super) struct ManArgs {
    /// The command to document, with its subcommands: `config check`; by default the program itself
    #[arg(value_name = "COMMAND")]
    path: Vec<String>,
}

/// The reason why there is no page.
#[derive(Debug, Error)]
pub(crate) enum ManError {
    #[error("unknown command `{0}`")]
    Unknown(String),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

pub(super) fn completions(args: &CompletionsArgs, mut tree: Command, out: &mut dyn Write) -> io::Result<()> {
    // The generator panics if its output fails, so it writes into memory.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut tree, "hydrant", &mut script);
    out.write_all(&script)
}

pub(super) fn man(args: &ManArgs, mut tree: Command, out: &mut dyn Write) -> Result<(), ManError> {
    tree.build();
    let mut command = &tree;
    for name in &args.path {
        command = command.find_subcommand(name).ok_or_else(|| ManError::Unknown(name.clone()))?;
    }
    // Subcommands know the page's title only by their full name: `hydrant-config-check`.
    let title = command.get_display_name().unwrap_or("hydrant").to_owned();
    let source = concat!("hydrant ", env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(command.clone()).title(title.to_uppercase()).source(source).render(out)?;
    Ok(())
}
