//! The command line: the tree of commands, and their exit codes.
//!
//! Contract: [`run`] never ends the process and never prints by itself; it writes results to `out`, everything else to
//! `err` (`serve`, whose standard error may be a pipe that nobody reads, by [`crate::logging`]), and returns the exit
//! code: 0 success, 1 failure ([`FAILED`]), 64 bad usage or configuration ([`USAGE`], from sysexits). If the reader of
//! `out` is gone, that is not a failure: `hydrant config doc | head` ends quietly with 0.
//!
//! `watch`, `record`, `post` and `top` run for a long time and wait for several things at once, so they have a small
//! runtime of their own; `watch` and `top` write to the process's standard output through it, so that a stalled reader
//! cannot keep Ctrl-C from working.

mod config;
mod console;
mod documents;
mod endpoint;
mod explain;
mod feed;
mod filter;
mod generate;
mod health;
mod post;
mod record;
mod samples;
pub mod serve;
mod serve_args;
mod service_manager;
mod signals;
mod text;
mod top;
mod users;
mod watch;
mod zstd;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{CommandFactory, Parser, Subcommand};
use thiserror::Error;

use crate::client::{ClientError, RefusedError};
use crate::config::ConfigErrors;
use config::ConfigCommandError;
use console::report;
use endpoint::{EndpointArgs, EndpointError};
use explain::ExplainError;
use filter::FilterError;
use generate::ManError;
use health::HealthError;
use post::PostError;
use record::RecordError;
use serve::ServeError;
use top::TopError;
use users::UsersError;
use watch::WatchError;

/// Exit code for a start or a command that failed.
pub const FAILED: u8 = 1;
/// Exit code for bad usage and bad configuration.
pub const USAGE: u8 = 64;

/// An event broker for Digital Rebar Provision fleets.
#[derive(Parser)]
#[command(name = "hydrant", version, propagate_version = true, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the broker
    Serve(serve_args::ServeArgs),
    /// Print events as they happen, one JSON document per line
    Watch(watch::WatchArgs),
    /// Record events in a file, to be played back by post
    Record(record::RecordArgs),
    /// Send events, or a recording, to an endpoint
    Post(post::PostArgs),
    /// Show the state of a broker as it changes: rates, queues, connections, registrations
    Top(top::TopArgs),
    /// Add, change, list and remove users
    Users(users::UsersArgs),
    /// Create, list and remove roles
    Roles(users::RolesArgs),
    /// Create, list and remove tenants
    Tenants(users::TenantsArgs),
    /// Issue and check tokens
    Token(users::TokenArgs),
    /// Try a filter on events
    Filter(filter::FilterArgs),
    /// Explain why an event does or does not match a registration, or reach a user or connection
    ///
    /// Exit code 0 if the last event does, 1 if not, 64 if there is no answer: the registration or the file is wrong,
    /// or the server cannot be reached or refuses to answer.
    Explain(explain::ExplainArgs),
    /// Check or explain the configuration
    Config(config::ConfigArgs),
    /// Check whether a server runs, or is ready for clients
    Health(health::HealthArgs),
    /// Print a completion script for a shell
    Completions(generate::CompletionsArgs),
    /// Print a manual page
    Man(generate::ManArgs),
}

impl Command {
    /// Returns how a command that talks to a server finds it.
    fn endpoint(&self) -> Option<&EndpointArgs> {
        match self {
            Self::Watch(args) => Some(&args.endpoint),
            Self::Record(args) => Some(&args.endpoint),
            Self::Post(args) => Some(&args.endpoint),
            Self::Top(args) => Some(&args.endpoint),
            Self::Explain(args) => Some(&args.endpoint),
            _ => None,
        }
    }
}

