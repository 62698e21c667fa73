//! The command line: the tree of commands, and what each ends with.
//!
//! Contract: [`run`] never ends the process and never prints by itself; it writes results to `out`, everything else to
//! `err`, and returns the exit code: 0 done, 1 failed ([`FAILED`]), 64 bad usage or configuration ([`USAGE`], from
//! sysexits). A reader of `out` that went away is not a failure: `hydrant config doc | head` ends quietly with 0.
//!
//! `watch` and `post` run for long and wait for several things at once, so they have a small runtime of their own;
//! `watch` writes to the process's standard output through it, so that a stalled reader cannot keep Ctrl-C from
//! working.

mod config;
mod endpoint;
mod generate;
mod post;
pub mod serve;
mod serve_args;
mod users;
mod watch;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{Parser, Subcommand};
use thiserror::Error;

use crate::client::ClientError;
use crate::config::ConfigErrors;

/// Exit code for a start or a command that failed.
pub const FAILED: u8 = 1;
/// Exit code for bad usage and bad configuration.
pub const USAGE: u8 = 64;

/// An event broker for Digital Rebar Provision fleets.
#[derive(Parser)]
#[command(name = "hydrant", version, propagate_version = true, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the broker
    Serve(serve_args::ServeArgs),
    /// Print events as they happen, one JSON document a line
    Watch(watch::WatchArgs),
    /// Send events to an endpoint
    Post(post::PostArgs),
    /// Add, change, list and remove users
    Users(users::UsersArgs),
    /// Make, list and remove roles
    Roles(users::RolesArgs),
    /// Make, list and remove tenants
    Tenants(users::TenantsArgs),
    /// Issue and check tokens
    Token(users::TokenArgs),
    /// Check or explain the configuration
    Config(config::ConfigArgs),
    /// Print a completion script for a shell
    Completions(generate::CompletionsArgs),
    /// Print a manual page
    Man(generate::ManArgs),
}

/// Why a command ended without doing what was asked.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Post(#[from] post::PostError),
    #[error(transparent)]
    Serve(#[from] serve::ServeError),
    #[error(transparent)]
    Users(#[from] users::UsersError),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Serve(error) if error.is_configuration() => USAGE,
            Self::Users(error) if error.is_broken_pipe() => 0,
            Self::Users(error) if error.is_usage() => USAGE,
            Self::Config(_)
            | Self::Usage(_)
            | Self::Client(ClientError::Endpoint(_) | ClientError::Credentials(_) | ClientError::CaFile { .. }) => {
                USAGE
            }
            Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Client(_) | Self::Post(_) | Self::Serve(_) | Self::Users(_) | Self::Output(_) => FAILED,
        }
    }
}

/// Reads the arguments (the program's name first), does what they say and returns the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let result = match Cli::try_parse_from(args) {
        Ok(cli) => dispatch(cli.command, out, err),
        Err(e) => return explain(&e, out, err),
    };
    let Err(error) = result else { return 0 };
    let code = error.exit_code();
    if code != 0 {
        tell(err, format_args!("{error}"));
    }
    code
}

fn dispatch(command: Command, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), CliError> {
    match command {
        Command::Serve(args) => return Ok(serve::run(args.settings()?, out)?),
        // Not flushed here: a write that nobody takes may still hold the lock of standard output.
        Command::Watch(args) => return watch::run(&args, err),
        Command::Post(args) => return post::run(&args, err),
        Command::Users(args) => users::run(&args, &mut io::stdin(), out)?,
        Command::Roles(args) => users::run_roles(&args, out, err)?,
        Command::Tenants(args) => users::run_tenants(&args, out)?,
        Command::Token(args) => users::run_token(&args, &mut io::stdin(), out, err)?,
        Command::Config(args) => config::run(&args, out)?,
        Command::Completions(args) => generate::completions(&args, out)?,
        Command::Man(args) => generate::man(&args, out)?,
    }
    Ok(out.flush()?)
}

/// Help and version go to `out` and are no failure; wrong usage goes to `err`.
fn explain<'a>(error: &clap::Error, out: &'a mut dyn Write, err: &'a mut dyn Write) -> u8 {
    let (to, code) = if error.use_stderr() { (err, USAGE) } else { (out, 0) };
    // Nobody is left to be told if this fails.
    let _ = write!(to, "{}", error.render());
    let _ = to.flush();
    code
}

/// Writes a message for the person at the terminal, each line with the program's name.
pub(crate) fn tell(err: &mut dyn Write, message: std::fmt::Arguments<'_>) {
    for line in message.to_string().lines() {
        // If standard error is gone, there is nobody to tell.
        let _ = writeln!(err, "hydrant: {line}");
    }
}

/// The runtime of the commands that talk to an endpoint.
fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }
}
