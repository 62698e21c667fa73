//! `hydrant-loadtest`: see the documentation of the library and `docs/loadtest.md`.
//!
//! Exit status: 0 for success, 1 if the work could not be done, 2 for a wrong command line, 3 if deliveries were lost,
//! repeated, reordered or corrupted.

use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use hydrant_loadtest::args::Cli;
use hydrant_loadtest::usage::UsageError;

fn main() -> ExitCode {
    match hydrant_loadtest::run(&Cli::parse(), &mut stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            // If standard error is closed, the error cannot be reported.
            let _ = writeln!(stderr(), "hydrant-loadtest: {error:#}");
            if error.downcast_ref::<UsageError>().is_some() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