/// The reason why a command failed.
#[derive(Debug, Error)]
enum CliError {
    #[error(transparent)]
    Settings(#[from] ConfigErrors),
    #[error(transparent)]
    Config(#[from] ConfigCommandError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Post(#[from] PostError),
    #[error(transparent)]
    Top(#[from] TopError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error(transparent)]
    Explain(#[from] ExplainError),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error(transparent)]
    Man(#[from] ManError),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self.output() {
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            None if self.is_usage() => USAGE,
            Some(_) | None => FAILED,
        }
    }

    /// Returns the error of the output, if it is one.
    fn output(&self) -> Option<&io::Error> {
        match self {
            Self::Config(ConfigCommandError::Output(error))
            | Self::Watch(WatchError::Output(error))
            | Self::Top(TopError::Output(error))
            | Self::Users(UsersError::Output(error))
            | Self::Filter(FilterError::Output(error))
            | Self::Explain(ExplainError::Output(error))
            | Self::Health(HealthError::Output(error))
            | Self::Man(ManError::Output(error))
            | Self::Output(error) => Some(error),
            _ => None,
        }
    }

    /// Returns a server's refusal, if it is one.
    fn refusal(&self) -> Option<&RefusedError> {
        match self {
            Self::Watch(WatchError::Client(ClientError::Refused(refusal)))
            | Self::Record(RecordError::Client(ClientError::Refused(refusal)))
            | Self::Explain(ExplainError::Client(ClientError::Refused(refusal))) => Some(refusal),
            Self::Post(error) => error.refusal(),
            Self::Top(error) => error.refusal(),
            _ => None,
        }
    }

    /// Returns whether the arguments or the configuration are at fault.
    fn is_usage(&self) -> bool {
        match self {
            // Not 1, which always means that the event is not delivered.
            Self::Settings(_) | Self::Config(_) | Self::Filter(_) | Self::Explain(_) | Self::Man(_) => true,
            Self::Serve(error) => error.is_configuration(),
            Self::Users(error) => error.is_usage(),
            Self::Watch(WatchError::Endpoint(error))
            | Self::Record(RecordError::Endpoint(error))
            | Self::Top(TopError::Endpoint(error))
            | Self::Post(PostError::Endpoint(error)) => is_target(error),
            Self::Record(error) => error.is_usage(),
            Self::Top(error) => matches!(error, TopError::NoTerminal),
            Self::Watch(_) | Self::Post(_) | Self::Health(_) | Self::Output(_) => false,
        }
    }
}

fn is_target(error: &EndpointError) -> bool {
    let known = |error: &ClientError| {
        matches!(error, ClientError::Endpoint(_) | ClientError::Credentials(_) | ClientError::CaFile { .. })
    };
    match error {
        EndpointError::Key | EndpointError::Variable(_) => true,
        EndpointError::Target(error) => known(error),
        EndpointError::Runtime(_) => false,
    }
}

/// Parses the arguments (the program's name first), runs the command and returns the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let command = match Cli::try_parse_from(args) {
        Ok(cli) => cli.command,
        Err(e) => return usage(&e, out, err),
    };
    let endpoint = command.endpoint().cloned();
    match dispatch(command, out, err) {
        Ok(code) => code,
        Err(error) => failed(&error, endpoint.as_ref(), err),
    }
}

/// Reports an error, with advice if a server has refused a request. Returns the exit code.
fn failed(error: &CliError, endpoint: Option<&EndpointArgs>, err: &mut dyn Write) -> u8 {
    let code = error.exit_code();
    match error {
        _ if code == 0 => {}
        // Reported already, in the format of its log.
        CliError::Serve(_) => {}
        error => report(err, format_args!("{error}")),
    }
    let advice = endpoint.zip(error.refusal()).and_then(|(endpoint, refusal)| endpoint.advice(refusal));
    if let Some(advice) = advice {
        report(err, format_args!("{advice}"));
    }
    code
}

/// Runs a command and returns its exit code: 0 on success, except for `filter` and `explain`, whose result it is.
fn dispatch(command: Command, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, CliError> {
    let mut code = 0;
    match command {
        Command::Serve(args) => {
            let (settings, notes) = args.settings()?;
            return Ok(serve::run(settings, &notes, out).map(|()| 0)?);
        }
        // Not flushed here: a blocked write may still hold the lock of standard output.
        Command::Watch(args) => return Ok(watch::run(&args, err).map(|()| 0)?),
        Command::Record(args) => return Ok(record::run(&args, err).map(|()| 0)?),
        Command::Top(args) => return Ok(top::run(&args, out, err).map(|()| 0)?),
        Command::Post(args) => return Ok(post::run(&args, err).map(|()| 0)?),
        Command::Users(args) => users::run(&args, &mut io::stdin().lock(), out, err)?,
        Command::Roles(args) => users::run_roles(&args, out, err)?,
        Command::Tenants(args) => users::run_tenants(&args, out, err)?,
        Command::Token(args) => users::run_token(&args, &mut io::stdin().lock(), out, err)?,
        Command::Explain(args) => code = explain::run(&args, &mut io::stdin().lock(), out, err)?,
        Command::Filter(args) => code = filter::run(&args, &mut io::stdin().lock(), out, err)?,
        Command::Config(args) => config::run(&args, out, err)?,
        Command::Health(args) => health::run(&args, out)?,
        Command::Completions(args) => generate::completions(&args, Cli::command(), out)?,
        Command::Man(args) => generate::man(&args, Cli::command(), out)?,
    }
    out.flush()?;
    Ok(code)
}

/// Writes help and version to `out`, which is a success; writes wrong usage to `err`.
fn usage(error: &clap::Error, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    if error.use_stderr() {
        // If this fails, there is nowhere left to report it.
        let _ = write!(err, "{}", error.render());
        return USAGE;
    }
    let shown = write!(out, "{}", error.render()).and_then(|()| out.flush());
    shown.map_or_else(|error| failed(&error.into(), None, err), |()| 0)
}

#[cfg(test)]
mod documented_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }
}
