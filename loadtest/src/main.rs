//! `hydrant-loadtest`: see the library's text and `docs/loadtest.md`.
//!
//! Ends with 0 if all is well, 1 if it could not be done, 2 for a wrong command line, 3 if deliveries were lost,
//! repeated, reordered or harmed.

use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use hydrant_loadtest::args::Cli;

fn main() -> ExitCode {
    match hydrant_loadtest::run(&Cli::parse(), &mut stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            // Without standard error there is nobody to tell.
            let _ = writeln!(stderr(), "hydrant-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}
