//! The reasons why `top` ends before the user quits.

use std::io;

use thiserror::Error;

use super::poll::LookError;
use crate::cli::endpoint::EndpointError;
use crate::client::RefusedError;

/// The reason why `top` ended before the user quit.
#[derive(Debug, Error)]
pub(crate) enum TopError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Look(#[from] LookError),
    #[error("standard output is not a terminal that can draw (TERM); use --once to print the figures once, as text")]
    NoTerminal,
    #[error("no rates: the two polls were answered by different nodes, or the server was restarted between them")]
    NoRates,
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl TopError {
    /// Returns the server's refusal, if it is one.
    pub(crate) fn refusal(&self) -> Option<&RefusedError> {
        if let Self::Look(error) = self { error.refusal() } else { None }
    }
}
