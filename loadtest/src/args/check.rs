//! What must be right about a command line before any work is done, and what the parser of single flags cannot see.

use anyhow::{Result, ensure};

use super::{Command, FleetArgs, Loss, Output, RunArgs, StormArgs, Target};
use crate::usage::UsageError;

impl Command {
    /// Checks everything that can be checked before the work.
    ///
    /// # Errors
    /// Fails with a [`UsageError`] if the command line asks for something impossible, or if an output file cannot be
    /// written.
    pub fn checked(&self) -> Result<()> {
        let (run, output) = self.run_args();
        output.checked()?;
        run.map_or(Ok(()), |run| run.checked().map(drop))?;
        self.target().map_or(Ok(()), Target::checked)?;
        match self {
            Self::Fleet(args) => args.checked(),
            Self::Storm(args) => args.checked(),
            _ => Ok(()),
        }
    }

    /// Returns the output files.
    pub fn output(&self) -> &Output {
        self.run_args().1
    }

    /// Returns the cores, if it uses any, and the output files.
    fn run_args(&self) -> (Option<&RunArgs>, &Output) {
        fn both(run: &RunArgs) -> (Option<&RunArgs>, &Output) {
            (Some(run), &run.output)
        }
        match self {
            Self::Floor(args) => both(&args.work.run),
            Self::Burst(args) => both(&args.work.run),
            Self::Compare(args) => both(&args.run),
            Self::Fleet(args) => both(&args.run),
            Self::Stall(args) => both(&args.run),
            Self::Idle(args) => both(&args.run),
            Self::Storm(args) => both(&args.run),
            Self::Hostile(args) => both(&args.run),
            Self::Report(args) => (None, &args.output),
        }
    }

    fn target(&self) -> Option<&Target> {
        match self {
            Self::Burst(args) => Some(&args.target),
            Self::Fleet(args) => Some(&args.target),
            Self::Stall(args) => Some(&args.target),
            Self::Idle(args) => Some(&args.target),
            Self::Storm(args) => Some(&args.target),
            Self::Hostile(args) => Some(&args.target),
            Self::Floor(_) | Self::Compare(_) | Self::Report(_) => None,
        }
    }
}

impl FleetArgs {
    fn checked(&self) -> Result<()> {
        let too_many = || UsageError("--runners must be at most --machines".to_owned());
        ensure!(self.runners <= self.machines, too_many());
        let none = || UsageError("there are no clients: see --runners, --portals and --scripts".to_owned());
        ensure!(self.runners > 0 || self.portals > 0 || self.scripts > 0, none());
        Ok(())
    }
}

impl StormArgs {
    fn checked(&self) -> Result<()> {
        let is_possible = self.loss == Loss::Cut || self.target.serve.is_some();
        ensure!(is_possible, UsageError("--loss restart and kill need --serve".to_owned()));
        Ok(())
    }
}
