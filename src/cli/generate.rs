//! `hydrant completions` and `hydrant man`: what packages are made with, generated from the command tree.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, CliError};

#[derive(Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

#[derive(Args)]
pub(super) struct ManArgs {
    /// The command whose page is wanted, with its subcommands: `config check`; without one, the program's own
    #[arg(value_name = "COMMAND")]
    path: Vec<String>,
}

pub(super) fn completions(args: &CompletionsArgs, out: &mut dyn Write) -> Result<(), CliError> {
    // The generator panics when its output fails, so it gets one that cannot.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hydrant", &mut script);
    Ok(out.write_all(&script)?)
}

pub(super) fn man(args: &ManArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let mut root = Cli::command();
    root.build();
    let mut command = &root;
    for name in &args.path {
        command =
            command.find_subcommand(name).ok_or_else(|| CliError::Usage(format!("there is no command `{name}`")))?;
    }
    // Subcommands only know the page's title by their full name: `hydrant-config-check`.
    let title = command.get_display_name().unwrap_or("hydrant").to_owned();
    clap_mangen::Man::new(command.clone()).title(title.to_uppercase()).render(out)?;
    Ok(())
}
